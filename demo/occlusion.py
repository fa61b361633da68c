"""What an encoder goes by in a picture: how far its vector turns when a part is covered. It works for any encoder.

References:
    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014 (arXiv 1311.2901).
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

GRID = 8  # squares along a side that are covered one by one
_WIDTH = 2  # of a cover in squares of the grid
_AT_ONCE = 13  # pictures in a pass
_ONE = threading.BoundedSemaphore(1)  # visitor at a time


class Occlusion(NamedTuple):
    """The picture as the encoder saw it, uint8 `(S, S, 3)`, and how far the vector turns, `(8, 8)`, 0 … 2.

    A turn is 1 less the cosine between the vectors of the picture and of the covered one.
    """

    seen: np.ndarray
    weights: np.ndarray


def covered(pixels: np.ndarray) -> np.ndarray:
    """Copies `(64, S, S, 3)` of preprocessed pixels `(S, S, 3)`, a square around each place in their median colour."""
    side, ground = len(pixels), np.median(pixels, (0, 1))
    copies = np.repeat(pixels[None], GRID**2, 0)
    for place, copy in enumerate(copies):
        row, column = (
            [round(side * (at + offset) / GRID) for offset in (0.5 - _WIDTH / 2, 0.5 + _WIDTH / 2)]
            for at in divmod(place, GRID)
        )
        copy[max(row[0], 0) : row[1], max(column[0], 0) : column[1]] = ground
    return copies


def occlude(model, pixels: np.ndarray) -> Occlusion:
    """Cover a picture, uint8 `(H, W, 3)`, part by part.

    Args:
        model: a `Model`.
        pixels: the picture.
    """
    preprocessing = model.encoder.preprocessing
    whole = preprocessing(pixels)
    with _ONE:
        pictures = np.concatenate([whole[None], covered(whole)])
        parts = [pictures[i : i + _AT_ONCE] for i in range(0, len(pictures), _AT_ONCE)]
        vectors = np.concatenate([model.encoder.embed_pixels(part) for part in parts])
    turns = np.maximum(1 - vectors[1:] @ vectors[0], 0).reshape(GRID, GRID)
    seen = np.rint((whole * preprocessing.std + preprocessing.mean) * 255).clip(0, 255).astype(np.uint8)
    return Occlusion(seen, turns)
