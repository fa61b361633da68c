"""Weighted k-nearest-neighbour classification of frozen features.

References:
    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018
    (arXiv 1805.01978), for the vote; k = 10, 20, 100, 200 and T = 0.07 are DINO's (arXiv 2104.14294).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.neighbours import nearest


def knn_predictions(
    train: np.ndarray,
    train_labels: np.ndarray,
    queries: np.ndarray,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    chunk: int = 1024,
) -> dict[int, np.ndarray]:
    """Classes of `queries` by a vote of the k most similar training features, for several k at the cost of one.

    A neighbour of cosine similarity s votes for its class with weight exp(s / temperature).

    Args:
        train: Features `(N, D)`.
        train_labels: Integer labels `(N,)` from 0 on.
        queries: Features `(M, D)`.
        ks: Neighbours that vote, each 1 … N.
        temperature: T > 0.
        chunk: Queries whose votes are counted at a time; memory is chunk × classes beside `nearest`'s.

    Returns:
        k → predicted labels `(M,)`.

    Raises:
        ValueError: for k outside 1 … N, T ≤ 0, features of unequal width, or values that are not finite.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.protocols.knn import knn_predictions
        >>> train = np.array([[1, 0], [0.9, 0.1], [0, 1]])
        >>> {k: list(map(int, v)) for k, v in knn_predictions(train, [0, 0, 1], [[0.1, 1]], ks=(1, 3)).items()}
        {1: [1], 3: [1]}
    """
    train, queries = unit(train, "train"), unit(queries, "queries")
    train_labels, ks = np.asarray(train_labels), tuple(ks)
    for k in ks or (0,):
        if not 1 <= k <= len(train):
            raise ValueError(f"k={k}: expected 1 … {len(train)}, the number of training features")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: expected a positive number")
    if train.shape[1] != queries.shape[1] or len(train_labels) != len(train):
        raise ValueError(
            f"train {train.shape}, its {len(train_labels)} labels and queries {queries.shape} do not fit together"
        )
    classes = int(train_labels.max()) + 1
    predicted = {k: np.empty(len(queries), "int64") for k in ks}
    similarities, rows = nearest(train, queries, max(ks))
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        logits = similarities[part] / temperature
        weights, labels = np.exp(logits - logits.max(1, keepdims=True)), train_labels[rows[part]]
        cells = np.arange(len(weights))[:, None] * classes + labels
        for k in ks:
            votes = np.bincount(cells[:, :k].ravel(), weights[:, :k].ravel(), len(weights) * classes)
            predicted[k][part] = votes.reshape(-1, classes).argmax(1)
    return predicted


def knn_predict(
    train: np.ndarray,
    train_labels: np.ndarray,
    queries: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> np.ndarray:
    """Predicted labels `(M,)` for a single k; arguments and errors as those of `knn_predictions`."""
    return knn_predictions(train, train_labels, queries, (k,), temperature, chunk)[k]


def knn_accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of test features, 0 … 1, that `knn_predict` puts into their class."""
    return float(np.mean(knn_predict(train, train_labels, test, k, temperature) == np.asarray(test_labels)))
