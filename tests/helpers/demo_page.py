"""What the tests of the demo share: small pictures, galleries, and what is read off a page."""

import io
import os
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NASTY = '<b id=injected>{{name}} ${1 + 1}</b> & "it\'s"'


def png(colour, size=(16, 16)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_gallery(path, images, **columns):
    pq.write_table(pa.table({"image": images, **columns}), path)
    return path


def save(folder, data, name="query.png"):
    path = folder / name
    path.write_bytes(data)
    return path


def keep_screenshot(page, tmp_path, name):
    """A picture of the page in the test's folder; with `MEMSSL_SCREENSHOTS` in that folder, to look at."""
    folder = os.environ.get("MEMSSL_SCREENSHOTS") or tmp_path
    path = os.path.join(folder, f"{name}.png")
    page.screenshot(path=path, full_page=True)
    return path


def card_rows(page, within="#results"):
    return page.locator(f"{within} .card").evaluate_all(
        "cards => cards.map(card => Number(card.dataset.row))"
    )


def await_headline(page, text, within="#status"):
    page.locator(f"{within} h2", has_text=text).wait_for()


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers
