"""Fixtures of the demo's tests: a model, galleries, servers, and pages in a real browser."""

import os

import gradio
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from demo_page import NASTY, png, write_gallery
from onnx_folder import write_encoder

from memssl_keras.demo.app import launch
from memssl_keras.demo.gallery import BUNDLED
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
def hands(tmp_path_factory):
    """A gallery of 903 pictures: every other emoji of the bundled gallery in its three hands, without ids."""
    table = pq.read_table(BUNDLED).filter(pc.field("style") == "colour")
    names = pc.unique(table["name"]).to_pylist()
    chosen = [names[step * len(names) // 301] for step in range(301)]
    places = {name: place for place, name in enumerate(chosen)}
    table = table.filter(pc.is_in(table["name"], pa.array(chosen)))
    order = sorted(
        range(len(table)),
        key=lambda row: (table["category"][row].as_py(), places[table["name"][row].as_py()]),
    )
    path = tmp_path_factory.mktemp("hands") / "hands.parquet"
    pq.write_table(table.take(order).select(["image", "name", "set", "category"]), path)
    return path


@pytest.fixture(scope="session")
def emoji(model, hands):
    return load(model, hands)


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
def serve(hands):
    """Serve a page without a browser, of the small gallery by default; returns its address."""

    def start(model, gallery=None, **options):
        _, address, _ = launch(
            model,
            gallery or hands,
            port=None,
            open_browser=False,
            prevent_thread_lock=True,
            quiet=True,
            **options,
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
