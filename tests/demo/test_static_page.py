"""The static page that names icons, as a person uses it, and its vectors beside those of Python."""

import base64
import functools
import http.server
import json
import subprocess
import threading

import numpy as np
import pytest
from demo_page import keep_screenshot, save
from demo_screens import drag, screenshots
from other_libraries import node_modules
from PIL import Image
from typer.testing import CliRunner

from memssl_keras import OnnxEncoder
from memssl_keras.cli import app as cli
from memssl_keras.demo import examples, static_page
from memssl_keras.demo.gallery import open_gallery
from memssl_keras.demo.naming import THRESHOLDS
from memssl_keras.demo.static_page import SETS, choose_icons, export_icons
from memssl_keras.export import web_model
from memssl_keras.images.trim import trimmed

MODEL = "massl_resnet8.icons"
READY = "document.querySelector('#status h2').textContent == 'Ready'"


@pytest.fixture(scope="module")
def gallery():
    return open_gallery()


@pytest.fixture(scope="module")
def runtime():
    package = node_modules() / "node_modules" / "onnxruntime-web"
    if not package.is_dir():
        pytest.skip("onnxruntime-web is not in .node; `make test` puts it there")
    return package


@pytest.fixture(scope="module")
def folders(runtime, tmp_path_factory):
    """Two pages: `int8` as the command writes it, but for where the runtime comes from, and `fp32`."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web_model, "_fetch_runtime", lambda scratch: runtime)
        done = CliRunner().invoke(
            cli, ["export", MODEL, "--web", str(folder / "int8")], env={"COLUMNS": "200"}
        )
    assert done.exit_code == 0 and "icons to name" in done.output, done.output
    export_icons(MODEL, folder / "fp32", variant="fp32", runtime=runtime)
    return folder


@pytest.fixture(scope="module")
def address(folders):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folders))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture
def visit_static(browser, address):
    """Open a page; an error in the browser or a request to elsewhere fails the test."""
    pages, wrong = [], []

    def open_page(variant="int8", **options):
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(20_000)
        page.on(
            "console", lambda message: message.type in ("error", "warning") and wrong.append(message.text)
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or wrong.append(request.url),
        )
        page.goto(f"{address}{variant}/")
        page.wait_for_function(READY, timeout=60_000)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not wrong


def some_pictures(gallery):
    """Icons as they are, drawn on a ground that hardly differs, off centre, in colour, all of one colour, and noise."""
    rng = np.random.default_rng(0)
    pictures = [gallery.read(row) for row in (0, 2500, 7000, 11000)]
    wide = Image.new("RGB", (231, 90), (240, 241, 243))
    wide.paste(Image.fromarray(pictures[1]).resize((31, 31)), (180, 7))
    pictures.append(np.asarray(wide))
    pictures.append(np.full((7, 19, 3), 77, np.uint8))
    pictures.append(rng.integers(0, 256, (33, 50, 3), np.uint8))
    faint = np.full((40, 30, 3), 200, np.uint8)
    faint[5:12, 3:25], faint[20:21, 8:9] = 225, 224  # the second differs by as much as the ground may
    pictures.append(faint)
    uneven = np.zeros((21, 20, 3), np.uint8)
    uneven[0, 0], uneven[-1, -1] = 255, (9, 8, 7)
    pictures.append(uneven)
    return pictures


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_the_page_knows_nothing_below_the_threshold_of_its_variant(variant):
    model = "massl_resnet14.icons"
    settings = static_page._look(model, variant).settings
    assert settings["threshold"] == THRESHOLDS[model if variant == "fp32" else f"{model}@int8"]
    assert THRESHOLDS[model] != THRESHOLDS[f"{model}@int8"]


def test_the_icons_are_the_things_that_most_sets_draw(gallery):
    rows = choose_icons(gallery)
    assert rows == choose_icons(gallery) and 1950 <= len(rows) <= 2000 and len(set(rows)) == len(rows)
    ids, groups = ([part[row] for row in rows] for part in gallery.icons)
    prefixes = [name.split(":")[0] for name in ids]
    assert set(prefixes) == set(SETS)
    assert len(set(zip(prefixes, groups, strict=True))) == len(rows)  # of each set one drawing of a thing
    things = list(dict.fromkeys(groups))
    counts = [groups.count(thing) for thing in things]
    assert counts == sorted(counts, reverse=True) and counts[0] == len(SETS)
    whole = {
        thing: {
            name.split(":")[0]
            for name, group in zip(*gallery.icons, strict=True)
            if group == thing and name.split(":")[0] in SETS
        }
        for thing in things[::50]
    }
    assert all(len(sets) == groups.count(thing) for thing, sets in whole.items())
    with pytest.raises(ValueError, match="gallery: its icons have no ids"):
        plain = open_gallery()
        plain.icons = None
        choose_icons(plain)


@pytest.mark.slow
def test_chromium_trims_as_python_does(gallery, visit_static):
    page = visit_static()
    trim = """async ([rgb, height, width, margin]) => {
        const { trimmed } = await import('./trim.mjs');
        const square = trimmed({ rgb: new Uint8Array(rgb), height, width }, margin);
        return [Array.from(square.rgb), square.height, square.width];
    }"""
    for picture in some_pictures(gallery):
        for margin in (0, 0.08, 0.1, 0.25):
            rgb, height, width = page.evaluate(trim, [picture.ravel().tolist(), *picture.shape[:2], margin])
            expected = np.asarray(trimmed(Image.fromarray(picture), margin))
            np.testing.assert_array_equal(np.reshape(rgb, (height, width, 3)), expected)


@pytest.mark.slow
@pytest.mark.numeric
def test_chromium_and_node_give_the_vectors_of_python(gallery, visit_static, folders, runtime, tmp_path):
    pictures = some_pictures(gallery)
    expected = OnnxEncoder.from_pretrained(MODEL).embed(pictures)
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(picture).save(files[-1])
    page = visit_static("fp32")
    ask = """async data => {
        const { embed } = await import('./app.js');
        return Array.from(await embed(await (await fetch('data:image/png;base64,' + data)).blob()));
    }"""
    for file, vector in zip(files, expected, strict=True):
        theirs = page.evaluate(ask, base64.b64encode(file.read_bytes()).decode())
        np.testing.assert_allclose(theirs, vector, atol=1e-4)  # as the page that searches is tested
    modules = folders / "fp32" / "node_modules"
    modules.symlink_to(runtime.parent)
    said = subprocess.run(
        ["node", folders / "fp32" / "embed.mjs", *files],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    theirs = [json.loads(line)["embedding"] for line in said.splitlines()]
    np.testing.assert_allclose(theirs, expected, atol=1e-4)


def ask_by_box(page, size, box):
    """Drag a box, and wait for its answer; returns the id of the first icon and whether the page knows it."""
    page.evaluate("document.querySelector('#status p').textContent = ''")
    drag(page, size, box)
    page.wait_for_function("document.querySelector('#status p').textContent != ''")
    known = page.inner_text("#status h2") != "I do not know this icon"
    return page.locator("#results .card").first.get_attribute("data-copy"), known


@pytest.mark.slow
def test_names_the_icons_of_screenshots(tmp_path, gallery, browser, visit_static, record_property):
    page, right, seconds = visit_static(viewport={"width": 1280, "height": 900}), 0, []
    for dark, rows, data, size, boxes in screenshots(browser, gallery, choose_icons(gallery)):
        page.set_input_files("#file", save(tmp_path, data, f"screen-{dark}.png"))
        page.wait_for_function("document.querySelector('#query img').naturalWidth == 320")
        for row, box in zip(rows, boxes, strict=True):
            found, known = ask_by_box(page, size, box)
            same = gallery.icons.groups[gallery.icons.ids.index(found)] == gallery.icons.groups[row]
            right += same and known
            seconds.append(page.inner_text("#status p"))
        keep_screenshot(page, tmp_path, f"static-{'dark' if dark else 'light'}")
    record_property("named of 10", right)
    assert right >= 8


@pytest.mark.slow
def test_guesses_at_icons_that_it_does_not_hold(tmp_path, gallery, browser, visit_static, record_property):
    """The screenshots of the demo's test, of the whole gallery, of whose things the page has about three quarters."""
    page = visit_static(viewport={"width": 1280, "height": 900})
    held = {gallery.icons.groups[row] for row in choose_icons(gallery)}
    right = misnamed = there = 0
    for dark, rows, data, size, boxes in screenshots(browser, gallery, range(len(gallery))):
        page.set_input_files("#file", save(tmp_path, data, f"whole-{dark}.png"))
        page.wait_for_function("document.querySelector('#query img').naturalWidth == 320")
        for row, box in zip(rows, boxes, strict=True):
            found, known = ask_by_box(page, size, box)
            thing = gallery.icons.groups[row]
            same = gallery.icons.groups[gallery.icons.ids.index(found)] == thing
            right, misnamed, there = right + same, misnamed + (known and not same), there + (thing in held)
    record_property("first of 10", right)
    record_property("things of 10 that the page holds", there)
    assert misnamed <= 2 and right >= there / 2


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_does_the_job_at_one_click(tmp_path, visit_static, width, scheme):
    page = visit_static(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert "out of 1,9" in page.inner_text("#lead") or "out of 2,000" in page.inner_text("#lead")
    page.locator(".example").first.click()
    page.locator("#status h2", has_text="palette").wait_for()
    assert page.locator("#boxed canvas").is_visible()
    assert "Lucide · ISC · similarity" in page.inner_text("#status p")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    page.locator("#status .copy").click()
    page.wait_for_function("window.copied == 'lucide:palette'")
    first = page.locator(".thing.first .card").evaluate_all("cards => cards.map((card) => card.dataset.copy)")
    assert {"lucide:palette", "tabler:palette", "ph:palette"} <= set(first)
    keep_screenshot(page, tmp_path, f"static-{scheme}-{width}")
    page.locator("#set").select_option("Tabler Icons")
    page.wait_for_function(
        "[...document.querySelectorAll('#results .card')].every(card => card.dataset.copy.startsWith('tabler:'))"
    )
    assert page.inner_text("#status h2") == "palette"
    page.get_by_role("button", name="The whole picture again").click()
    page.locator("#status h2", has_text="I do not know this icon").wait_for()
    assert "Drag a box around one icon" in page.inner_text("#status p")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.slow
def test_pastes_drops_refuses_and_goes_by_keys(tmp_path, visit_static):
    page = visit_static(viewport={"width": 1280, "height": 900})
    give = """([kind, name, type, data]) => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, {type}));
        const event = kind == 'paste' ? new ClipboardEvent(kind, {clipboardData: files, bubbles: true})
            : new DragEvent(kind, {dataTransfer: files, bubbles: true});
        document.querySelector('#results').dispatchEvent(event);
    }"""

    def data(number):
        return base64.b64encode(examples.EXAMPLES[number].file.read_bytes()).decode()

    page.evaluate(give, ["paste", "scribble.webp", "image/webp", data(2)])
    page.locator("#status h2", has_text="I do not know this icon").wait_for()
    assert "These are guesses" in page.inner_text("#status p")  # a scribble; the first guess is right
    assert "umbrella" in page.locator("#results .card").first.get_attribute("data-copy")
    page.evaluate(give, ["drop", "notes.txt", "text/plain", "bm90ZXM="])
    page.locator("#status.error h2", has_text="This picture cannot be read").wait_for()
    assert page.inner_text("#status p") == "notes.txt is not a picture that this browser can read"
    assert page.locator("#results .card").count() == 0
    page.evaluate(give, ["drop", "settings.webp", "image/webp", data(0)])
    page.locator("#status h2", has_text="I do not know this icon").wait_for()
    page.get_by_role("button", name="place one with the arrow keys").focus()
    page.keyboard.press("Enter")
    for key in ["ArrowLeft"] * 4 + ["Shift+ArrowLeft"] * 8 + ["ArrowDown"] * 5 + ["Shift+ArrowUp"] * 8:
        page.keyboard.press(key)
    assert page.inner_text("#part-box") == "From 5 to 15 percent across, from 50 to 60 percent down"
    page.keyboard.press("Enter")
    page.locator("#status h2", has_text="palette").wait_for()
    page.wait_for_function("document.activeElement.textContent == 'The whole picture again'")


def test_a_bundled_model_that_names_no_icons_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match="names no icons; expected massl_resnet14.icons or massl_resnet8.icons, or"
    ):
        export_icons("massl_vitn4.cifar10", tmp_path / "page")
    assert not any(tmp_path.iterdir())
