"""Exact search for the most similar features."""

from __future__ import annotations

import numpy as np

try:
    import faiss
except ModuleNotFoundError:  # part of the extra `evaluate`; online k-NN during training does without
    faiss = None  # type: ignore[assignment]


def nearest(
    stored: np.ndarray, queries: np.ndarray, k: int, chunk: int = 1024
) -> tuple[np.ndarray, np.ndarray]:
    """The k most similar of the stored features, by inner product, best first.

    faiss searches where it is installed and NumPy otherwise: both compare everything with everything and differ
    in the last bits of a similarity at most. Memory is queries × k, and chunk × N similarities without faiss.

    Args:
        stored: float32 `(N, D)`.
        queries: float32 `(Q, D)`.
        k: Neighbours, 1 … N.
        chunk: Queries that NumPy compares at a time.

    Returns:
        Similarities `(Q, k)` float32 and rows of `stored` `(Q, k)` int64.

    Raises:
        ValueError: for k outside 1 … N, or widths that differ.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.protocols.neighbours import nearest
        >>> nearest(np.eye(3, dtype="float32"), np.array([[0, 1, 0.5]], "float32"), k=2)[1]
        array([[1, 2]])
    """
    if not 1 <= k <= len(stored):
        raise ValueError(f"k={k}: expected 1 … {len(stored)}, the number of training features")
    if stored.shape[1] != queries.shape[1]:
        raise ValueError(
            f"features {stored.shape} and queries {queries.shape} do not fit together: one width expected"
        )
    if faiss is not None and len(queries):
        return faiss.knn(
            np.ascontiguousarray(queries),
            np.ascontiguousarray(stored),
            int(k),
            metric=faiss.METRIC_INNER_PRODUCT,
        )
    similarities, rows = np.empty((len(queries), k), "float32"), np.empty((len(queries), k), "int64")
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        all_of_them = queries[part] @ stored.T
        best = np.argpartition(-all_of_them, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(all_of_them, best, 1)
        order = np.argsort(-values, axis=1, kind="stable")
        similarities[part] = np.take_along_axis(values, order, 1)
        rows[part] = np.take_along_axis(best, order, 1)
    return similarities, rows
