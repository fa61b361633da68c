"""The four examples of the demo's first page, drawn by code: `demo/examples/*.webp`.

    python zoo/experiments/icons_examples.py .data

A settings page with icons of Lucide, rendered by Chromium; a sign as a phone photographs it; a scribble; an emoji in a
message. Prints the box around the icon as fractions of the picture, for `demo/examples.py`.
"""

import argparse
import io
import pathlib
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from icon_sets import drawings, read_set, svg

OUT = pathlib.Path("demo/examples")
ROWS = (
    ("bell", "Notifications", "Sounds, badges and banners"),
    ("lock", "Privacy", "Who sees what you share"),
    ("palette", "Appearance", "Colours, text size, dark mode"),
    ("hard-drive", "Storage", "12.4 GB of 64 GB used"),
    ("languages", "Language", "English (United Kingdom)"),
)
PAGE = """<style>
body {{ margin: 0; padding: 20px 24px; width: 372px; font: 14px/1.35 system-ui, sans-serif }}
body {{ color: #1f2937; background: #f3f4f6 }}
h1 {{ font-size: 20px; margin: 0 0 14px }}
div {{ display: flex; align-items: center; gap: 16px; padding: 11px 16px; background: white }}
div {{ border-bottom: 1px solid #e5e7eb }}
div:first-of-type {{ border-radius: 12px 12px 0 0 }} div:last-of-type {{ border-radius: 0 0 12px 12px }}
svg {{ width: 24px; height: 24px; flex: none; color: #4f46e5 }}
small {{ display: block; color: #6b7280; font-size: 12px }}
b {{ font-weight: 600 }} i {{ margin-left: auto; color: #9ca3af; font-style: normal }}
</style><h1>Settings</h1>{rows}"""


def settings(package):
    """The page as a screenshot, and the box around the palette."""
    found = dict(drawings(read_set(package, "lucide")))
    rows = "".join(
        f"<div id={name}>{_inked(svg(found[name], 24))}<span><b>{title}</b><small>{about}</small></span><i>›</i></div>"
        for name, title, about in ROWS
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 420, "height": 380})
        page.set_content(PAGE.format(rows=rows))
        box = page.locator("#palette svg").bounding_box()
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    return picture, _fractions(box, picture.size)


def _inked(text):
    """In the colour of the page's text."""
    return text.replace('color="#000"', "")


def _fractions(box, size, margin=5):
    width, height = size
    left, top = box["x"] - margin, box["y"] - margin
    right, bottom = left + box["width"] + 2 * margin, top + box["height"] + 2 * margin
    return [round(value, 3) for value in (left / width, top / height, right / width, bottom / height)]


def drawn(package, prefix, name, side, colour="#000"):
    """An icon with its transparency."""
    import resvg_py

    text = svg(dict(drawings(read_set(package, prefix)))[name], side).replace(
        'color="#000"', f'color="{colour}"'
    )
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(text, skip_system_fonts=True)))).convert("RGBA")


def sign(package):
    """A blue sign on a wall, seen from the side in uneven light, and the box around it."""
    rng = np.random.default_rng(3)
    wall = Image.new("RGB", (420, 380), (176, 160, 140))
    draw = ImageDraw.Draw(wall)
    for y in range(0, 380, 38):
        for x in range(-40 + 40 * (y // 38 % 2), 420, 80):
            shade = int(rng.integers(-14, 14))
            draw.rectangle((x, y, x + 76, y + 34), fill=(170 + shade, 146 + shade, 124 + shade))
    plate = Image.new("RGBA", (240, 240), (0, 0, 0, 0))
    ImageDraw.Draw(plate).rounded_rectangle((0, 0, 239, 239), 26, fill=(28, 78, 160, 255))
    icon = drawn(package, "material-symbols", "restaurant", 180, "#fff")
    plate.alpha_composite(icon, (30, 30))
    corners = (92, 74), (318, 96), (306, 314), (88, 322)
    plate = plate.transform(
        wall.size, Image.Transform.PERSPECTIVE, _perspective(corners, 240), Image.Resampling.BICUBIC
    )
    wall.paste(plate, mask=plate)
    pixels = np.asarray(wall.filter(ImageFilter.GaussianBlur(1.1)), float)
    light = np.linspace(1.12, 0.72, 420)[None, :, None] * np.linspace(1.05, 0.85, 380)[:, None, None]
    pixels = pixels * light + rng.normal(0, 5, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), [0.19, 0.17, 0.77, 0.87]


def _perspective(corners, side):
    """Coefficients from the picture to a square, for `Image.transform`."""
    rows, values = [], []
    for (x, y), (u, v) in zip(corners, ((0, 0), (side, 0), (side, side), (0, side)), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows, float), np.array(values, float))


def scribble():
    """An umbrella by an unsteady hand."""
    rng, picture = np.random.default_rng(5), Image.new("RGB", (320, 320), "white")
    draw = ImageDraw.Draw(picture)
    turn = np.linspace(np.pi, 2 * np.pi, 40)
    dome = np.stack([160 + 112 * np.cos(turn), 168 + 108 * np.sin(turn)], 1)
    hem = np.concatenate(
        [
            np.stack([272 - 74.7 * (k + t), 168 - 16 * np.sin(np.pi * t)], 1)
            for k in range(3)
            for t in [np.linspace(0, 1, 12)]
        ]
    )
    hook = np.linspace(0, np.pi, 16)
    stick = np.concatenate(
        [
            [(160, 160), (161, 200), (160, 250)],
            np.stack([138 + 22 * np.cos(hook), 262 + 22 * np.sin(hook)], 1),
        ]
    )
    for line in (dome, hem, stick):
        shaken = line + np.cumsum(rng.normal(0, 0.9, line.shape), 0) * 0.7
        draw.line([tuple(point) for point in shaken], fill=(20, 20, 20), width=8, joint="curve")
    return picture, None


def emoji(package):
    """An emoji at the size of a chat."""
    picture = Image.new("RGB", (160, 160), "white")
    icon = drawn(package, "twemoji", "helicopter", 112)
    picture.paste(icon, (24, 24), icon)
    return picture, None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    package = parser.parse_args().data / "package"
    OUT.mkdir(exist_ok=True)
    made = {
        "settings": settings(package),
        "sign": sign(package),
        "scribble": scribble(),
        "emoji": emoji(package),
    }
    for name, (picture, box) in made.items():
        lossless = name != "sign"
        picture.save(OUT / f"{name}.webp", lossless=lossless, quality=80, method=6)
        print(name, box, (OUT / f"{name}.webp").stat().st_size)


if __name__ == "__main__":
    main()
