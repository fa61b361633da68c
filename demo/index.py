"""Nearest neighbours by cosine similarity: exact up to a size, by a graph of neighbours beyond it.

References:
    Malkov and Yashunin, Hierarchical Navigable Small World graphs, 2016 (arXiv 1603.09320), as faiss has it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import faiss
import numpy as np

from memssl_keras.files import replace_file

EXACT = 50_000  # images up to which everything is compared
_FEW = 0.1  # share of allowed images below which comparing all of them is faster, and misses none
_LINKS, _BUILT_WITH, _SEARCHED_WITH = 32, 80, 128


class CosineIndex:
    """Nearest neighbours among unit vectors.

    Args:
        vectors: float32 `(N, D)` of unit length.
        exact: size up to which everything is compared.
        file: where to keep the graph, if there is one: it takes minutes to build for 100,000 vectors.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.demo.index import CosineIndex
        >>> rows, similarities = CosineIndex(np.eye(3, dtype="float32")).search(np.array([0, 1, 0]), k=1)
        >>> int(rows[0]), float(similarities[0])
        (1, 1.0)
    """

    def __init__(self, vectors: np.ndarray, exact: int = EXACT, file: Path | None = None):
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.graph = None
        if len(vectors) > exact:
            kept = _read(file, self.vectors.shape) if file else None
            self.graph = kept or _build(self.vectors, file)

    def search(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None):
        """Find the `k` nearest.

        Args:
            query: unit vector `(D,)`.
            k: how many; fewer come back where fewer are allowed.
            allowed: bool `(N,)`: which vectors may come back; all by default.

        Returns:
            row numbers and similarities, each `(<= k,)`, the most similar first.
        """
        count = len(self.vectors) if allowed is None else int(np.count_nonzero(allowed))
        if self.graph is not None and count > _FEW * len(self.vectors):
            return self._in_graph(query, min(k, count), allowed)
        if allowed is None or count > _FEW * len(self.vectors):  # a copy of so many vectors would cost more
            rows, similarities = None, self.vectors @ query
            if allowed is not None:
                similarities[~allowed] = -np.inf
        else:
            rows = np.flatnonzero(allowed)
            similarities = self.vectors[rows] @ query
        k = min(k, count)
        best = np.argpartition(-similarities, k - 1)[:k] if k < len(similarities) else np.arange(k)
        best = np.sort(best)
        order = best[np.argsort(-similarities[best], kind="stable")]
        return order if rows is None else rows[order], similarities[order]

    def _in_graph(self, query, k, allowed):
        options = faiss.SearchParametersHNSW(efSearch=max(_SEARCHED_WITH, 2 * k))
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            options.sel = faiss.IDSelectorBitmap(bits)
        similarities, rows = self.graph.search(
            np.ascontiguousarray(query[None], np.float32), k, params=options
        )
        found = rows[0] >= 0
        return rows[0][found], similarities[0][found]


def _build(vectors, file):
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _BUILT_WITH
    graph.add(vectors)
    if file:
        # What cannot be kept is made again the next time.
        with contextlib.suppress(OSError, RuntimeError):
            replace_file(file, lambda part: faiss.write_index(graph, str(part)))
    return graph


def _read(file, shape):
    """A kept graph; None where there is none, or it is damaged."""
    try:
        graph = faiss.read_index(str(file)) if file.is_file() else None
    except RuntimeError:
        return None
    return graph if graph is not None and (graph.ntotal, graph.d) == shape else None
