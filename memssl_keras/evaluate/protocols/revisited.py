"""The revisited Oxford and Paris protocol: retrieval of landmarks, easy, medium and hard, with junk passed over.

References:
    Radenović et al., Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking, CVPR 2018
    (arXiv 1803.11285); Philbin et al., Object Retrieval with Large Vocabularies and Fast Spatial Matching, CVPR 2007,
    for the average precision.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.evaluate.protocols.features import unit

# Name -> what counts as a positive, and what is passed over as if it were not there.
DIFFICULTIES = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


@dataclasses.dataclass(frozen=True)
class GroundTruth:
    """What belongs to which query.

    Attributes:
        images: Names of the gallery, without suffix.
        queries: Names of the queries.
        relevant: Per query a dict of gallery rows by `"easy"`, `"hard"` and `"junk"`, and `"bbx"`, the box of the
            query in its picture (left, top, right, bottom), or None.
    """

    images: list
    queries: list
    relevant: list


def read_ground_truth(path: PathLike) -> GroundTruth:
    """Read ground truth from JSON of the published structure: `imlist`, `qimlist` and `gnd`.

    The published files (`gnd_roxford5k.pkl`) are pickles, which can run anything: they are refused. Where they are
    trusted they become JSON by `json.dump(data, file, default=lambda a: a.tolist())`.

    Raises:
        ValueError: where the file is a pickle, no JSON, or of another structure, or a row is not in the gallery.
    """
    path = pathlib.Path(path)
    if path.suffix in (".pkl", ".pickle"):
        raise ValueError(
            f"{path}: pickles are not read, they can run code; expected JSON of the same structure"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not text; expected JSON with imlist, qimlist and gnd") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict) or not {"imlist", "qimlist", "gnd"} <= set(found):
        raise ValueError(f"{path}: expected an object with imlist, qimlist and gnd")
    images, queries, relevant = found["imlist"], found["qimlist"], found["gnd"]
    if len(queries) != len(relevant):
        raise ValueError(
            f"{path}: {len(queries)} queries in qimlist and {len(relevant)} in gnd; expected as many"
        )
    checked = []
    for query, truth in zip(queries, relevant, strict=True):
        rows = {}
        for kind in ("easy", "hard", "junk"):
            if kind not in truth:
                raise ValueError(f"{path}: query {query!r} has no list {kind!r}; it has {', '.join(truth)}")
            rows[kind] = np.asarray(truth[kind], "int64").reshape(-1)
            if len(rows[kind]) and not 0 <= rows[kind].min() <= rows[kind].max() < len(images):
                raise ValueError(
                    f"{path}: {kind} of query {query!r} names rows outside 0 … {len(images) - 1}"
                )
        checked.append(rows | {"bbx": truth.get("bbx")})
    return GroundTruth(images, queries, checked)


def trapezoidal_average_precision(ranks: Any, positives: int) -> float:
    """Area under precision over recall by the trapezium rule, as the benchmark has it.

    Args:
        ranks: Places of the positives in the ranking from 0 on, ascending; junk is taken out before.
        positives: How many there are, at least 1.

    Example:
        >>> from memssl_keras.evaluate.protocols.revisited import trapezoidal_average_precision
        >>> trapezoidal_average_precision([1], 1)  # second place: (0 + 1/2) / 2
        0.25
    """
    ranks = np.asarray(ranks, float)
    if positives < 1:
        raise ValueError(f"positives={positives}: expected 1 or more")
    found = np.arange(len(ranks))
    before = np.where(ranks == 0, 1.0, found / np.maximum(ranks, 1))
    after = (found + 1) / (ranks + 1)
    return float(((before + after) / 2).sum() / positives)


def revisited(
    queries: np.ndarray,
    gallery: np.ndarray,
    relevant: Sequence[dict[str, Any]],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, dict[str, Any]]:
    """mAP and mean precision at k of the revisited protocol.

    Args:
        queries: Features `(Q, D)`, of the boxes cut from the query pictures.
        gallery: Features `(N, D)`.
        relevant: Per query the gallery rows by `"easy"`, `"hard"` and `"junk"`, as in `GroundTruth`.
        ks: Numbers of neighbours; past the last positive, precision is taken at it.

    Returns:
        Difficulty → dict of `mAP`, `mP@k` (None where no query has a positive there), `queries` (scored), `skipped`
        (without a positive there) and `average_precision` (a list, of the scored ones).

    Raises:
        ValueError: for features that do not fit together or are not finite, as many `relevant` as queries missing, or
            a k below 1.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.protocols.revisited import revisited
        >>> truth = [{"easy": [0], "hard": [2], "junk": [1]}]
        >>> scores = revisited([[1, 0]], [[1, 0.2], [1, 0.1], [0, 1]], truth)
        >>> scores["easy"]["mAP"], scores["medium"]["mAP"]
        (1.0, 1.0)
    """
    queries, gallery = unit(queries, "queries"), unit(gallery, "gallery")
    if queries.shape[1] != gallery.shape[1] or len(queries) != len(relevant):
        raise ValueError(
            f"queries {queries.shape}, gallery {gallery.shape} and ground truth of {len(relevant)} queries do not fit "
            "together"
        )
    if not all(k >= 1 for k in ks):
        raise ValueError(f"ks={tuple(ks)}: expected numbers of 1 or more")
    rows: dict[str, Any] = {
        name: {"ap": [], "precision": {k: [] for k in ks}, "skipped": 0} for name in DIFFICULTIES
    }
    for query, truth in zip(queries, relevant, strict=True):
        order = np.argsort(-(gallery @ query), kind="stable")
        for name, (positive, ignored) in DIFFICULTIES.items():
            wanted, passed = (
                np.concatenate([np.asarray(truth[kind], "int64") for kind in kinds])
                for kinds in (positive, ignored)
            )
            if not len(wanted):
                rows[name]["skipped"] += 1
                continue
            kept = order[~np.isin(order, passed)]
            ranks = np.flatnonzero(np.isin(kept, wanted))
            rows[name]["ap"].append(trapezoidal_average_precision(ranks, len(wanted)))
            for k, values in rows[name]["precision"].items():
                reach = min(int(ranks.max()) + 1, k)
                values.append(float((ranks < reach).sum() / reach))
    return {
        name: {
            "mAP": _mean(row["ap"]),
            **{f"mP@{k}": _mean(values) for k, values in row["precision"].items()},
            "queries": len(row["ap"]),
            "skipped": row["skipped"],
            "average_precision": row["ap"],
        }
        for name, row in rows.items()
    }


def _mean(values):
    """Of no query there is no mean."""
    return float(np.mean(values)) if values else None
