"""The demo: gallery, index, search, and the page itself in a real browser."""

import io
import os
import re
import socket
import subprocess
import sys

import gradio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx_folder import EMBED_DIM, write_encoder
from PIL import Image

from memssl_keras.demo.app import GALLERY, launch, load
from memssl_keras.demo.index import CosineIndex, digest, read_gallery
from memssl_keras.images import read_image

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
]
NASTY = '<b id=injected>{{name}} ${1 + 1}</b> & "it\'s"'


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_gallery(path, images, **columns):
    pq.write_table(pa.table({"image": images, **columns}), path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("models") / "patches")


@pytest.fixture(scope="module")
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


def rows_in(html):
    return [int(row) for row in re.findall(r'data-row="(\d+)"', html)]


def save(tmp_path, data):
    path = tmp_path / "query.png"
    path.write_bytes(data)
    return path


def test_the_bundled_gallery_is_complete():
    assert GALLERY.stat().st_size < 3_000_000
    table = pq.read_table(GALLERY).to_pydict()
    assert sorted(table) == ["category", "codepoint", "image", "name", "vendor"]
    styles = {}
    for codepoint, vendor in zip(table["codepoint"], table["vendor"], strict=True):
        styles.setdefault(codepoint, []).append(vendor)
    assert len(styles) == 301
    assert all(sorted(vendors) == ["Fluent", "Noto", "Twemoji"] for vendors in styles.values())
    assert len(set(table["category"])) == 7 and all(table["name"])
    licences = (GALLERY.parent / "LICENSES.md").read_text(encoding="utf-8")
    assert all(
        word in licences for word in ("Apache License 2.0", "creativecommons.org/licenses/by/4.0", "MIT")
    )


def test_datasets_reads_the_gallery_as_images(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset("parquet", data_files=str(GALLERY), split="train", cache_dir=str(tmp_path))
    assert isinstance(rows.features["image"], datasets.Image)
    assert rows[0]["image"].size == (64, 64)


def test_reads_a_gallery_without_the_optional_columns(tmp_path):
    structs = [{"bytes": png("red"), "path": None}, {"bytes": png("blue"), "path": None}]
    gallery = read_gallery(write_gallery(tmp_path / "plain.parquet", structs))
    assert len(gallery) == 2 and gallery.names == gallery.vendors == gallery.categories == ["", ""]
    assert gallery.digests[0] == digest(read_image(png("red"))) != gallery.digests[1]


def test_says_what_is_wrong_with_a_gallery(tmp_path, model):
    (tmp_path / "text.parquet").write_text("no table")
    pq.write_table(pa.table({"picture": [b"", b""], "name": ["a", "b"]}), tmp_path / "other.parquet")
    write_gallery(tmp_path / "empty.parquet", pa.array([], pa.binary()))
    write_gallery(tmp_path / "nothing.parquet", [png("red"), None])
    write_gallery(tmp_path / "damaged.parquet", [png("red"), png("red")[:45]])
    for name, message in [
        ("missing.parquet", "gallery: .*no such file"),
        ("text.parquet", "not a Parquet file"),
        ("other.parquet", "has the columns picture, name; expected a column image"),
        ("empty.parquet", "has no rows"),
        ("nothing.parquet", "row 1 of column image holds no bytes"),
        ("damaged.parquet", "row 1: truncated or damaged"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load(model, tmp_path / name)


def test_the_index_finds_the_most_similar_first():
    vectors = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = CosineIndex(vectors)
    rows, similarities = index.search(vectors[7], k=5)
    assert rows[0] == 7 and similarities[0] == pytest.approx(1)
    assert np.array_equal(rows, np.argsort(-(vectors @ vectors[7]))[:5])
    assert (np.diff(similarities) <= 0).all()
    allowed = np.arange(50) % 2 == 0
    rows, _ = index.search(vectors[7], k=100, allowed=allowed)
    assert len(rows) == 25 and (rows % 2 == 0).all()


def test_embeds_the_gallery_once_per_process(model, emoji):
    assert load(model) is emoji
    assert load(str(model), GALLERY) is emoji


def test_results_leave_the_query_itself_out(tmp_path, emoji):
    headline, results = emoji.search(save(tmp_path, emoji.gallery.images[300]), k=5)
    rows = rows_in(results)
    assert len(rows) == 5 and 300 not in rows
    assert emoji.gallery.names[300] in headline and "5 of 902 pictures" in headline
    assert len(re.findall(r"[\d.]+ ms", headline)) == 2
    vectors = emoji.index.vectors
    similarities = vectors @ vectors[300]
    similarities[300] = -1
    assert rows == np.argsort(-similarities, kind="stable")[:5].tolist()


def test_a_copy_in_another_file_format_is_the_same_picture(tmp_path, emoji):
    path = tmp_path / "copy.bmp"
    Image.fromarray(read_image(emoji.gallery.images[10])).save(path)
    assert 10 not in rows_in(emoji.search(path, k=48)[1])


def test_filters_restrict_and_combine(tmp_path, emoji):
    query = save(tmp_path, png("red"))
    rows = rows_in(emoji.search(query, 48, ["Noto", "Fluent"], ["Food & Drink"])[1])
    assert len(rows) == 48
    assert {emoji.gallery.vendors[row] for row in rows} == {"Noto", "Fluent"}
    assert {emoji.gallery.categories[row] for row in rows} == {"Food & Drink"}


def test_explains_when_filters_leave_nothing(tmp_path, model, colours):
    headline, results = load(model, colours).search(save(tmp_path, png("red")), 3, ["Bob"], ["Warm"])
    assert "No picture matches these filters" in headline and not results


def test_starts_with_a_look_into_the_gallery(emoji):
    headline, results = emoji.search(None)
    assert "bring your own" in headline and len(rows_in(results)) == 24


def test_explains_an_unreadable_picture(tmp_path, emoji):
    path = tmp_path / "notes.txt"
    path.write_text("no pixels")
    with pytest.warns(UserWarning, match="notes.txt: not an image"):  # a toast, where there is a page
        headline, results = emoji.search(path)
    assert "notes.txt: not an image" in headline and not results


def test_the_demo_loads_neither_torch_nor_keras(model):
    code = (
        "import sys\nfrom memssl_keras.demo.app import build_app\n"
        f"build_app({str(model)!r})\n"
        "print(sorted({'torch', 'keras', 'tensorflow', 'jax', 'onnx'} & sys.modules.keys()))\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip().splitlines()[-1] == "[]"


def test_names_a_taken_port(model):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port: got {port}"):
            launch(model, port=port, open_browser=False, prevent_thread_lock=True)


@pytest.fixture(scope="module")
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
def visit(browser):
    """Open a page of `launch(...)`; an error in the browser or a request to elsewhere fails the test."""
    pages, wrong = [], []

    def open_page(model, gallery=None, **options):
        _, address, _ = launch(
            model, gallery, port=None, open_browser=False, prevent_thread_lock=True, quiet=True
        )
        page = browser.new_page(**options)
        pages.append(page)
        page.set_default_timeout(15_000)
        page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "data:", "blob:")) or wrong.append(request.url),
        )
        page.goto(address, wait_until="networkidle")
        return page

    yield open_page
    for page in pages:
        page.close()
    gradio.close_all()
    assert not wrong


def card_rows(page):
    return page.locator("#results .card").evaluate_all("cards => cards.map(card => Number(card.dataset.row))")


def await_headline(page, text):
    page.locator("#status h2", has_text=text).wait_for()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (400, "dark")])
