"""The margin around a drawing, cut away: a drawing then fills its square wherever and however small it stood."""

from __future__ import annotations

import numpy as np
from PIL import Image

_FAINT = 24  # of 255: what differs less from the ground is the ground
_SHARE = 0.25  # of the strongest difference: what differs less is taken for the traces of JPEG


def trimmed(picture: Image.Image, margin: float) -> Image.Image:
    """A square of the ground's colour with the drawing in its middle.

    The ground is the median of the four corners. What differs from it is the drawing; its bounds are cut out.

    Args:
        picture: In RGB.
        margin: What is left around the drawing on each side, as a share of its longer side.

    Returns:
        The square; the picture itself where all of it is ground.

    Example:
        >>> from PIL import Image
        >>> from memssl_keras.images.trim import trimmed
        >>> picture = Image.new("RGB", (90, 60), "white")
        >>> picture.paste("black", (70, 5, 80, 25))
        >>> trimmed(picture, 0.1).size
        (24, 24)
    """
    pixels = np.asarray(picture).astype(np.int16)
    ground = np.median(pixels[[0, 0, -1, -1], [0, -1, 0, -1]], axis=0).astype(np.int16)
    apart = np.abs(pixels - ground).max(-1)
    drawn = apart > max(_FAINT, _SHARE * int(apart.max()))
    if not drawn.any():
        return picture
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    width, height = box[2] - box[0], box[3] - box[1]
    side = max(width, height)
    side += 2 * round(margin * side)
    square = Image.new("RGB", (side, side), tuple(map(int, ground)))
    square.paste(picture.crop(box), ((side - width) // 2, (side - height) // 2))
    return square
