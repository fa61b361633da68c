"""The map and the box on the query, by keyboard alone, in headless Chromium."""

import re

import pytest
from demo_page import await_headline, card_rows, keep_screenshot
from PIL import Image

pytestmark = pytest.mark.slow


def focused(page):
    return page.evaluate("document.activeElement.dataset.row ?? document.activeElement.id")


def place(page, row):
    return page.locator(f"#map .dot[data-row='{row}']").evaluate(
        "dot => [parseFloat(dot.style.left), parseFloat(dot.style.top)]"
    )


def test_arrow_keys_go_over_the_map_and_enter_finds(tmp_path, model, emoji, visit):
    page = visit(model, viewport={"width": 1280, "height": 900})
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#map .dot").nth(902).wait_for(timeout=60_000)
    assert page.locator("#map .dot[tabindex='0']").count() == 1
    page.locator("#inside-examples .card").last.focus()
    page.keyboard.press("Tab")
    at = [focused(page)]
    assert at[0] == page.locator("#map .dot").first.get_attribute("data-row")
    page.locator("#map-hint img").wait_for()
    assert page.inner_text("#map-hint") == emoji.gallery.title(int(at[0]))
    for key, axis, sign in (
        ("ArrowRight", 0, 1),
        ("ArrowDown", 1, 1),
        ("ArrowLeft", 0, -1),
        ("ArrowUp", 1, -1),
    ):
        before = place(page, at[-1])
        page.keyboard.press(key)
        at.append(focused(page))
        if at[-1] != at[-2]:  # at an edge there is nothing further that way
            assert sign * (place(page, at[-1])[axis] - before[axis]) > 0
            assert page.inner_text("#map-hint") == emoji.gallery.title(int(at[-1]))
    assert len(set(at)) > 2
    keep_screenshot(page, tmp_path, "map-keyboard")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert focused(page) == at[-1]  # where it was left
    page.keyboard.press("Enter")
    await_headline(page, "Where its look-alikes are", "#inside-status")
    page.keyboard.press("Escape")
    assert page.locator("#map-hint").is_hidden()


PLACED = """() => {
  const [image, box] = ["#query img", "#part-box"].map((one) => document.querySelector(one).getBoundingClientRect());
  return Math.abs(box.x - image.x - (image.width - Math.min(image.width, image.height)) / 2) < 2;
}"""


def test_a_box_is_placed_with_the_keys(tmp_path, model, colours, visit):
    picture = Image.new("RGB", (60, 60), "blue")
    picture.paste("red", (0, 0, 20, 60))
    picture.save(tmp_path / "both.png")
    page = visit(model, colours)
    button = page.get_by_role("button", name="place one with the arrow keys")
    assert button.is_hidden()  # there is nothing to place it on
    page.locator("#query input[type=file]").set_input_files(tmp_path / "both.png")
    await_headline(page, "Nearest to your picture")
    button.focus()
    page.keyboard.press("Enter")
    box = page.locator("#part-box")
    assert focused(page) == "part-box"
    assert box.inner_text() == "From 25 to 75 percent across, from 25 to 75 percent down"
    for key in ["ArrowLeft"] * 7 + ["Shift+ArrowLeft"] * 4 + ["ArrowUp", "Shift+ArrowDown"]:
        page.keyboard.press(key)
    assert box.inner_text() == "From 0 to 30 percent across, from 20 to 75 percent down"
    page.wait_for_function(PLACED)  # the page lays its pictures out once more when they have loaded
    image, drawn = page.locator("#query img").bounding_box(), box.bounding_box()
    side = min(image["width"], image["height"])
    assert abs(drawn["x"] - image["x"] - (image["width"] - side) / 2) < 2
    assert abs(drawn["width"] - 0.3 * side) < 3 and abs(drawn["height"] - 0.55 * side) < 3
    keep_screenshot(page, tmp_path, "part-keyboard")
    page.keyboard.press("Escape")
    assert box.count() == 0 and "keys" in page.evaluate("Object.keys(document.activeElement.dataset)")
    page.keyboard.press("Enter")
    for key in ["ArrowLeft"] * 5 + ["Shift+ArrowLeft"] * 4:
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    await_headline(page, "Nearest to the part in the box")
    assert box.count() == 0 and card_rows(page)[0] in (0, 1)
    page.wait_for_function("document.activeElement.textContent == 'The whole picture again'")
    page.keyboard.press("Enter")
    await_headline(page, "Nearest to your picture")


def test_leaving_the_box_takes_it_away(tmp_path, model, colours, visit):
    page = visit(model, colours)
    page.locator("#examples .card").first.click()
    await_headline(page, "Nearest to")
    page.get_by_role("button", name="place one with the arrow keys").click()
    for _ in range(30):
        page.keyboard.press("Shift+ArrowLeft")
    shape = [int(number) for number in re.findall(r"\d+", page.inner_text("#part-box"))]
    assert shape == [25, 30, 25, 75]  # never empty
    page.keyboard.press("Tab")
    assert page.locator("#part-box").count() == 0
