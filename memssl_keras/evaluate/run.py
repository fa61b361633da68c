"""Models × data sets × tasks: every feature made once, scores side by side, differences with intervals."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.classes import open_classes
from memssl_keras.data.sequences import all_images
from memssl_keras.evaluate.cache import FeatureCache
from memssl_keras.evaluate.embedders import Embedder
from memssl_keras.evaluate.outcome import Settings
from memssl_keras.evaluate.protocols.features import collapsed, unit
from memssl_keras.evaluate.protocols.intervals import paired_bootstrap, student_interval
from memssl_keras.evaluate.retrieval_tasks import has_column, open_retrieval
from memssl_keras.evaluate.tasks import TASKS

FORMAT_VERSION = 2  # of results.json


@dataclasses.dataclass
class Evaluated:
    """A task on a data set.

    Attributes:
        data: Path of the data set.
        task: Its name.
        labelled: The `Labelled` it ran on; None for retrieval of instances and landmarks.
        outcomes: Model → `Outcome`.
        mapped: Model → features `(N, D)` and images of a sample of what was tested, for a map.
        about_data: Notes on the data.
    """

    data: str
    task: str
    labelled: object
    outcomes: dict
    mapped: dict
    about_data: list

    @property
    def summary(self) -> tuple[str, ...]:
        """Names of the scores that stand for the others in a table of all tasks."""
        outcome = next(iter(self.outcomes.values()))
        return outcome.summary or (outcome.headline,)

    @property
    def notes(self) -> list[str]:
        """What was left out or should be known, of the data and of any model; each once."""
        found = list(self.about_data)
        for outcome in self.outcomes.values():
            found += outcome.notes
        return list(dict.fromkeys(found))


def evaluate(
    embedders: Sequence[Embedder],
    data: Sequence[PathLike],
    tasks: Sequence[str] = ("knn",),
    label: str = "label",
    column: str | None = None,
    group: str | None = None,
    by: str | None = None,
    query: str | None = None,
    galleries: Sequence[str] = (),
    ground_truth: PathLike | None = None,
    distractors: PathLike | None = None,
    test_share: float = 0.2,
    settings: Settings | None = None,
    cache: FeatureCache | None = None,
    track: Callable[[Any, str], Iterable] = lambda values, words: values,
) -> list[Evaluated]:
    """Score models on data sets.

    Args:
        embedders: What is scored, `Embedder`s with different names.
        data: Paths of data sets, as `open_classes` takes them.
        tasks: Some of `TASKS`. `"retrieval"` is that of `open_retrieval` where the data has its form, and by class
            elsewhere. A data set that has it and no labels gets that task alone, and a note says so.
        label: Column of labels.
        column: The image column of Parquet, where there are several.
        group, by, query, galleries, ground_truth, distractors: As `open_retrieval` takes them.
        test_share: Of a set that is not split.
        settings: `Settings` of the protocols.
        cache: A `FeatureCache`; features are not kept by default.
        track: From an iterable and a description to the iterable, for a progress bar.

    Returns:
        A list of `Evaluated`, data set by data set and within it task by task.

    Raises:
        ValueError: for an unknown task, equal names, or what is wrong with the data or the features.
    """
    settings, cache = settings or Settings(), cache or FeatureCache()
    if unknown := [task for task in tasks if task not in TASKS]:
        raise ValueError(f"tasks: got {', '.join(unknown)}; expected some of {', '.join(TASKS)}")
    names = [embedder.name for embedder in embedders]
    if len(set(names)) < len(names):
        raise ValueError(f"models: {', '.join(names)}; expected each once")
    if group and not (by and query and galleries):
        raise ValueError(
            f"group={group!r}: expected by, query and gallery as well, which tell queries from gallery"
        )
    evaluated, more = [], _distractors(distractors, column)
    for path in map(str, data):
        special = []
        if "retrieval" in tasks:
            special = open_retrieval(path, group, by, query, galleries, ground_truth, more, column)
        others, notes = [task for task in tasks if task != "retrieval" or not special], []
        labelled = None
        made = {embedder.name: Features(embedder, cache, track) for embedder in embedders}
        if others and special and not has_column(path, label, column):
            notes.append(f"column {label!r} is missing: no {', '.join(others)}")
        elif others:
            labelled = open_classes(path, label, test_share, settings.seed, column)
            labelled = labelled.where(made[names[0]].readable)
        runs = _runs(path, tasks, labelled, special, notes, more)
        for embedder in embedders:
            _score(embedder, made[embedder.name], runs, settings, track)
        evaluated += [into for into, *_ in runs]
    return evaluated


def _distractors(path, column):
    """Every image of a path; of Parquet the column of that name, or else its only one."""
    if path is None:
        return None
    try:
        return all_images(path, column)
    except ValueError:
        return all_images(path)


def _runs(path, tasks, labelled, special, notes, distractors):
    """What is run on a data set: an `Evaluated` to fill, the task, and the images of which a map is drawn."""
    runs = []
    for task in tasks if labelled else ["retrieval"]:
        if task == "retrieval" and special:
            runs += [(Evaluated(path, name, None, {}, {}, notes), run, asked) for name, run, asked in special]
        else:
            extra = {"distractors": distractors} if task == "retrieval" else {}
            run = functools.partial(TASKS[task], labelled, **extra)
            runs.append((Evaluated(path, task, labelled, {}, {}, labelled.notes), run, labelled.test))
    return runs


def _score(embedder, features, runs, settings, track):
    """Run every task with one model's features."""
    for into, run, shown in runs:
        words = f"{embedder.name}: {into.task}"
        outcome = run(features=features, settings=settings, track=functools.partial(_tracked, track, words))
        outcome.notes += features.notes
        into.outcomes[embedder.name], into.mapped[embedder.name] = outcome, _sample(shown, features)


