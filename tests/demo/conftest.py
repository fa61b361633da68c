"""Fixtures of the demo's tests: a model, galleries, servers, and pages in a real browser."""

import os

import gradio
import pytest
from demo_page import NASTY, png, write_gallery
from onnx_folder import write_encoder

from memssl_keras.demo.app import launch
from memssl_keras.demo.search import load

CHROMIUM = "/usr/bin/chromium"
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",  # a webcam of a moving test picture, allowed without asking
    "--use-fake-device-for-media-stream",
]


@pytest.fixture(scope="session")
def demo_cache(tmp_path_factory):
    """Vectors of galleries go where the test run can be forgotten, also from processes that a test starts."""
    before, folder = os.environ.get("MEMSSL_CACHE"), tmp_path_factory.mktemp("demo-cache")
    os.environ["MEMSSL_CACHE"] = str(folder)
    yield folder / "demo"
    os.environ.pop("MEMSSL_CACHE")
    if before is not None:
        os.environ["MEMSSL_CACHE"] = before


@pytest.fixture(scope="session")
def model(tmp_path_factory, demo_cache):
    return write_encoder(tmp_path_factory.mktemp("models") / "patches")


@pytest.fixture(scope="session")
def emoji(model):
    return load(model)


@pytest.fixture
def colours(tmp_path):
    return write_gallery(
        tmp_path / "colours.parquet",
        [png(colour) for colour in ("red", "darkred", "blue")],
        name=["Red", NASTY, None],
        vendor=["Ann", "Ann", "Bob"],
        category=["Warm", "Warm", "Cold"],
    )


@pytest.fixture(scope="module")  # while it is open, its event loop runs in this thread
def browser():
    if not os.path.exists(CHROMIUM):
        message = f"the page is tested in {CHROMIUM}, which is not installed"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def serve():
    """Serve a page without a browser; returns its address."""

    def start(*arguments, **options):
        _, address, _ = launch(
            *arguments, port=None, open_browser=False, prevent_thread_lock=True, quiet=True, **options
        )
        return address

    yield start
    gradio.close_all()


@pytest.fixture
def visit(browser, serve):
    """Open a page of `launch(...)`; an error in the browser or a request to elsewhere fails the test."""
    pages, wrong = [], []

    def open_page(model, gallery=None, compare=(), address=None, **options):
        address = address or serve(model, gallery, compare=compare)
        page = browser.new_page(**options)
        page.address = address
        pages.append(page)
        page.set_default_timeout(20_000)
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or wrong.append(request.url),
        )
        page.goto(address)
        page.locator("#results .card").first.wait_for()
        page.wait_for_function("document.querySelector('#results img').complete")
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not wrong
