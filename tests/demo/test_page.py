"""The page, tab by tab, as a person uses it, in headless Chromium."""

import json
import re

import numpy as np
import onnxruntime
import pytest
from demo_page import NASTY, await_headline, card_rows, keep_screenshot, png, save
from onnx_folder import EMBED_DIM, write_encoder
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_searches_at_one_click_and_goes_on(tmp_path, model, emoji, visit, width, scheme):
    page = visit(model, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert str(EMBED_DIM) in page.inner_text("#intro") and "903" in page.inner_text("#intro")
    example = page.locator("#examples .card").first
    row = int(example.get_attribute("data-row"))
    example.click()
    await_headline(page, f"Nearest to {emoji.gallery.title(row)}")
    first = card_rows(page)
    assert len(first) == 12 and row not in first
    assert page.locator("#results .similarity").count() == 12
    assert page.locator("#results img").evaluate_all("all => all.every(img => img.alt)")

    third = page.locator("#results .card").nth(2)
    third.focus()
    page.keyboard.press("Enter")
    await_headline(page, f"Nearest to {emoji.gallery.title(first[2])}")
    assert first[2] not in card_rows(page)

    page.get_by_label("Noto Emoji", exact=True).check()
    page.locator("#status p", has_text=re.compile("12 of 30[01] pictures")).wait_for()
    assert {emoji.gallery.value(row, "Set") for row in card_rows(page)} == {"Noto Emoji"}

    pixels = np.asarray(Image.open(keep_screenshot(page, tmp_path, f"retrieve-{scheme}")).convert("L"))
    assert (np.median(pixels) < 80) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_role("tab", name="Teach it").click()
    page.locator("#first-lesson").click()
    page.locator("#reasons .card").first.wait_for()
    keep_screenshot(page, tmp_path, f"teach-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_box_drawn_on_the_query_is_searched_alone(tmp_path, model, colours, visit):
    picture = Image.new("RGB", (60, 60), "blue")
    picture.paste("red", (0, 0, 30, 60))
    picture.save(tmp_path / "both.png")
    page = visit(model, colours)
    page.locator("#query input[type=file]").set_input_files(tmp_path / "both.png")
    await_headline(page, "Nearest to your picture")
    box = page.locator("#query img").bounding_box()
    side = min(box["width"], box["height"])
    left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
    page.mouse.move(left + 0.1 * side, top + 0.2 * side)
    page.mouse.down()
    page.mouse.move(left + 0.4 * side, top + 0.8 * side, steps=3)
    assert page.locator("#part-box").count() == 1
    page.mouse.up()
    await_headline(page, "Nearest to the part in the box")
    assert page.locator("#part-box").count() == 0 and card_rows(page)[0] in (0, 1)
    keep_screenshot(page, tmp_path, "part")
    page.get_by_role("button", name="The whole picture again").click()
    await_headline(page, "Nearest to your picture")


def test_takes_pastes(model, emoji, visit):
    page = visit(model)
    page.evaluate(
        """async () => {
            const canvas = new OffscreenCanvas(40, 40);
            canvas.getContext('2d').fillRect(0, 0, 40, 40);
            const item = new ClipboardItem({'image/png': await canvas.convertToBlob()});
            navigator.clipboard.read = async () => [item];
        }"""
    )
    page.locator("#query").get_by_label("clipboard").click()
    await_headline(page, "Nearest to your picture")


def test_takes_a_picture_by_webcam(model, emoji, visit):
    page = visit(model)
    page.locator("#query").get_by_label("Capture from camera").click()
    page.locator("#query").get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#query video')?.videoWidth > 0")
    page.locator("#query").get_by_label("capture photo").click()
    await_headline(page, "Nearest to your picture")


def test_takes_uploads_and_explains_bad_ones(tmp_path, model, visit):
    page = visit(model)
    upload = page.locator("#query input[type=file]")
    good, bad = save(tmp_path, png("red")), tmp_path / "broken.png"
    bad.write_bytes(png("red")[:45])
    upload.set_input_files(good)
    await_headline(page, "Nearest to your picture")
    assert len(card_rows(page)) == 12
    page.locator("#query").get_by_label("Remove Image").click()
    await_headline(page, "A look into the gallery")
    page.locator("#query input[type=file]").set_input_files(bad)
    await_headline(page, "This picture cannot be read")
    page.locator("#status p", has_text="broken.png: truncated or damaged").wait_for()
    assert card_rows(page) == []


def test_shows_names_as_they_are(model, colours, visit):
    page = visit(model, colours)
    names = page.locator("#results .name").all_inner_texts()
    assert names == ["Red", NASTY, "Image 2"]
    assert page.locator("#injected").count() == 0
    assert page.get_by_label("Warm", exact=True).count() == 1


def test_compares_two_variants_side_by_side(tmp_path, model, colours, visit):
    other = write_encoder(tmp_path / "other")
    (other / "onnx" / "model.onnx").rename(other / "onnx" / "model_quantized.onnx")
    page = visit(model, colours, compare=[f"{other}@int8"])
    page.locator("#examples .card").first.click()
    await_headline(page, "Nearest to")
    page.locator("#compare input").click()
    page.get_by_role("option", name="other@int8").click()
    page.locator(".sides section").nth(1).wait_for()
    assert page.locator(".sides h3").all_inner_texts() == ["patches", "other@int8"]
    assert "2 of 2 pictures are found by both" in page.inner_text("#status")
    keep_screenshot(page, tmp_path, "compare")


def test_learns_classes_and_says_why(tmp_path, model, emoji, visit):
    page = visit(model, viewport={"width": 1280, "height": 1000})
    page.get_by_role("tab", name="Teach it").click()
    assert "Nothing is taught yet" in page.inner_text("#taught")
    page.locator("#picks .card").first.click()
    page.locator(".toast-body", has_text="Name the class first").wait_for()

    page.get_by_label("1. Name a class", exact=True).fill("Hearts <b id=injected>")
    page.locator("#find input, #find textarea").press_sequentially("heart")
    page.locator("#picks .card[title*='heart']").first.wait_for()
    for number in range(3):
        page.locator("#picks .card").nth(number).click()
        page.locator("#taught .example").nth(number).wait_for()
    files = [save(tmp_path, png(colour), f"{colour}.png") for colour in ("black", "navy")]
    page.get_by_label("1. Name a class", exact=True).fill("Dark ones")
    page.locator("#class-pictures").locator("xpath=..").locator("input[type=file]").first.set_input_files(
        [*files, save(tmp_path, b"no picture", "notes.txt")]
    )
    page.locator(".toast-body", has_text="notes.txt: not an image").wait_for()
    page.locator("#taught .class").nth(1).wait_for()
    assert page.locator("#taught h3").all_inner_texts()[0].startswith("Hearts <b id=injected>")
    assert page.locator("#injected").count() == 0

    page.locator("#question input[type=file]").set_input_files(save(tmp_path, png("#000010"), "night.png"))
    await_headline(page, "Dark ones", "#answer")
    page.locator("#reasons h3", has_text="What spoke for “Dark ones”").wait_for()
    assert "Hearts <b id=injected>" in page.inner_text("#classes")
    for kind in ("Nearest class mean", "k-NN"):
        page.get_by_label(kind).check()
        page.locator("#answer p", has_text="class mean" if "mean" in kind else "k-NN").wait_for()

    page.locator("#taught .example").first.click()
    page.locator("#taught .class", has_text="Hearts").locator("h3 span", has_text="2").wait_for()
    page.locator("#taught .class", has_text="Hearts").get_by_role(
        "button", name="Remove the class Hearts"
    ).click()
    await_headline(page, "What is it?", "#answer")
    assert page.locator("#taught .class").count() == 1


def test_keeps_what_was_taught_as_a_file_and_as_onnx(tmp_path, model, visit):
    page = visit(model, accept_downloads=True)
    page.get_by_role("tab", name="Teach it").click()
    page.locator("#first-lesson").click()
    page.locator("#taught .class").nth(3).wait_for()
    page.get_by_role("button", name="Keep it").click()

    def download(button, suffix):
        with page.expect_download() as waiting:
            page.locator(button).click()
        page.locator(f"#kept a[download$='{suffix}']").first.wait_for()  # for those whose browser refuses
        assert waiting.value.suggested_filename.endswith(suffix)
        path = tmp_path / f"kept{suffix}"
        waiting.value.save_as(path)
        return path

    taught, graph = download("#save", ".safetensors"), download("#export", ".onnx")
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert names == ["People", "Animals & nature", "Travel & maps", "Objects"]

    second = visit(model, address=page.address)
    second.get_by_role("tab", name="Teach it").click()
    assert second.locator("#taught .class").count() == 0  # nothing of the first visitor
    second.get_by_role("button", name="Keep it").click()
    load = second.locator("#load").locator("xpath=..").locator("input[type=file]").first
    load.set_input_files(save(tmp_path, b"\x80\x04.", "foreign.safetensors"))
    second.locator(
        ".toast-body", has_text="foreign.safetensors: damaged, or not saved on this page"
    ).wait_for()
    load.set_input_files(taught)
    second.locator("#taught .class").nth(3).wait_for()
    assert second.locator("#taught .example").count() == 20


def test_a_reload_warns_where_something_taught_is_not_saved(model, emoji, visit):
    page, asked = visit(model, accept_downloads=True), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))

    def reload():
        asked.clear()
        page.reload()
        page.get_by_role("tab", name="Teach it").click()
        return asked == ["beforeunload"]

    page.get_by_role("tab", name="Teach it").click()
    page.locator("#first-lesson").click()
    page.locator("#taught .measured").wait_for()
    assert "further pictures right" in page.inner_text("#taught .measured")
    assert page.locator("#ask-examples .card").count() == 8
    assert not reload()  # the lesson is at hand again
    for number in range(2):
        page.get_by_label("1. Name a class", exact=True).fill("Mine")
        page.locator("#picks .card").nth(number).click()
        page.locator("#taught .example").nth(number).wait_for()
    page.get_by_role("button", name="Keep it").click()
    with page.expect_download():
        page.locator("#save").click()
    assert not reload() and page.locator("#taught .class").count() == 0
    page.get_by_label("1. Name a class", exact=True).fill("Mine")
    page.locator("#picks .card").first.click()
    page.locator("#taught .example").first.wait_for()
    assert reload()


