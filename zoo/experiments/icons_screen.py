"""An icon as it stands in a screenshot: drawn small, in two colours, with a margin, through JPEG."""

import io

import numpy as np
from PIL import Image

# Text and grounds of common light and dark themes.
INKS = ((33, 33, 33), (255, 255, 255), (37, 99, 235), (220, 38, 38), (22, 163, 74))
GROUNDS = ((255, 255, 255), (243, 244, 246), (17, 24, 39), (30, 64, 175), (254, 243, 199))


def contrast(first, second):
    """The difference of two colours in luma, of 255."""
    return abs(float(np.dot(np.subtract(first, second), (0.299, 0.587, 0.114))))


def colours(rng, least=60):
    """One of the inks on one of the grounds that it can be read on."""
    pairs = [(ink, ground) for ink in INKS for ground in GROUNDS if contrast(ink, ground) >= least]
    return pairs[int(rng.integers(len(pairs)))]


def on_screen(png, size, rng, quality=85):
    """The screenshot of an icon, as JPEG bytes.

    Args:
        png: The icon, black on white, or in colour, which then stays.
        size: Its side on the screen in pixels.
        rng: A `numpy.random.Generator`: colours, margin and place.
        quality: Of JPEG.
    """
    icon = Image.open(io.BytesIO(png))
    ink, ground = colours(rng)
    if icon.mode == "L":
        cover = 1 - np.asarray(icon.resize((size, size), Image.Resampling.BOX), np.float32)[..., None] / 255
        small = cover * ink + (1 - cover) * ground
    else:
        small = np.asarray(icon.convert("RGB").resize((size, size), Image.Resampling.BOX), np.float32)
        ground = (255, 255, 255)
    side = size + int(rng.integers(size // 4, size // 2 + 1)) * 2
    top, left = rng.integers(0, side - size + 1, 2)
    canvas = np.empty((side, side, 3), np.float32)
    canvas[:] = ground
    canvas[top : top + size, left : left + size] = small
    out = io.BytesIO()
    Image.fromarray(canvas.round().astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()
