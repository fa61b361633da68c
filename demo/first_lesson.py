"""A lesson to start with, out of the gallery: classes that the encoder separates well and one that it does not."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from memssl_keras.demo.classifiers import teach
from memssl_keras.demo.search import Retrieval
from memssl_keras.demo.taught import LONGEST_NAME, Taught
from memssl_keras.evaluate.protocols.features import unit

_CLASSES, _SHOTS = 4, 5
_POOL = 60  # classes that are looked at, those with the most pictures


class Lesson(NamedTuple):
    """Rows of the gallery for each class: examples to teach, and further ones that look like none, to ask about."""

    classes: dict[str, list[int]]
    further: dict[str, list[int]]


class Measured(NamedTuple):
    """How the further pictures of a class of the lesson are answered by what was taught."""

    pictures: int
    right: int
    confidence: float  # mean probability of the answers that are given
    mistaken: str | None  # what most of the wrong answers say; None where all are right


def choose_lesson(retrieval: Retrieval) -> Lesson | None:
    """Four classes of five pictures; None where the gallery has no two classes of six.

    Classes are the things of icons, of other pictures the values of a column. One is the class whose further pictures
    are most often nearer to another class, and that other class is one too; the rest are those that are least often
    nearer to any. Nearness is by the mean of a class's five examples.
    """
    for names, places in _columns(retrieval.gallery):
        counts = np.bincount(places[places >= 0], minlength=len(names))
        enough = np.flatnonzero(counts > _SHOTS)
        if len(enough) < 2:
            continue
        pool = enough[np.argsort(-counts[enough], kind="stable")][:_POOL]
        parts = [_split(np.flatnonzero(places == value)) for value in pool]
        chosen = _choose(_nearer(retrieval.index.vectors, parts))
        examples = np.concatenate([parts[one][0] for one in chosen])
        lesson = Lesson({}, {})
        for one in chosen:
            title = names[pool[one]][:LONGEST_NAME]
            lesson.classes[title] = parts[one][0].tolist()
            if further := _unlike(retrieval.index.vectors, parts[one][1], examples):
                lesson.further[title] = further
        if lesson.further:
            return lesson
    return None


def measure(taught: Taught, lesson: Lesson, retrieval: Retrieval, kind: str) -> dict[str, Measured]:
    """Answer the further pictures of a lesson by what was taught of it, with a classifier of `CLASSIFIERS`."""
    classifier, names = teach(kind, taught.vectors, taught.labels), taught.names
    found = {}
    for name, rows in lesson.further.items():
        probabilities = classifier.probabilities(retrieval.index.vectors[rows])
        answers = [names[place] for place in probabilities.argmax(1)]
        wrong = Counter(answer for answer in answers if answer != name)
        mistaken = wrong.most_common(1)[0][0] if wrong else None
        confidence = float(probabilities.max(1).mean())
        found[name] = Measured(len(rows), len(rows) - wrong.total(), confidence, mistaken)
    return found


def _columns(gallery):
    """Names of values, and the position of each picture's value among them."""
    if gallery.icons:
        names, places = np.unique(gallery.icons.groups, return_inverse=True)
        yield names.tolist(), places
    for label in reversed(gallery.columns):
        yield gallery.columns[label]


def _split(rows):
    """Five rows spread evenly, and the others."""
    examples = rows[np.linspace(0, len(rows) - 1, _SHOTS).astype(int)]
    return examples, np.setdiff1d(rows, examples)


def _unlike(vectors, rows, examples):
    """Those rows that look like no example: several sets draw some things alike to the pixel."""
    return rows[(vectors[rows] @ vectors[examples].T).max(1) < 1 - 1e-6].tolist()


def _nearer(vectors, parts):
    """Which share of a class's further pictures is nearer to another class's mean than to its own, `(P, P)`."""
    means = unit(np.stack([vectors[examples].mean(0) for examples, _ in parts]), "class means")
    shares = []
    for own, (_, further) in enumerate(parts):
        similarities = vectors[further] @ means.T
        shares.append((similarities > similarities[:, [own]]).mean(0))
    return np.stack(shares)


def _choose(nearer):
    """The best separated classes first, then what the worst is taken for, and the worst."""
    worst = int(nearer.max(1).argmax())
    other = int(np.delete(np.arange(len(nearer)), worst)[np.delete(nearer[worst], worst).argmax()])
    order = np.argsort(np.maximum(nearer.max(1), nearer.max(0)), kind="stable")
    best = [int(one) for one in order if one not in (worst, other)][: _CLASSES - 2]
    return [*best, other, worst]
