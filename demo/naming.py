"""Which icon is this: the things that a picture may be, each with its drawings in the sets of the gallery."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from memssl_keras.demo.search import Retrieval

# Cosine similarity below which wrong names outnumber right ones, by model: see zoo/experiments/icons_threshold.py.
THRESHOLDS = {
    "massl_resnet14.icons": 0.66,
    "massl_resnet14.icons@int8": 0.64,
    "massl_resnet8.icons": 0.80,
    "massl_resnet8.icons@int8": 0.80,
}
_MOST_DRAWINGS = 24  # of one thing


class Thing(NamedTuple):
    """What several sets draw under one name."""

    name: str  # of its nearest drawing, as that set calls it
    rows: list[
        int
    ]  # of the gallery: its drawings, the nearest first, each set's nearest before its further ones
    similarity: float  # of the nearest, which filters may have left out of `rows`


class Named(NamedTuple):
    """What a picture may be, the likeliest first."""

    things: list[Thing]
    best: int  # row of the nearest of the whole gallery
    similarity: float  # of that one
    known: (
        bool | None
    )  # whether right names outnumber wrong ones at this similarity; None where nobody has measured
    encoded: float  # seconds to encode the picture
    searched: float


class Namer:
    """Names pictures by a gallery of icons.

    Args:
        retrieval: a `Retrieval` of a gallery whose `icons` are known.
    """

    def __init__(self, retrieval: Retrieval):
        self.retrieval, icons = retrieval, retrieval.gallery.icons
        if icons is None:
            raise ValueError("gallery: its icons have no ids and groups; expected columns id, group and set")
        self.icons = icons
        self._names, self._place = np.unique(icons.groups, return_inverse=True)
        self.threshold = THRESHOLDS.get(retrieval.model.name)

    def name(self, pixels: np.ndarray, count: int = 5, filters=None) -> Named:
        """Find what a picture may be. Filters choose which drawings are shown, and do not change what it is taken for.

        Args:
            pixels: the picture, uint8 `(H, W, 3)`.
            count: how many things, at least 1.
            filters: as `Retrieval.search` takes them.

        Raises:
            ValueError: as `Retrieval.search` does.
        """
        if count < 1:
            raise ValueError(f"count: got {count}; expected at least 1")
        allowed = self.retrieval.allowed(filters or {})
        started = time.perf_counter()
        vector = self.retrieval.encoder.embed(pixels)[0]
        encoded = time.perf_counter()
        similarities = self.retrieval.index.vectors @ vector
        nearest = np.full(len(self._names), -np.inf, np.float32)
        np.maximum.at(nearest, self._place, similarities)
        shown = np.zeros(len(self._names), bool)
        shown[self._place[allowed]] = True
        order = [int(place) for place in np.argsort(-nearest, kind="stable") if shown[place]][:count]
        things = [self._thing(place, similarities, allowed) for place in order]
        best = int(similarities.argmax())
        similarity = float(similarities[best])
        known = None if self.threshold is None else similarity >= self.threshold
        return Named(things, best, similarity, known, encoded - started, time.perf_counter() - encoded)

    def same(self, thing: Thing, row: int) -> bool:
        """Whether a row is of a thing."""
        return bool(self._place[thing.rows[0]] == self._place[row])

    def _thing(self, place, similarities, allowed):
        members = np.flatnonzero(self._place == place)
        members = members[np.argsort(-similarities[members], kind="stable")]
        seen, first, further = set(), [], []
        for row in members[allowed[members]].tolist():
            prefix = self.icons.ids[row].partition(":")[0]
            (further if prefix in seen else first).append(row)
            seen.add(prefix)
        name = self.retrieval.gallery.names[members[0]]
        return Thing(name, (first + further)[:_MOST_DRAWINGS], float(similarities[members[0]]))