def test_draws_how_many_examples_are_enough(tmp_path, model, visit):
    page = visit(model)
    page.get_by_role("tab", name="Teach it").click()
    page.get_by_role("button", name="How many examples are enough?").click()
    page.locator("#measure").click()
    page.locator("#curve-plot svg.curve").wait_for()
    assert "chance: 16.7 %" in page.inner_text("#curve-plot .legend")  # of six categories
    assert (
        page.locator("#curve-plot polyline").count() == 4 and page.locator("#curve-plot circle").count() == 15
    )
    # The lines lie within the drawing, and the drawing is what there is.
    plot, svg = (
        page.locator("#curve-plot").bounding_box(),
        page.locator("#curve-plot svg.curve").bounding_box(),
    )
    assert svg["width"] > 0.95 * plot["width"] and svg["height"] > 0.7 * plot["height"]
    keep_screenshot(page, tmp_path, "curve")


def test_the_map_shows_pictures_and_the_neighbours_of_one(tmp_path, model, emoji, visit):
    page = visit(model, viewport={"width": 1280, "height": 900})
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#map .dot").nth(902).wait_for(timeout=60_000)
    assert page.locator("#map .legend li").count() == 6
    dot = page.locator("#map .dot[data-row='450']")
    dot.hover(force=True)
    page.locator("#map-hint img").wait_for()
    under = page.locator("#map-hint").inner_text()
    assert under in {emoji.gallery.title(row) for row in range(903)}
    page.wait_for_function("document.querySelector('#map-hint img').naturalWidth > 0")
    page.locator("#inside-examples .card").nth(6).click()
    page.locator("#inside-status h2", has_text="Where its look-alikes are").wait_for()
    assert page.locator("#marks img").count() == 12
    page.wait_for_function("[...document.querySelectorAll('#marks img')].every(img => img.naturalWidth)")
    keep_screenshot(page, tmp_path, "inside")


def test_shows_what_the_last_block_looks_at(tmp_path, demo_cache, visit):
    page = visit("massl_vitn4.cifar10", viewport={"width": 1280, "height": 900})
    page.get_by_role("tab", name="Look inside").click()
    page.locator("#inside-examples .card").nth(1).click()
    page.locator("#attention figure").nth(4).wait_for(timeout=60_000)
    assert page.locator("#attention figcaption").all_inner_texts()[:2] == ["All heads", "Head 1"]
    keep_screenshot(page, tmp_path, "attention")
