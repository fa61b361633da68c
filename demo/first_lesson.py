"""A lesson to start with, out of the gallery: what it teaches, and what it asks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memssl_keras.demo.search import Retrieval
from memssl_keras.demo.taught import LONGEST_NAME

_CLASSES, _SHOTS = 3, 5


class Lesson(NamedTuple):
    """Rows of the gallery: examples of each class, and one of a taught class that is no example."""

    classes: dict[str, list[int]]
    asked: int | None


def choose_lesson(retrieval: Retrieval) -> Lesson | None:
    """Three classes of five pictures; None where the gallery has no two classes of six.

    Of icons the classes are the things with the most drawings, of other pictures the last values of a column.
    """
    icons = retrieval.gallery.icons is not None
    for names, places in _columns(retrieval.gallery):
        counts = np.bincount(places[places >= 0], minlength=len(names))
        enough = np.flatnonzero(counts > _SHOTS)
        if len(enough) < 2:
            continue
        ordered = enough[np.argsort(counts[enough], kind="stable")] if icons else enough
        chosen = ordered[-_CLASSES:]
        classes = {}
        for value in chosen:
            rows = np.flatnonzero(places == value)
            classes[names[value][:LONGEST_NAME]] = rows[
                np.linspace(0, len(rows) - 1, _SHOTS).astype(int)
            ].tolist()
        taught = [row for rows in classes.values() for row in rows]
        return Lesson(classes, _asked(retrieval, np.flatnonzero(places == chosen[len(chosen) // 2]), taught))
    return None


def _columns(gallery):
    """Names of values, and the position of each picture's value among them."""
    if gallery.icons:
        names, places = np.unique(gallery.icons.groups, return_inverse=True)
        yield names.tolist(), places
    for label in reversed(gallery.columns):
        yield gallery.columns[label]


def _asked(retrieval, rows, taught):
    """The one in the middle of those rows that look like none that is taught."""
    vectors = retrieval.index.vectors
    new = rows[(vectors[rows] @ vectors[taught].T).max(1) < 1 - 1e-6]
    return int(new[len(new) // 2]) if len(new) else None
