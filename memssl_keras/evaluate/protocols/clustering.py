"""Clustering: do the clusters of frozen features agree with the classes?"""

from __future__ import annotations

import numpy as np

from memssl_keras.evaluate.protocols.features import unit


def cluster(features: np.ndarray, clusters: int, seed: int = 0, restarts: int = 5) -> np.ndarray:
    """Cluster `(N,)` of each feature `(N, D)` by k-means on unit-length features.

    Raises:
        ValueError: for fewer than 2 clusters, more clusters than features, or features that are not finite.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    features = unit(features, "features")
    if not 2 <= clusters <= len(features):
        raise ValueError(f"clusters={clusters}: expected 2 … {len(features)}, the number of features")
    with threadpool_limits(1):  # short steps, as in the linear probe
        return KMeans(clusters, n_init=restarts, random_state=seed).fit_predict(features)


def agreement(labels: np.ndarray, clusters: np.ndarray) -> dict[str, float]:
    """How far two partitions `(N,)` agree: `NMI` (arithmetic mean), `AMI` and `ARI`; 1 where they are the same.

    The two adjusted ones are 0 in expectation where they have nothing in common.

    Raises:
        ValueError: for unequal lengths, or one class only.

    References:
        Vinh et al., Information Theoretic Measures for Clusterings Comparison, JMLR 11 (2010); Hubert and Arabie,
        Comparing partitions, Journal of Classification 2 (1985).

    Example:
        >>> from memssl_keras.evaluate.protocols.clustering import agreement
        >>> agreement([0, 0, 1, 1], [1, 1, 0, 0])
        {'NMI': 1.0, 'AMI': 1.0, 'ARI': 1.0}
    """
    from sklearn import metrics

    if len(labels) != len(clusters):
        raise ValueError(f"{len(labels)} labels and {len(clusters)} clusters: expected one each")
    if len(np.unique(labels)) < 2:
        raise ValueError("labels: one class only; expected two or more to agree with")
    return {
        "NMI": float(metrics.normalized_mutual_info_score(labels, clusters)),
        "AMI": float(metrics.adjusted_mutual_info_score(labels, clusters)),
        "ARI": float(metrics.adjusted_rand_score(labels, clusters)),
    }
