"""A gallery embedded by a model, and the search in it."""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memssl_keras.demo.choice import Choice, choose
from memssl_keras.demo.gallery import Gallery, open_gallery
from memssl_keras.demo.index import CosineIndex
from memssl_keras.demo.indexed import IndexedSource
from memssl_keras.demo.models import Model, open_model
from memssl_keras.demo.pictures import Shown
from memssl_keras.demo.vectors import SHIPPED, embed_gallery, pixel_digest
from memssl_keras.files import cache_folder


class Found(NamedTuple):
    """What a search gives, the most similar first."""

    rows: np.ndarray  # int64 (<= k,), of the gallery
    similarities: np.ndarray  # float32 (<= k,): cosine
    itself: int | None  # the query's row, where it is of the gallery
    among: int  # how many the filters left
    encoded: float  # seconds to encode the query
    searched: float  # seconds to search


class Retrieval:
    """A gallery, its vectors by a model, and the index over them.

    Args:
        model: a `Model`.
        gallery: a `Gallery`; images that cannot be read are left out of it.
        cache: a folder for what is to be kept between runs, or None.
        advance: called with the number of images done since the last call.

    Attributes:
        failures: an `ImageError` for each image left out.
        fresh: how many images had to be embedded.

    Raises:
        ValueError: no image can be read.
    """

    def __init__(self, model: Model, gallery: Gallery, cache: Path | None = None, advance=lambda count: None):
        folder = cache and cache / model.revision
        embedded = embed_gallery(model.encoder, gallery.source, folder, advance, SHIPPED / model.revision)
        self.model, self.failures, self.fresh = model, embedded.failures, embedded.fresh
        if not len(embedded.rows):
            raise ValueError(f"gallery: none of {len(gallery)} images can be read; {self.failures[0]}")
        self.gallery = gallery if len(embedded.rows) == len(gallery) else gallery.take(embedded.rows)
        graph = folder and folder / f"{self.gallery.key}-{pixel_digest(embedded.vectors).hex()}.hnsw"
        self.index = CosineIndex(embedded.vectors, file=graph)
        self._pixels = embedded.pixels
        self._shown = Shown()

    @property
    def encoder(self):
        return self.model.encoder

    def as_query(self, row: int):
        """A picture of the gallery, as a PIL image that `search` knows to be of the gallery."""
        return self._shown.prepare(self.gallery.read(row), row, pixel_digest)

    def search(self, pixels: np.ndarray, k: int = 12, filters=None) -> Found | None:
        """Find the images that are nearest to a picture; the picture itself is never among them.

        Args:
            pixels: the picture, uint8 `(H, W, 3)`.
            k: how many; at least 1.
            filters: label of a column → values to allow; no restriction where there are none.

        Returns:
            what was found; None where the filters leave nothing.

        Raises:
            ValueError: k is less than 1, or a column or value is unknown.
        """
        if k < 1:
            raise ValueError(f"k: got {k}; expected at least 1")
        allowed, itself = self.allowed(filters or {}), None
        digest = pixel_digest(pixels)
        same = self._pixels == digest
        if (row := self._shown.get(digest)) is not None:
            same = self._pixels == self._pixels[row]
        if same.any():
            itself = int(np.argmax(same))
            allowed &= ~same
        if not (among := int(np.count_nonzero(allowed))):
            return None
        started = time.perf_counter()
        vector = self.encoder.embed(pixels)[0]
        encoded = time.perf_counter()
        rows, similarities = self.index.search(vector, int(k), allowed)
        return Found(rows, similarities, itself, among, encoded - started, time.perf_counter() - encoded)

    def allowed(self, filters: dict) -> np.ndarray:
        """Which images filters leave, bool `(N,)`; `search` says what is raised."""
        allowed = np.ones(len(self.gallery), bool)
        for label, wanted in filters.items():
            if label not in self.gallery.columns:
                raise ValueError(
                    f"filters: got {label!r}; expected {', '.join(self.gallery.columns) or 'none'}"
                )
            values, places = self.gallery.columns[label]
            if unknown := [value for value in wanted if value not in values]:
                raise ValueError(f"{label}: got {unknown[0]!r}; expected {', '.join(values)}")
            if wanted:
                allowed &= np.isin(places, [values.index(value) for value in wanted])
        return allowed

    def usual_similarity(self, count: int = 200) -> float | None:
        """How similar 19 of 20 pictures of the gallery are to their nearest, at least; None of fewer than 20.

        Args:
            count: pictures that are asked about, spread evenly.
        """
        if len(self.gallery) < _FEWEST_USUAL:
            return None
        nearest = [
            float(self.index.search(self.index.vectors[row], 1 + _USUAL)[1][-1]) for row in self.spread(count)
        ]
        return float(np.quantile(nearest, 0.05))

    def spread(self, count: int) -> list[int]:
        """Rows spread evenly over the gallery."""
        size = len(self.gallery)
        count = min(count, size)
        return [(2 * step + 1) * size // (2 * count) for step in range(count)]


_loading = threading.Lock()
_loaded: dict[tuple[str, Gallery, int | None], Retrieval] = {}
_MOST_LOADED = 6
_USUAL, _FEWEST_USUAL = 5, 20  # neighbours that say what is usual, and pictures below which nothing is


def load(model=None, gallery=None, advance=lambda count: None, image_size=None) -> Retrieval:
    """Open model and gallery and embed what is new in it; once per process for the same two.

    Args:
        model: as `open_model` takes it; by default the bundled one that `choose` finds to suit the gallery.
        gallery: as `open_gallery` takes it; by default the bundled icons.
        advance: called with the number of images done since the last call.
        image_size: as `open_model` takes it; by default the model's own, or of an index that the model made, the
            index's.

    Raises:
        ValueError, FileNotFoundError: a model or gallery is missing or damaged.

    Example:
        >>> from memssl_keras.demo.search import load
        >>> retrieval = load()
        >>> found = retrieval.search(retrieval.gallery.read(0), k=3)
        >>> len(found.rows), found.itself
        (3, 0)
    """
    with _loading:  # two visitors who ask for a model at once wait for one embedding of the gallery
        images = opened(gallery)
        name = str(model or chosen(images).model)
        source = images.source
        if image_size is None and isinstance(source, IndexedSource) and name == source.model:
            image_size = source.about.image_size
        key = (name, images, image_size)
        found = _loaded.pop(key, None) or Retrieval(
            open_model(name, image_size), images, cache_folder("demo"), advance
        )
        _loaded[key] = found  # the last one used is the last to be forgotten
        if len(_loaded) > _MOST_LOADED:
            del _loaded[next(iter(_loaded))]
        return found


@functools.lru_cache(maxsize=2)
def chosen(gallery: Gallery) -> Choice:
    """`choose`, once per process for a gallery."""
    return choose(gallery)


def opened(gallery=None) -> Gallery:
    """`open_gallery`, once per process for a folder, and for a file as long as it does not change."""
    path = Path(gallery) if gallery else None
    return _opened(gallery and str(gallery), path.stat().st_mtime_ns if path and path.is_file() else 0)


@functools.lru_cache(maxsize=2)
def _opened(gallery, modified):
    return open_gallery(gallery)