def _tracked(track, words, values):
    return track(values, words)


class Features:
    """Function from `Images` to an embedder's features `(N, D)`, which keeps what it made in memory.

    Attributes:
        embedder: Whose they are.
        notes: In words, what makes their scores meaningless.
    """

    def __init__(self, embedder: Embedder, cache: FeatureCache, track: Callable[[Any, str], Iterable]):
        self.embedder, self.cache, self.track = embedder, cache, track
        self.made: dict[str, np.ndarray] = {}
        self.notes: list[str] = []

    def __call__(self, images):
        return np.concatenate([self._of(part) for part in images.parts])

    def readable(self, images: Any) -> np.ndarray:
        """Mask `(N,)` of the images that can be read."""
        return np.isfinite(self(images)).all(axis=1)

    def of(self, embedder: Embedder) -> Features:
        """The same of an embedder made of this one."""
        return self if embedder is self.embedder else Features(embedder, self.cache, self.track)

    def _of(self, images):
        if images.key not in self.made:
            words = f"{self.embedder.name}: embedding"
            self.made[images.key] = self.cache.features(
                self.embedder, images.source, images.key, lambda starts: self.track(starts, words)
            )
            known = self.made[images.key]
            known = known[np.isfinite(known).all(axis=1)]
            if note := collapsed(known, self.embedder.name):
                self.notes.append(note)
        return self.made[images.key][images.rows]


def _sample(images, features, count=600):
    rows = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    return unit(features(images)[rows], "features"), [images[row] for row in rows]


def differences(evaluated: Evaluated, reference: str) -> list[dict[str, Any]]:
    """The reference less every other model, for each score that can be paired.

    Returns:
        Dicts of `score`, `ours`, `theirs` (names), `difference`, `low`, `high` (of the 95 % interval) and `by`: test
        images (paired bootstrap) or draws (Student's t on their differences).
    """
    ours, rows = evaluated.outcomes[reference], []
    for name, theirs in evaluated.outcomes.items():
        if name == reference:
            continue
        for score, values in ours.paired.items():
            if ours.draws:
                mean, half = student_interval(
                    [a - b for a, b in zip(values, theirs.paired[score], strict=True)]
                )
                found, by = (mean, mean - half, mean + half), "draws"
            else:
                found, by = paired_bootstrap(values, theirs.paired[score]), "test images"
            difference, low, high = found
            rows.append(
                {"score": score, "ours": reference, "theirs": name, "difference": difference}
                | {"low": low, "high": high, "by": by}
            )
    return rows


def results(evaluated: Sequence[Evaluated], reference: str) -> dict[str, Any]:
    """What `results.json` holds: for each data set and task the protocol, scores by model, and what was left out."""
    return {
        "format_version": FORMAT_VERSION,
        "reference": reference,
        "results": [
            {
                "data": pathlib.Path(one.data).name,
                "task": one.task,
                "protocol": next(iter(one.outcomes.values())).protocol,
                "headline": next(iter(one.outcomes.values())).headline,
                "summary": list(one.summary),
                "scores": {name: outcome.scores for name, outcome in one.outcomes.items()},
                "details": {name: outcome.detail for name, outcome in one.outcomes.items() if outcome.detail},
                "differences": differences(one, reference),
                "notes": one.notes,
            }
            for one in evaluated
        ],
    }
