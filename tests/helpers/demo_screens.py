"""Screenshots of icons as a browser renders them, and a box drawn around one of them on a page."""

import base64

import numpy as np

SIZES = (16, 20, 24, 28, 32)  # pixels of the icons of a screenshot
SCREEN = """<style>body {{ margin: 0; padding: 30px; background: {ground}; color: {ink}; font: 14px system-ui }}
p {{ display: flex; align-items: center; gap: 14px; margin: 0; height: 60px }}
img {{ filter: {invert}; mix-blend-mode: {blend} }}</style>{rows}"""


def screenshots(browser, gallery, among, seed=7):
    """A light and a dark screenshot of five icons of one colour each, drawn from some rows of the gallery.

    Yields:
        whether it is dark, the icons' rows, PNG, the page's size, and the box of each icon.
    """
    rng = np.random.default_rng(seed)
    plain = [row for row in among if gallery.value(row, "Style") in ("line", "solid")]
    for dark in (False, True):
        rows = rng.choice(plain, 5, replace=False).tolist()
        yield dark, rows, *screenshot(browser, gallery, rows, SIZES, dark)


def screenshot(browser, gallery, rows, sizes, dark):
    """A page of icons at 16 to 32 px as a browser renders it, and the box of each."""
    uri = ["data:image/png;base64," + base64.b64encode(gallery.source[row]).decode() for row in rows]
    lines = "".join(
        f"<p><img src='{data}' width={size} height={size}> Entry of a menu</p>"
        for data, size in zip(uri, sizes, strict=True)
    )
    looks = (
        ("#111827", "#e5e7eb", "invert(1)", "screen") if dark else ("#f9fafb", "#111827", "none", "multiply")
    )
    ground, ink, invert, blend = looks
    page = browser.new_page(viewport={"width": 320, "height": 60 * len(rows) + 60})
    page.set_content(SCREEN.format(ground=ground, ink=ink, invert=invert, blend=blend, rows=lines))
    boxes = [image.bounding_box() for image in page.locator("img").all()]
    data, size = page.screenshot(), page.viewport_size
    page.close()
    return data, size, boxes


def drag(page, size, box, margin=4):
    """A box on the query around a box of the screenshot."""
    image = page.locator("#query img").bounding_box()
    scale = min(image["width"] / size["width"], image["height"] / size["height"])
    left = image["x"] + (image["width"] - scale * size["width"]) / 2
    top = image["y"] + (image["height"] - scale * size["height"]) / 2
    corner = box["x"] - margin, box["y"] - margin
    other = box["x"] + box["width"] + margin, box["y"] + box["height"] + margin
    page.mouse.move(left + scale * corner[0], top + scale * corner[1])
    page.mouse.down()
    page.mouse.move(left + scale * other[0], top + scale * other[1], steps=2)
    page.mouse.up()
