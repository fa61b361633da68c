"""What shows whether an encoder has learnt something, as a hit or a miss for each picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from memssl_keras.data.classes import Labelled
from memssl_keras.data.view_pairs import view_pairs
from memssl_keras.data.views import MultiCrop
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.knn import knn_predict

PICTURES = 300
_PIXELS = {"knn": 16, "view_retrieval": 32}  # sides at which pixels are compared


class LabelledKNN:
    """k-NN classification of labelled test pictures by labelled training pictures.

    Args:
        labelled: A `Labelled` of `memssl_keras.data.classes.open_classes`.
        k: Neighbours that vote.
        temperature: Of their vote.

    Raises:
        ValueError: where fewer than k pictures may vote.
    """

    name = "knn"

    def __init__(self, labelled: Labelled, k: int = 20, temperature: float = 0.07):
        if not 1 <= k <= len(labelled.train):
            raise ValueError(f"k={k}: expected 1 … {len(labelled.train)}, the number of images that may vote")
        self.labelled, self.k, self.temperature = labelled, k, temperature
        self.words = f"k-NN accuracy (k = {k}) on {len(labelled.test):,} labelled pictures"
        self.pixels = _PIXELS[self.name]

    def hits(self, features: Callable) -> np.ndarray:
        """Whether each test picture `(M,)` is put into its class; `features` makes `(N, D)` of a sequence of images."""
        of, train, test = self.labelled, features(self.labelled.train), features(self.labelled.test)
        predicted = knn_predict(train, of.train_labels, test, self.k, self.temperature)
        return predicted == np.asarray(of.test_labels)


class ViewRetrieval:
    """Retrieval of pictures by another view of themselves, which needs no labels.

    Of each picture two views are cut once, as training cuts its two global ones. A picture is a hit where its first
    view is more similar to its own second view than to the second view of any other picture: recall@1 in a gallery of
    as many views as there are pictures. Unreadable pictures are skipped and counted in `skipped`.

    Args:
        images: A sequence, each element what `read_image` takes; at most 300 are used, spread evenly.
        views: The run's `MultiCrop`.
        described: What the pictures are, in words.
        seed: Of the views.

    Raises:
        ValueError: where fewer than two pictures can be read.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.data.views import MultiCrop
        >>> from memssl_keras.evaluate.measures import ViewRetrieval
        >>> images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), "uint8")
        >>> ViewRetrieval(images, MultiCrop(16, 8, 2)).words
        'retrieval of 4 pictures by another view of themselves (recall@1)'
    """

    name = "view_retrieval"

    def __init__(self, images: Any, views: MultiCrop, described: str = "pictures", seed: int = 0):
        first, second, self.skipped = view_pairs(images, views, PICTURES, seed)
        if len(first) < 2:
            raise ValueError(
                f"images: {len(first)} of {len(images)} can be read; expected 2 or more to tell apart"
            )
        self.queries, self.gallery = np.stack(first), np.stack(second)
        self.words = f"retrieval of {len(first)} {described} by another view of themselves (recall@1)"
        self.pixels = min(_PIXELS[self.name], views.global_size)

    def hits(self, features: Callable) -> np.ndarray:
        """Whether each picture `(N,)` is found; `features` makes `(N, D)` of a sequence of images."""
        queries, gallery = (unit(features(part), "features") for part in (self.queries, self.gallery))
        similarities = queries @ gallery.T
        own = similarities.diagonal().copy()
        np.fill_diagonal(similarities, -np.inf)
        return own > similarities.max(
            axis=1
        )  # alike is no hit: an encoder that gives all the same finds nothing
