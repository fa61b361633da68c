"""The page and the Node script: the same vectors as Python's, and a page that a person can use."""

import functools
import http.server
import json
import shutil
import subprocess
import threading

import numpy as np
import pytest
from other_libraries import node_modules
from PIL import Image
from small_models import pictures

from memssl_keras import OnnxEncoder, from_pretrained
from memssl_keras.export.web import export_web

pytestmark = pytest.mark.slow

MODEL = "massl_vitn4.cifar10"
SIZES = [(32, 32), (64, 64), (300, 200), (37, 411)]


@pytest.fixture(scope="module")
def runtime():
    package = node_modules() / "node_modules" / "onnxruntime-web"
    if not package.is_dir():
        pytest.skip("onnxruntime-web is not in .node; `make test` puts it there")
    return package


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("images"), []
    for i, size in enumerate(SIZES):
        paths.append(folder / f"{i} & <b>.png")
        Image.fromarray(pictures(1, 80, seed=i)[0]).resize(size, Image.Resampling.BICUBIC).save(paths[-1])
    return paths


@pytest.fixture(scope="module")
def page(images, runtime, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "page"
    gallery = [*images, b"broken", *pictures(20, seed=9)]
    names = [path.name for path in images] + ["bad", *(f"picture {i}" for i in range(20))]
    columns = {"place": [f"of {name}" for name in names]}
    settings = {"names": names, "columns": columns, "runtime": runtime, "open_encoder": from_pretrained}
    with pytest.warns(UserWarning, match="1 of 25 images cannot be read and are skipped: "):
        assert export_web(MODEL, folder, gallery, **settings) == 24
    return folder


@pytest.fixture(scope="module")
def address(page):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=page))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser_page(address):
    if not (chromium := shutil.which("chromium")):
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": 760})
        tab.said = []
        tab.on("console", lambda message: tab.said.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.goto(address)
        tab.wait_for_selector("#found button", timeout=60_000)
        yield tab
        browser.close()


def test_columns_stay_with_their_pictures(page):
    gallery = json.loads((page / "gallery.json").read_text(encoding="utf-8"))
    assert "bad" not in gallery["names"]
    assert gallery["about"]["place"] == [f"of {name}" for name in gallery["names"]]


def expected(images):
    return OnnxEncoder.from_pretrained(MODEL).embed(images)


def test_chromium_gives_the_vectors_of_python(browser_page, images):
    ask = """async bytes => {
        const { embed } = await import('./app.js');
        return Array.from(await embed(new Blob([new Uint8Array(bytes)])));
    }"""
    for path, vector in zip(images, expected(images), strict=True):
        theirs = browser_page.evaluate(ask, list(path.read_bytes()))
        np.testing.assert_allclose(theirs, vector, atol=1e-4)


def test_node_gives_the_vectors_of_python(page, images, runtime):
    modules = page / "node_modules"
    if not modules.exists():
        modules.symlink_to(runtime.parent)
    command = ["node", page / "embed.mjs", *images]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    rows = [json.loads(line) for line in said.splitlines()]
    assert [row["image"] for row in rows] == [str(path) for path in images]
    np.testing.assert_allclose([row["embedding"] for row in rows], expected(images), atol=1e-4)


def test_a_person_searches(browser_page, images, tmp_path_factory):
    browser_page.set_input_files("#file", images[2])
    browser_page.wait_for_function("document.querySelector('#status').textContent.includes('ms to see it')")
    first = browser_page.locator("#found button").first
    assert first.locator("span").text_content() == images[2].name  # it is in the gallery, and no markup
    assert first.locator("small").text_content() == "1.000"
    second = browser_page.locator("#found button").nth(1)
    name = second.locator("span").text_content()
    second.click()
    assert browser_page.locator("#status").text_content() == f"Nearest to {name}"
    assert browser_page.locator("#found button").first.locator("span").text_content() == name
    browser_page.screenshot(path=tmp_path_factory.mktemp("screenshots") / "page.png", full_page=True)


def test_what_is_no_picture_is_said_in_words(browser_page):
    browser_page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello"})
    browser_page.wait_for_selector("#status.error")
    assert (
        browser_page.locator("#status").text_content()
        == "notes.png is not a picture that this browser can read"
    )
    assert browser_page.said == []


def test_bad_arguments_leave_nothing(tmp_path, runtime, page):
    def refused(message, *arguments, **settings):
        with pytest.raises(ValueError, match=message):
            chosen = settings.pop("runtime", runtime)
            export_web(MODEL, *arguments, runtime=chosen, open_encoder=from_pretrained, **settings)

    refused("is not empty; expected a new folder", page, pictures(2))
    refused("images: got 0; expected 1 to 20,000", tmp_path / "new", [])
    refused("variant='int4': expected one of", tmp_path / "new", pictures(2), variant="int4")
    refused("names: got 1 for 2 images", tmp_path / "new", pictures(2), names=["a"])
    refused("none of them can be read", tmp_path / "new", [b"broken"])
    (tmp_path / "package" / "dist").mkdir(parents=True)
    refused("is not in its dist", tmp_path / "new", pictures(2), runtime=tmp_path / "package")
    assert [path.name for path in tmp_path.iterdir()] == ["package"]
