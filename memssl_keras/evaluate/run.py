"""Models × data sets × tasks: every feature made once, scores side by side, differences with intervals."""

import dataclasses
import pathlib

import numpy as np

from memssl_keras.evaluate.cache import FeatureCache
from memssl_keras.evaluate.data import open_classes, open_groups
from memssl_keras.evaluate.features import unit
from memssl_keras.evaluate.intervals import paired_bootstrap, student_interval
from memssl_keras.evaluate.landmarks import landmark_task, open_landmarks
from memssl_keras.evaluate.tasks import TASKS, Settings, instance_task
from memssl_keras.sources import open_source

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
    """

    data: str
    task: str
    labelled: object
    outcomes: dict
    mapped: dict

    @property
    def notes(self):
        """What was left out or should be known, of the data and of any model; each once."""
        found = [*(self.labelled.notes if self.labelled else [])]
        for outcome in self.outcomes.values():
            found += outcome.notes
        return list(dict.fromkeys(found))


def evaluate(
    embedders,
    data,
    tasks=("knn",),
    label="label",
    group="codepoint",
    by="vendor",
    query="Noto",
    gallery="Twemoji",
    ground_truth=None,
    test_share=0.2,
    settings=None,
    cache=None,
    track=lambda values, words: values,
):
    """Score models on data sets.

    Args:
        embedders: What is scored, `Embedder`s with different names.
        data: Paths of data sets, as `open_classes` takes them.
        tasks: Some of `TASKS`. `"retrieval"` is by `group` where the data has that column, and by class elsewhere.
        label: Column of labels.
        group, by, query, gallery: As `open_groups` takes them.
        ground_truth: Of landmarks: with it, `"retrieval"` is by the revisited protocol, as `open_landmarks` says.
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
    evaluated = []
    for path in map(str, data):
        special = None
        if "retrieval" in tasks and ground_truth is not None:
            found = open_landmarks(path, ground_truth)
            special = landmark_task(found, pathlib.Path(ground_truth).name), found[1]
        elif "retrieval" in tasks and _has_column(path, group):
            groups = open_groups(path, group, by, query, gallery)
            special = instance_task(groups, group, query, gallery), groups[0]
        labelled = None
        if special is None or set(tasks) != {"retrieval"}:
            labelled = open_classes(path, label, test_share, settings.seed)
        runs = {}
        for task in tasks:
            if task == "retrieval" and special:
                runs[task] = Evaluated(path, task, None, {}, {}), *special
            else:
                runs[task] = (
                    Evaluated(path, task, labelled, {}, {}),
                    _on(TASKS[task], labelled),
                    labelled.test,
                )
        for embedder in embedders:
            features = _features(embedder, cache, track)
            for task, (into, run, shown) in runs.items():
                words = f"{embedder.name}: {task}"
                tracked = lambda values, words=words: track(values, words)  # noqa: E731
                outcome = run(features=features, settings=settings, track=tracked)
                into.outcomes[embedder.name], into.mapped[embedder.name] = outcome, _sample(shown, features)
        evaluated += [into for into, *_ in runs.values()]
    return evaluated


def _on(task, labelled):
    return lambda **arguments: task(labelled, **arguments)


def _has_column(path, name):
    # Without an image column of its own choosing this raises what the user has to know anyway.
    split = "test" if pathlib.Path(path).is_dir() and any(pathlib.Path(path).glob("test*.parquet")) else None
    return name in open_source(path, split=split).columns


def _features(embedder, cache, track):
    """Function from `Images` to features, which keeps what it made in memory."""
    made = {}

    def features(images):
        if images.key not in made:
            words = f"{embedder.name}: embedding"
            made[images.key] = cache.features(
                embedder, images.source, images.key, lambda starts: track(starts, words)
            )
        return made[images.key][images.rows]

    return features


def _sample(images, features, count=600):
    rows = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int))
    return unit(features(images)[rows], "features"), [images[row] for row in rows]


def differences(evaluated, reference):
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


def results(evaluated, reference):
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
                "scores": {name: outcome.scores for name, outcome in one.outcomes.items()},
                "details": {name: outcome.detail for name, outcome in one.outcomes.items() if outcome.detail},
                "differences": differences(one, reference),
                "notes": one.notes,
            }
            for one in evaluated
        ],
    }
