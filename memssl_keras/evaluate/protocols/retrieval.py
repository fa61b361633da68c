"""Retrieval: are the other pictures of the same thing, or class, ranked first?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from memssl_keras.evaluate.protocols.features import unit

RECALL_LEVELS = np.linspace(0, 1, 21)


@dataclasses.dataclass(frozen=True)
class Retrieval:
    """Scores of the queries that the gallery holds a positive for.

    Attributes:
        recall: k → whether a positive is among the first k, `(A,)` of 0 and 1.
        precision: k → share of positives among the first k, `(A,)`.
        average_precision: `(A,)`.
        positives: How many the gallery holds, `(A,)`.
        place: Of the first positive in the ranking, from 1 on, `(A,)`.
        curve: Precision, interpolated and averaged over queries, at the recall of `RECALL_LEVELS`.
        answered: Which of the queries these are, mask `(Q,)`.
        nearest: Gallery rows that come first for each of them, `(A, up to 10)`.
    """

    recall: dict
    precision: dict
    average_precision: np.ndarray
    positives: np.ndarray
    place: np.ndarray
    curve: np.ndarray
    answered: np.ndarray
    nearest: np.ndarray

    @property
    def skipped(self) -> int:
        """Number of queries without a positive in the gallery."""
        return int((~self.answered).sum())

    @property
    def scores(self) -> dict[str, float]:
        """Means by name: `recall@k` and `precision@k` for each k, and `mAP`."""
        scores = {f"recall@{k}": float(v.mean()) for k, v in self.recall.items()}
        scores |= {f"precision@{k}": float(v.mean()) for k, v in self.precision.items()}
        return scores | {"mAP": float(self.average_precision.mean())}


def average_precision(relevant: np.ndarray) -> float:
    """Mean of the precision at each relevant item of a ranking `(N,)` of flags, best first.

    Raises:
        ValueError: where nothing is relevant.

    Example:
        >>> from memssl_keras.evaluate.protocols.retrieval import average_precision
        >>> round(average_precision([True, False, True]), 4)  # (1/1 + 2/3) / 2
        0.8333
    """
    places = np.flatnonzero(relevant)
    if not len(places):
        raise ValueError("relevant: nothing is; a query without a positive has no average precision")
    return float((np.arange(1, len(places) + 1) / (places + 1)).mean())


def retrieve(
    queries: np.ndarray,
    query_groups: Any,
    gallery: np.ndarray,
    gallery_groups: Any,
    ks: Sequence[int] = (1, 5, 10),
    same: bool = False,
    chunk: int = 256,
) -> Retrieval:
    """Rank the gallery by cosine similarity for every query; equal similarities keep the gallery's order.

    Args:
        queries: Features `(Q, D)`.
        query_groups: What each shows, `(Q,)`.
        gallery: Features `(N, D)`.
        gallery_groups: What each shows, `(N,)`.
        ks: Numbers of neighbours, each 1 … N.
        same: Queries are the first images of the gallery; each is left out of its own ranking, and k goes to N − 1.
        chunk: Queries compared at a time; memory is chunk × N similarities.

    Returns:
        A `Retrieval`; queries without a positive are skipped and counted in it.

    Raises:
        ValueError: for k out of range, features or groups that do not fit together, features that are not finite, or
            where no query has a positive.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.protocols.retrieval import retrieve
        >>> found = retrieve([[1, 0.1]], ["cat"], np.eye(2), ["dog", "cat"], ks=(1, 2))
        >>> found.scores["recall@1"], found.scores["recall@2"], found.scores["mAP"]
        (0.0, 1.0, 0.5)
    """
    queries, gallery = unit(queries, "queries"), unit(gallery, "gallery")
    query_groups, gallery_groups = np.asarray(query_groups), np.asarray(gallery_groups)
    if queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"queries {queries.shape} and gallery {gallery.shape}: expected one width")
    for name, features, groups in (
        ("query_groups", queries, query_groups),
        ("gallery_groups", gallery, gallery_groups),
    ):
        if len(features) != len(groups):
            raise ValueError(f"{name}: {len(groups)} for {len(features)} features; expected one each")
    if same and not np.array_equal(queries, gallery[: len(queries)]):
        raise ValueError(
            f"same=True: the gallery's first {len(queries)} of {len(gallery)} images are not the queries"
        )
    offered = len(gallery) - same
    if not all(1 <= k <= offered for k in ks):
        raise ValueError(f"ks={tuple(ks)}: expected numbers in 1 … {offered}, the size of the gallery")
    values, together = np.unique(np.concatenate([query_groups, gallery_groups]), return_inverse=True)
    query_groups, gallery_groups = together[: len(queries)], together[len(queries) :]
    answered = np.bincount(gallery_groups, minlength=len(values))[query_groups] > same
    if not answered.any():
        raise ValueError("no group of the queries is in the gallery")
    asked = np.flatnonzero(answered)
    recall, precision = ({k: np.empty(len(asked)) for k in ks} for _ in range(2))
    ap, positives, place = np.empty(len(asked)), np.empty(len(asked), int), np.empty(len(asked), int)
    curve, first = np.zeros(len(RECALL_LEVELS)), []
    for start in range(0, len(asked), chunk):
        rows = asked[start : start + chunk]
        similarities = queries[rows] @ gallery.T
        if same:
            similarities[np.arange(len(rows)), rows] = -np.inf
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :offered]
        relevant, part = gallery_groups[order] == query_groups[rows][:, None], slice(start, start + chunk)
        for k in ks:
            recall[k][part], precision[k][part] = relevant[:, :k].any(1), relevant[:, :k].mean(1)
        ap[part] = [average_precision(row) for row in relevant]
        positives[part], place[part] = relevant.sum(1), relevant.argmax(1) + 1
        curve += sum(_interpolated(row) for row in relevant)
        first.append(order[:, :10])
    return Retrieval(
        recall, precision, ap, positives, place, curve / len(asked), answered, np.concatenate(first)
    )


def _interpolated(relevant):
    """Largest precision at any recall of at least each of `RECALL_LEVELS`."""
    places = np.flatnonzero(relevant)
    precision = np.arange(1, len(places) + 1) / (places + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    needed = np.maximum(np.ceil(RECALL_LEVELS * len(places) - 1e-9).astype(int), 1)
    return best[needed - 1]
