"""Two views of each of some pictures, cut once, as training cuts its two global ones."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from memssl_keras.data.order import image_generator
from memssl_keras.data.views import MultiCrop
from memssl_keras.images import ImageError, read_image

DRAW = 1 << 22  # the run's own draws are those of epochs from 0 on


def spaced(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def view_pairs(
    images: Any, views: MultiCrop, most: int, seed: int = 0, draws: int = 1
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Two global views of each of some pictures.

    Args:
        images: A sequence, each element what `read_image` takes.
        views: The run's `MultiCrop`.
        most: At most so many pictures are used, evenly spaced.
        seed: Of the views.
        draws: Pairs of each picture.

    Returns:
        The first and the second views, each `(S, S, 3)` uint8, picture by picture; and how many pictures were
        unreadable and skipped.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.data.view_pairs import view_pairs
        >>> from memssl_keras.data.views import MultiCrop
        >>> first, second, skipped = view_pairs(np.zeros((9, 32, 32, 3), "uint8"), MultiCrop(16, 8, 2), most=4)
        >>> len(first), second[0].shape, skipped
        (4, (16, 16, 3), 0)
    """
    views, pairs, skipped = dataclasses.replace(views, local_views=0), [], 0
    for row in spaced(len(images), most):
        try:
            picture = read_image(images[row])
        except ImageError:
            skipped += 1
            continue
        pairs += [views(picture, image_generator(seed, DRAW + draw, row)) for draw in range(draws)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs], skipped
