"""Thumbnails, alone and beside each other, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from memssl_keras.annotations import PathLike
from memssl_keras.images.read import read_image


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Fit an image `(H, W, 3)` uint8 into a white square of `side` pixels; those of small pictures stay visible.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.images import thumbnail
        >>> thumbnail(np.zeros((10, 40, 3), "uint8"), 64).getpixel((32, 0))
        (255, 255, 255)
    """
    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = [max(1, round(edge * scale)) for edge in picture.size]
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def draw_rows(rows: Sequence, path: PathLike, tile: int = 96, gap: int = 6) -> None:
    """Draw queries, a rule, and beside each its neighbours with their similarity, into a PNG.

    Args:
        rows: Pairs of a query and a list of (neighbour, similarity); images as `read_image` takes them.
        path: The file to write.
        tile: Side in pixels of the square that a picture is fitted into.
        gap: Pixels between two squares.
    """
    columns = 1 + max(len(neighbours) for _, neighbours in rows)
    line = tile + gap + 14
    sheet = Image.new("RGB", (columns * (tile + gap) + 3 * gap, len(rows) * line + gap), "white")
    pen = ImageDraw.Draw(sheet)

    def place(image, column, row, caption):
        left, top = gap + column * (tile + gap) + (2 * gap if column else 0), gap + row * line
        sheet.paste(thumbnail(read_image(image), tile), (left, top))
        pen.text((left + tile / 2, top + tile + 1), caption, fill="#555555", anchor="ma")

    for row, (query, neighbours) in enumerate(rows):
        place(query, 0, row, "query")
        for column, (image, similarity) in enumerate(neighbours, 1):
            place(image, column, row, f"{similarity:.3f}")
    rule = gap + tile + gap + gap // 2
    pen.line([(rule, gap), (rule, sheet.height - gap)], fill="#cccccc")
    sheet.save(path)
