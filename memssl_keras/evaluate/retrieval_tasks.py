"""Retrieval as `memssl evaluate` runs it: by class, by instance, of copies, and of landmarks."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.sequences import Images
from memssl_keras.data.sources import open_source
from memssl_keras.evaluate.data.groups import Asked, is_copies, open_copies, open_groups, with_distractors
from memssl_keras.evaluate.data.landmarks import open_landmarks
from memssl_keras.evaluate.data.scales import at_scales
from memssl_keras.evaluate.outcome import Outcome, Settings
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.retrieval import retrieve
from memssl_keras.evaluate.protocols.revisited import GroundTruth, revisited, trapezoidal_average_precision

if TYPE_CHECKING:
    from memssl_keras.data.classes import Labelled
    from memssl_keras.evaluate.run import Features


def open_retrieval(
    path: PathLike,
    group: str | None,
    by: str | None,
    query: str | None,
    galleries: Sequence[str],
    ground_truth: PathLike | None = None,
    distractors: Images | None = None,
    column: str | None = None,
) -> list[tuple[str, Callable, Any]]:
    """What retrieval on a data set is, where it is not by class.

    Args:
        path: The data set.
        group, by, query: As `open_groups` takes them.
        galleries: Its galleries, one after the other.
        ground_truth: Of landmarks, as `open_landmarks` takes it.
        distractors: More images for every gallery.
        column: The image column of Parquet, where there are several.

    Returns:
        List of name, task (called as those in `TASKS`, without `data`) and the images of which a map is drawn; empty
        where the data set has neither ground truth nor the form of Copydays nor the column.
    """
    if ground_truth is not None:
        queries, gallery, truth = open_landmarks(path, ground_truth)
        words = (
            f"revisited protocol by {pathlib.Path(ground_truth).name}, {len(queries)} queries, gallery of "
        )
        nobody = np.zeros(0, int), gallery, np.zeros(len(gallery), int)
        asked = with_distractors(Asked(queries, *nobody, f"{words}{len(gallery):,}"), distractors)
        return [("retrieval", functools.partial(landmarks, asked, truth), asked.gallery)]
    if is_copies(path):
        blocks = {name: with_distractors(asked, distractors) for name, asked in open_copies(path).items()}
        return [("retrieval", functools.partial(copies, blocks), blocks["strong"].gallery)]
    if group is None or not has_column(path, group, column):
        return []
    found: list[tuple[str, Callable, Any]] = []
    for searched in galleries:
        asked = with_distractors(open_groups(path, group, by, query, searched, column), distractors)
        name = f"retrieval ({query} in {' and '.join(value.strip() for value in searched.split(','))})"
        found.append((name, functools.partial(instances, asked), asked.queries))
    return found


def by_class(
    data: Labelled,
    features: Features,
    settings: Settings,
    track: Callable = iter,
    distractors: Images | None = None,
) -> Outcome:
    """Test images among the other test images, and among distractors, by class."""
    protocol = f"retrieval by class, {len(data.test):,} test images, each among the others"
    asked = with_distractors(
        Asked(data.test, data.test_labels, data.test, data.test_labels, protocol), distractors
    )
    return _retrieved(asked, features, settings, same=True)


def instances(asked: Asked, features: Features, settings: Settings, track: Callable = iter) -> Outcome:
    """Queries of one origin in a gallery of another, by what they show."""
    return _retrieved(asked, features, settings, same=False)


def copies(
    blocks: dict[str, Asked], features: Features, settings: Settings, track: Callable = iter
) -> Outcome:
    """Originals found by their distorted copies: mean average precision by the trapezium rule, as published.

    The published figures come from features of their own (patch tokens beside CLS, whitened); these are the cosine
    similarities of the embeddings.
    """
    features, paired, notes = _scaled(features, settings), {}, []
    for name, asked in blocks.items():
        queries, gallery = (unit(features(images), "features") for images in (asked.queries, asked.gallery))
        answered = np.isin(asked.query_groups, asked.gallery_groups)
        if not answered.all():
            notes.append(f"{name}: {(~answered).sum()} queries without an original are skipped")
        scores = []
        for query, group in zip(queries[answered], asked.query_groups[answered], strict=True):
            order = np.argsort(-(gallery @ query), kind="stable")
            ranks = np.flatnonzero(asked.gallery_groups[order] == group)
            scores.append(trapezoidal_average_precision(ranks, len(ranks)))
        if scores:
            paired[f"mAP {name}"] = np.array(scores)
        notes += asked.notes
    if not paired:
        raise ValueError(
            "copies: no query has an original; expected names that share their first four characters"
        )
    means = {name: float(values.mean()) for name, values in paired.items()}
    protocol = _protocol(blocks["strong"], settings)
    return Outcome(protocol, means, next(iter(means)), paired, notes=list(dict.fromkeys(notes)))


def landmarks(
    asked: Asked, truth: GroundTruth, features: Features, settings: Settings, track: Callable = iter
) -> Outcome:
    """The revisited protocol on what `open_landmarks` returned."""
    features, paired, notes = _scaled(features, settings), {}, list(asked.notes)
    scores: dict[str, float] = {}
    found = revisited(features(asked.queries), features(asked.gallery), truth.relevant, settings.at)
    for difficulty in ("medium", "hard", "easy"):
        row = found[difficulty]
        if row["skipped"]:
            notes.append(f"{difficulty}: {row['skipped']} queries without a positive are skipped")
        if row["queries"]:
            paired[f"mAP {difficulty}"] = np.array(row["average_precision"])
            scores |= {
                f"{name} {difficulty}": value
                for name, value in row.items()
                if name.startswith(("mAP", "mP@"))
            }
    if not scores:
        raise ValueError(f"ground truth: none of {len(truth.queries)} queries has a positive")
    summary = tuple(name for name in ("mAP medium", "mAP hard") if name in scores)
    return Outcome(
        _protocol(asked, settings), scores, next(iter(scores)), paired, notes=notes, summary=summary
    )


def _retrieved(asked, features, settings, same):
    features, offered = _scaled(features, settings), len(asked.gallery) - same
    at = [k for k in settings.at if k <= offered] or [1]
    notes = list(asked.notes)
    if beyond := [k for k in settings.at if k not in at]:
        notes.append(f"k = {', '.join(map(str, beyond))}: more than the {offered} of the gallery, skipped")
    found = retrieve(
        features(asked.queries),
        asked.query_groups,
        features(asked.gallery),
        asked.gallery_groups,
        at,
        same=same,
    )
    paired = {f"recall@{k}": v for k, v in found.recall.items()} | {"mAP": found.average_precision}
    paired |= {f"precision@{k}": v for k, v in found.precision.items()}
    rows, pages = np.flatnonzero(found.answered), []
    for i in np.unique(np.linspace(0, len(rows) - 1, min(8, len(rows))).round().astype(int)):
        right = asked.gallery_groups[found.nearest[i]] == asked.query_groups[rows[i]]
        pages.append((asked.queries, int(rows[i]), asked.gallery, found.nearest[i], right.tolist()))
    # Where each query has one positive, precision does not depend on recall: there is a place and nothing else.
    curve = {"curve": found.curve} if found.positives.max() > 1 else {"places": found.place}
    if found.skipped:
        notes.append(f"{found.skipped} queries without a positive in the gallery are skipped")
    return Outcome(
        _protocol(asked, settings),
        found.scores,
        next(iter(found.scores)),
        paired,
        notes=notes,
        drawn={"neighbours": pages, **curve},
        summary=(next(iter(found.scores)), "mAP"),
    )


def _protocol(asked, settings):
    several = ", ".join(f"{scale:.3g}" for scale in settings.scales)
    return asked.words if tuple(settings.scales) == (1,) else f"{asked.words}, at scales {several}"


def _scaled(features, settings):
    return features.of(at_scales(features.embedder, settings.scales))


def has_column(path: PathLike, name: str, column: str | None = None) -> bool:
    """Whether a data set has a column of that name; `column` is its image column, where there are several."""
    split = "test" if pathlib.Path(path).is_dir() and any(pathlib.Path(path).glob("test*.parquet")) else None
    return name in open_source(path, split=split, column=column).columns
