"""Pictures to calibrate quantisation with, where the user gives none: dead leaves, which need no licence.

References:
    Lee, Mumford and Huang, Occlusion Models for Natural Images, IJCV 2001: discs of random size and colour that hide
        each other have the statistics of natural images.
    Baradad et al., Learning to See by Looking at Noise, NeurIPS 2021, for encoders trained on them.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 128


def dead_leaves(count: int, seed: int = 0) -> list[Image.Image]:
    """Pictures of overlapping discs and polygons in random colours, some of them blurred or on a plain ground.

    Args:
        count: How many.
        seed: The same gives the same pictures.

    Returns:
        RGB pictures of 128 × 128 px.

    Example:
        >>> from memssl_keras.export.calibration import dead_leaves
        >>> dead_leaves(2)[1].size
        (128, 128)
    """
    rng = np.random.default_rng(seed)
    return [_picture(rng) for _ in range(count)]


def _picture(rng):
    ground = "white" if rng.random() < 0.3 else _colour(rng)
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    pen = ImageDraw.Draw(picture)
    for _ in range(int(rng.choice([4, 20, 120]))):
        # Areas follow a power law, as those of things at every distance do.
        radius = float(np.clip(3 * rng.random() ** -0.7, 3, SIDE / 2))
        x, y = rng.uniform(0, SIDE, 2)
        if rng.random() < 0.5:
            pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_colour(rng))
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
            pen.polygon([(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles], fill=_colour(rng))
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.0)))
    return picture


def _colour(rng):
    grey = rng.random() < 0.3
    return tuple([int(rng.integers(256))] * 3) if grey else tuple(int(c) for c in rng.integers(0, 256, 3))
