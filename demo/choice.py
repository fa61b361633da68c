"""Which bundled model suits a gallery: the one for drawings, or the one for small photographs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from memssl_keras.demo.gallery import Gallery
from memssl_keras.demo.models import DEFAULT, PHOTOGRAPHS
from memssl_keras.images.read import ImageError

_LOOKED_AT = 64  # pictures, spread evenly
_SIDE = 64
_NEAR = 2  # of 255: as near as JPEG leaves the ground of a drawing
# Of drawings by far the most have more than this share of flat pixels and of one colour; of CIFAR-10's photographs 8 in
# 10 have less.
_FLAT, _ONE_COLOUR = 0.3, 0.25


class Choice(NamedTuple):
    """A model, as `open_model` takes it, and why it was chosen, in words."""

    model: str
    why: str
    drawings: bool  # what most of the gallery are


def is_drawing(pixels: np.ndarray) -> bool:
    """Whether an image, uint8 `(H, W, 3)`, is flat and mostly of one colour, as drawings and screenshots are.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.demo.choice import is_drawing
        >>> is_drawing(np.full((20, 20, 3), 255, "uint8"))
        True
        >>> is_drawing(np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype="uint8"))
        False
    """
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE))
    small = np.asarray(picture).astype(np.int16)
    steps = np.abs(np.diff(small, axis=1)).max(-1)
    coarse = (small >> 4) @ np.array([256, 16, 1])
    most = np.bincount(coarse.ravel()).max() / coarse.size
    return bool((steps <= _NEAR).mean() >= _FLAT and most >= _ONE_COLOUR) if steps.size else True


def choose(gallery: Gallery) -> Choice:
    """The bundled model for a gallery, by what most of 64 of its pictures are; unreadable ones aside."""
    if gallery.icons:
        return Choice(DEFAULT, "the gallery holds icons", True)
    count = min(_LOOKED_AT, len(gallery))
    drawings = []
    for row in [(2 * step + 1) * len(gallery) // (2 * count) for step in range(count)]:
        try:
            drawings.append(is_drawing(gallery.read(row)))
        except ImageError:
            continue
    photographs = len(drawings) - sum(drawings)
    if 2 * photographs > len(drawings):
        return Choice(
            PHOTOGRAPHS, f"{photographs} of {len(drawings)} pictures looked at are photographs", False
        )
    return Choice(DEFAULT, f"{sum(drawings)} of {len(drawings)} pictures looked at are drawings", True)
