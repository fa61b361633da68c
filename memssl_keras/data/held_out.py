"""Pictures that are held out from training, to score the encoder on."""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.data.names import name_of

FROM, SHARE, MOST = 1000, 0.1, 300  # pictures from which some are held out, how many of them, and at most


class Rows:
    """Some images of a sequence, as a sequence: `MaSSL.fit` and `pretrain` take one.

    Args:
        images: A sequence, each element what `read_image` takes.
        rows: Places in it, `(N,)`.
        held_out: How many of its images were kept from training, for the record of a run.

    Example:
        >>> from memssl_keras.data.held_out import Rows
        >>> Rows(["a.png", "b.png", "c.png"], [2, 0])[0]
        'c.png'
    """

    def __init__(self, images: Any, rows: Any, held_out: int = 0):
        self.images, self.rows, self.held_out = images, np.asarray(rows, np.int64), held_out
        self.notes = getattr(images, "notes", [])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return self.images[int(self.rows[index])]

    @property
    def columns(self) -> dict:
        """Columns that came with the images, of these alone."""
        return {name: column.take(self.rows) for name, column in getattr(self.images, "columns", {}).items()}

    def name(self, index: int) -> str:
        """What an image is called."""
        return name_of(self.images, int(self.rows[index]))


def held_out_count(images: int) -> int:
    """How many images are held out by default: none of fewer than 1,000, else a tenth, at most 300."""
    return min(int(images * SHARE), MOST) if images >= FROM else 0


def hold_out(images: Any, count: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Split images into those to train on, in their order, and `count` that are drawn at random.

    Args:
        images: A sequence.
        count: Of the images that are held out.
        seed: Of the draw.

    Raises:
        ValueError: where nothing would be left.

    Example:
        >>> from memssl_keras.data.held_out import hold_out
        >>> kept, held = hold_out(list("abcdef"), 2)
        >>> "".join(kept), len(held)
        ('abef', 2)
    """
    if not 0 < count < len(images):
        raise ValueError(f"held_out={count}: expected 1 … {len(images) - 1}, fewer than there are images")
    drawn = np.random.default_rng(seed).permutation(len(images))
    return Rows(images, np.sort(drawn[count:]), count), Rows(images, np.sort(drawn[:count]))
