"""What yields batches, as batches of uint8 images: `PyDataset`, `tf.data`, grain and generators."""

from __future__ import annotations

import collections.abc
from typing import Any

import keras
import numpy as np


class Batches:
    """Images `(B, H, W, 3)` uint8 of anything that yields batches of images, or tuples that begin with them.

    Args:
        batches: A `keras.utils.PyDataset`, a `tf.data.Dataset`, a grain data set, or an iterator.
    """

    def __init__(self, batches: Any):
        self.batches = batches
        self.dataset = self if hasattr(batches, "__len__") else None

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        if isinstance(self.batches, keras.utils.PyDataset):
            rows = (self.batches[i] for i in range(len(self.batches)))
        else:
            rows = iter(self.batches)
        for row in rows:
            yield to_uint8(np.asarray(row[0] if isinstance(row, tuple | list) else row))


def yields_batches(x: Any) -> bool:
    """Whether `x` is of one of the kinds that `Batches` takes."""
    kinds = (keras.utils.PyDataset, collections.abc.Iterator)
    return isinstance(x, kinds) or hasattr(x, "as_numpy_iterator") or type(x).__module__.startswith("grain")


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images as uint8; floats may be on the scale 0 … 1 or 0 … 255.

    Raises:
        ValueError: for another shape, type or range.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
        raise ValueError(f"x holds {images.dtype} {tuple(images.shape)}: expected images (N, H, W, 3)")
    if images.dtype == np.uint8:
        return images
    if not np.issubdtype(images.dtype, np.floating) or not len(images):
        raise ValueError(f"x is {images.dtype} {tuple(images.shape)}: expected images (N, H, W, 3) uint8")
    low, high = float(images.min()), float(images.max())
    # A little above 1 is 0 … 1 with an overshoot, which would be black on the other scale; the negation is true of NaN.
    if not (low >= 0 and (high <= 1 or 2 <= high <= 255)):
        raise ValueError(f"x holds floats from {low:.6g} to {high:.6g}: expected 0 … 1, 0 … 255, or uint8")
    return np.rint(images * (255 if high <= 1 else 1)).astype(np.uint8)
