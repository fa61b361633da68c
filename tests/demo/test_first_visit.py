"""What a first visitor stumbled over, each by behaviour: no match that looks like one, no step without a word."""

import re
import time

import numpy as np
import pytest
from demo_page import await_headline, keep_screenshot, save, write_gallery
from PIL import Image

from memssl_keras.demo.inside import Inside
from memssl_keras.demo.models import DEFAULT, PHOTOGRAPHS
from memssl_keras.demo.naming import Namer
from memssl_keras.demo.retrieve import IconPage, Page
from memssl_keras.demo.search import load


def photograph(seed, size=(96, 64)):
    """Smooth colours with the noise of a sensor: no drawing by any measure."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(120, 60, (10, 10, 3)).clip(0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), float)
    return (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """24 photographs in 12 nearly equal pairs, as a camera names them."""
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(24):
        pixels = photograph(number // 2).astype(int) + number % 2
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"DSC_{21 + number:04d}.jpg")
    return folder


def test_an_emoji_is_the_same_by_other_hands(demo_cache):
    icons = load()
    row = icons.gallery.icons.ids.index("noto:horse-face")
    thing = Namer(icons).name(icons.gallery.read(row)).things[0]
    found = {icons.gallery.icons.ids[row] for row in thing.rows}
    assert found == {f"{prefix}:horse-face" for prefix in ("noto", "twemoji", "fluent-emoji-flat")}


def test_ones_own_photograph_is_no_match_and_the_page_says_why(demo_cache, tmp_path):
    path = tmp_path / "own.png"
    Image.fromarray(photograph(99, (300, 200))).save(path)
    said, _ = IconPage(load()).look(path)
    assert "I do not know this icon" in said
    assert "Your picture looks like a photograph; the gallery holds drawings" in said


def test_a_gallery_says_where_nothing_in_it_is_close(demo_cache, photographs, tmp_path):
    page = Page(load(PHOTOGRAPHS, photographs))
    near = tmp_path / "near.png"
    Image.fromarray(photograph(3)[1:, 1:]).save(near)
    said, shown = page.look(near)
    assert "No close match" not in said and "DSC" in shown
    drawing = Image.new("RGB", (64, 64), "white")
    drawing.paste("black", (10, 30, 54, 34))
    drawing.save(tmp_path / "drawing.png")
    said, shown = page.look(tmp_path / "drawing.png")
    lowest = re.search(
        r"No close match:</b> the nearest has similarity (-?[\d.]+); .* five neighbours of ([\d.]+) or more",
        said,
    )
    assert float(lowest[1]) < float(lowest[2]) and "DSC" in shown
    assert "Your picture looks like a drawing; the gallery holds photographs" in said
    few = write_gallery(tmp_path / "few.parquet", [(photographs / "DSC_0021.jpg").read_bytes()] * 3)
    assert "No close match" not in Page(load(PHOTOGRAPHS, few)).look(tmp_path / "drawing.png")[0]


def test_a_map_that_takes_its_time_says_so(model, hands, monkeypatch):
    monkeypatch.setattr("memssl_keras.demo.inside._TICK", 0.02)
    inside = Inside(load(model, hands))

    def slowly():
        time.sleep(0.2)
        return "the map"

    monkeypatch.setattr(inside, "picture", slowly)
    *waiting, last = inside.drawing()
    assert last == "the map" and len(waiting) >= 2
    assert all("The map of 903 pictures is being drawn, for 0 s now" in one for one in waiting)

    def fail():
        raise TimeoutError("of its own")

    monkeypatch.setattr(inside, "picture", fail)
    with pytest.raises(TimeoutError, match="of its own"):
        list(inside.drawing())


def test_models_are_compared_with_a_warning_about_their_scales(model, colours, tmp_path):
    page = Page(load(model, colours), {"another": lambda: load(model, colours)})
    path = tmp_path / "red.png"
    Image.new("RGB", (16, 16), "red").save(path)
    said, _ = page.look(path, None, 2, "another")
    assert "similarities of one model are on another scale than those of the other" in said


@pytest.mark.slow
def test_photographs_fill_their_cards_and_names_break_before_their_ending(tmp_path, photographs, visit):
    page = visit(PHOTOGRAPHS, photographs, viewport={"width": 400, "height": 900})
    card = page.locator("#results .card").first
    outer, image = card.bounding_box(), card.locator("img").bounding_box()
    assert image["width"] > 0.97 * (outer["width"] - 2)
    assert card.locator("img").evaluate("img => getComputedStyle(img).objectFit") == "cover"
    lines = card.locator(".name").evaluate(
        """name => { const range = document.createRange(); range.selectNodeContents(name.lastChild);
        return [name.lastChild.textContent, range.getClientRects().length]; }"""
    )
    assert lines == [".jpg", 1]
    assert PHOTOGRAPHS in page.inner_text("#intro") and "are photographs" not in page.inner_text("#intro h1")
    keep_screenshot(page, tmp_path, "photographs")


@pytest.mark.slow
def test_the_steps_of_teaching_are_numbered_and_nothing_is_refused_in_silence(tmp_path, model, emoji, visit):
    page = visit(model)
    page.get_by_role("tab", name="Teach it").click()
    for step, place in (("1. ", "#class-name"), ("2. ", "#class-pictures"), ("3. ", "#question")):
        assert step in page.locator(place).inner_text()
    colours = [
        page.locator(button).evaluate("button => getComputedStyle(button).backgroundColor")
        for button in ("#class-pictures", "#first-lesson")
    ]
    assert colours[0] != colours[1] and "primary" in page.locator("#class-pictures").get_attribute("class")
    page.locator("#class-name input, #class-name textarea").fill("   ")
    page.locator("#picks .card").first.click()
    page.locator(".toast-body", has_text="Name the class first, then add its pictures").wait_for()
    page.locator("#question input[type=file]").set_input_files(save(tmp_path, b"words", "notes.txt"))
    await_said(page, "notes.txt", "#answer")


def await_said(page, text, within):
    page.locator(f"{within}, .toast-body").filter(has_text=text).first.wait_for()


@pytest.mark.slow
def test_what_is_no_vit_shows_no_attention_and_no_memory(model, colours, visit):
    page = visit(model, colours)
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#map .dot").nth(2).wait_for()
    page.locator("#inside-examples .card").first.click()
    await_headline(page, "Where its look-alikes are", "#inside-status")
    assert page.locator("#attention img").count() == 0 and page.inner_text("#attention").strip() == ""
    assert "Covered" not in page.content()


def test_the_bundled_gallery_needs_no_wait_for_its_map(demo_cache, monkeypatch):
    monkeypatch.setattr("memssl_keras.demo.inside.lay_out", None)  # nothing is laid out
    monkeypatch.setattr("memssl_keras.demo.inside._TICK", 60.0)
    (drawn,) = Inside(load(DEFAULT)).drawing()
    assert drawn.count('class="dot"') == 2000
