"""The gallery in two dimensions: alike is near.

References:
    van der Maaten and Hinton, Visualizing Data using t-SNE, JMLR 2008, as scikit-learn has it.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from memssl_keras.demo.vectors import SHIPPED, pixel_digest
from memssl_keras.files import replace_file

MOST = 2000  # images on the map, spread evenly over larger galleries
_FEW = 10  # images below which there are no neighbourhoods to keep, and PCA is taken


def map_rows(count: int) -> np.ndarray:
    """The rows on the map of a gallery of `count` images, int64, at most `MOST`."""
    size = min(count, MOST)
    return (2 * np.arange(size) + 1) * count // (2 * size)


def lay_out(vectors: np.ndarray, cache: Path | None = None) -> np.ndarray:
    """Places in the plane, by t-SNE with the same seed each time, and from the second time on from the cache.

    Args:
        vectors: float32 `(M, D)`, of unit length.
        cache: a folder to keep the places in, or None.

    Returns:
        float32 `(M, 2)` from 0 to 1.
    """
    file = cache and cache / f"map-{pixel_digest(vectors).hex()}.npy"
    if file and file.is_file():
        try:
            places = np.load(file, allow_pickle=False)
            if places.shape == (len(vectors), 2):
                return places
        except (ValueError, OSError, EOFError):
            pass  # damaged: it is made again
    places = _places(vectors)
    low, high = places.min(0), places.max(0)
    places = ((places - low) / np.maximum(high - low, 1e-6)).astype(np.float32)
    if file:
        try:
            replace_file(file, lambda path: np.save(path, places, allow_pickle=False))
        except OSError as error:  # a home that cannot be written to stops nothing
            warnings.warn(
                f"{file.parent}: the map is not kept there ({error.strerror or error})", stacklevel=2
            )
    return places


def shipped_map(revision: str, count: int) -> np.ndarray | None:
    """Places of the bundled gallery by a revision of a model, which took a minute; None where they are not shipped."""
    file = SHIPPED / revision / "map.npy"
    places = np.load(file, allow_pickle=False) if file.is_file() else None
    return places if places is not None and places.shape == (count, 2) else None


def _places(vectors):
    if len(vectors) < _FEW:
        centred = vectors - vectors.mean(0)
        return (
            centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
            if len(vectors) > 1
            else np.zeros((1, 2))
        )
    from sklearn.manifold import TSNE

    # Of unit vectors the order by Euclidean distance is that by cosine.
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    # After 500 steps neighbours are kept as after 1,000: trustworthiness .946 and .947 on the bundled gallery.
    return TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=500).fit_transform(vectors)
