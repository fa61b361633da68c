"""Instance retrieval: is another picture of the same thing among the nearest?"""

import numpy as np

from memssl_keras.evaluate.features import unit


def recall_at(queries, query_groups, gallery, gallery_groups, ks=(1, 5, 10)):
    """Share of queries with a picture of their own group among the k most similar of the gallery.

    Args:
        queries: Features `(Q, D)`.
        query_groups: What each shows, `(Q,)`.
        gallery: Features `(N, D)`.
        gallery_groups: What each shows, `(N,)`.
        ks: Numbers of neighbours, each 1 … N.

    Returns:
        k → recall, 0 … 1, over the queries whose group the gallery holds, and the number of those left out.

    Raises:
        ValueError: for k outside 1 … N, or where no group of the queries is in the gallery.
    """
    queries, gallery = unit(queries, "queries"), unit(gallery, "gallery")
    query_groups, gallery_groups = np.asarray(query_groups), np.asarray(gallery_groups)
    if not all(1 <= k <= len(gallery) for k in ks):
        raise ValueError(f"ks={tuple(ks)}: expected numbers in 1 … {len(gallery)}, the size of the gallery")
    answerable = np.isin(query_groups, gallery_groups)
    if not answerable.any():
        raise ValueError("no group of the queries is in the gallery")
    order = np.argsort(-(queries[answerable] @ gallery.T), axis=1, kind="stable")
    right = gallery_groups[order] == query_groups[answerable][:, None]
    return {k: float(right[:, :k].any(1).mean()) for k in ks}, int((~answerable).sum())