def test_the_page_searches_at_one_click_and_goes_on(tmp_path, model, emoji, visit, width, scheme):
    page = visit(model, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert str(EMBED_DIM) in page.inner_text("#intro") and "903" in page.inner_text("#intro")
    example = page.locator("#examples .card").first
    row = int(example.get_attribute("data-row"))
    example.click()
    await_headline(page, f"Nearest to {emoji.gallery.names[row]} · {emoji.gallery.vendors[row]}")
    first = card_rows(page)
    assert len(first) == 12 and row not in first
    assert page.locator("#results .similarity").count() == 12

    page.locator("#results .card").nth(2).click()
    await_headline(page, f"Nearest to {emoji.gallery.names[first[2]]} · {emoji.gallery.vendors[first[2]]}")
    assert first[2] not in card_rows(page)

    page.get_by_label("Noto", exact=True).check()
    page.locator("#status p", has_text=re.compile("12 of 30[01] pictures")).wait_for()
    assert {emoji.gallery.vendors[row] for row in card_rows(page)} == {"Noto"}

    screenshot = tmp_path / "page.png"
    page.screenshot(path=screenshot)
    pixels = np.asarray(Image.open(screenshot).convert("L"))
    assert (np.median(pixels) < 80) == (scheme == "dark")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_page_takes_uploads_and_explains_bad_ones(tmp_path, model, visit):
    page = visit(model)
    upload = page.locator("#query input[type=file]")
    good, bad = save(tmp_path, png("red")), tmp_path / "broken.png"
    bad.write_bytes(png("red")[:45])
    upload.set_input_files(good)
    await_headline(page, "Nearest to your picture")
    assert len(card_rows(page)) == 12
    page.get_by_label("Remove Image").click()
    await_headline(page, "A look into the gallery")
    page.locator("#query input[type=file]").set_input_files(bad)
    await_headline(page, "This picture cannot be read")
    page.locator("#status p", has_text="broken.png: truncated or damaged").wait_for()
    page.locator(".toast-body", has_text="broken.png: truncated or damaged").wait_for()
    assert card_rows(page) == []


def test_the_page_shows_names_as_they_are(model, colours, visit):
    page = visit(model, colours)
    names = page.locator("#results .name").all_inner_texts()
    assert names == ["Red", NASTY, "Image 2"]
    assert page.locator("#injected").count() == 0
    assert page.get_by_label("Warm", exact=True).count() == 1
