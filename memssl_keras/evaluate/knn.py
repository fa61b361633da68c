"""Weighted k-nearest-neighbour classification of frozen features.

References:
    Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018
    (arXiv 1805.01978), for the vote; k = 20 and T = 0.07 are DINO's.
"""

import numpy as np

from memssl_keras.evaluate.features import unit


def knn_predict(train, train_labels, queries, k=20, temperature=0.07, chunk=512):
    """Classes of `queries` by a vote of the k most similar training features.

    A neighbour of cosine similarity s votes for its class with weight exp(s / temperature).

    Args:
        train: Features `(N, D)`.
        train_labels: Integer labels `(N,)` from 0 on.
        queries: Features `(M, D)`.
        k: Neighbours that vote, 1 … N.
        temperature: T > 0.
        chunk: Queries compared at a time; memory is chunk × N similarities.

    Returns:
        Predicted labels `(M,)`.

    Raises:
        ValueError: for k outside 1 … N, T ≤ 0, features of unequal width, or values that are not finite.
    """
    train, queries = unit(train, "train"), unit(queries, "queries")
    train_labels = np.asarray(train_labels)
    if not 1 <= k <= len(train):
        raise ValueError(f"k={k}: expected 1 … {len(train)}, the number of training features")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: expected a positive number")
    if train.shape[1] != queries.shape[1] or len(train_labels) != len(train):
        raise ValueError(
            f"train {train.shape}, its {len(train_labels)} labels and queries {queries.shape} do not fit together"
        )
    classes, predicted = int(train_labels.max()) + 1, []
    for start in range(0, len(queries), chunk):
        similarities = queries[start : start + chunk] @ train.T
        nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        logits = np.take_along_axis(similarities, nearest, 1) / temperature
        weights = np.exp(logits - logits.max(1, keepdims=True))
        votes = np.zeros((len(similarities), classes), weights.dtype)
        np.add.at(votes, (np.arange(len(votes))[:, None], train_labels[nearest]), weights)
        predicted.append(votes.argmax(1))
    return np.concatenate(predicted)


def knn_accuracy(train, train_labels, test, test_labels, k=20, temperature=0.07):
    """Share of test features, 0 … 1, that `knn_predict` puts into their class."""
    return float(np.mean(knn_predict(train, train_labels, test, k, temperature) == np.asarray(test_labels)))
