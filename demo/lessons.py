"""What the tab "Teach it" does with what was taught: answers, with reasons, as HTML; files; a lesson to start with."""

from __future__ import annotations

import os
import tempfile
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memssl_keras.demo.cards import grid, headline
from memssl_keras.demo.classifiers import teach
from memssl_keras.demo.first_lesson import Measured, choose_lesson, measure
from memssl_keras.demo.pictures import data_uri, read_upload
from memssl_keras.demo.search import Retrieval
from memssl_keras.demo.taught import Taught
from memssl_keras.demo.taught_file import read_taught, write_taught
from memssl_keras.demo.taught_onnx import write_classifier
from memssl_keras.evaluate.protocols.lowshot import CLASSIFIERS, low_shot
from memssl_keras.images.read import ImageError

SHOTS = (1, 2, 3, 4, 5)
_REASONS = 6  # examples that are shown as having spoken for a class
# Of the curve: images of the gallery, classes and images of a class.
_MOST_JUDGED, _MOST_CLASSES, _FEWEST = 4000, 100, 10
THINGS = "Thing"  # in place of a column of icons


class FirstLesson(NamedTuple):
    """What the page shows of a lesson to start with."""

    taught: Taught
    asked: int  # a row of the gallery, of a class that was taught and no example of it
    ask: list[int]  # such rows of all classes
    said: str  # how well the classes are told apart, as HTML


class Lessons:
    """Teaches with the page's encoder and gallery. It keeps nothing of a visitor.

    Args:
        retrieval: the page's `Retrieval`.
    """

    def __init__(self, retrieval: Retrieval):
        self.retrieval = retrieval

    def add_files(self, taught: Taught, name: str, paths) -> tuple[Taught, list[str]]:
        """With the pictures of these files as examples of a class, and what is wrong with the others, in words.

        Raises:
            ValueError: as `Taught.add` does; nothing is added then.
        """
        pictures, wrong = [], []
        for path in paths:
            try:
                pictures.append(read_upload(path))
            except ImageError as error:
                wrong.append(str(error))
        return taught.add(name, self.retrieval.encoder.embed(pictures), pictures), wrong

    def add_rows(self, taught: Taught, name: str, rows) -> Taught:
        """With pictures of the gallery as examples of a class."""
        pictures = [self.retrieval.gallery.read(row) for row in rows]
        return taught.add(name, self.retrieval.index.vectors[list(rows)], pictures)

    def start(self, kind: str = "logistic") -> FirstLesson | None:
        """A lesson to start with: four classes, five pictures of each; one of the worst separated ones is among them.

        None where the gallery has neither icons nor a column with two classes of six pictures.

        Args:
            kind: one of `CLASSIFIERS`, which the classes are measured by.
        """
        lesson, taught = choose_lesson(self.retrieval), Taught()
        if lesson is None:
            return None
        for name, rows in lesson.classes.items():
            taught = self.add_rows(taught, name, rows)
        measured = measure(taught, lesson, self.retrieval, kind)
        ask = [row for rows in lesson.further.values() for row in rows[:: max(1, len(rows) // 2)][:2]]
        return FirstLesson(taught, ask[0], ask, _measured(measured, kind))

    def panel(self, taught: Taught, said: str = "") -> str:
        """The classes and their examples, each with a button to remove it; `said` of a first lesson stands above."""
        if not len(taught):
            return (
                '<p class="empty">Nothing is taught yet. Name a class, give it one to five pictures, then a second '
                "class. Or let the gallery teach a first lesson.</p>"
            )
        blocks, names = [], taught.names
        for number, name in enumerate(names):
            title, rows = escape(name), [i for i, other in enumerate(taught.classes) if other == name]
            pictures = "".join(
                f'<button type="button" class="example" data-example="{i}" title="Remove example {n} of {title}">'
                f'<img src="{data_uri(taught.pictures[i])}" alt="Example {n} of {title}"></button>'
                for n, i in enumerate(rows, 1)
            )
            blocks.append(
                f'<section class="class"><h3>{title} <span>{len(rows)}</span><button type="button" '
                f'data-class="{number}" aria-label="Remove the class {title}">Remove</button></h3>{pictures}</section>'
            )
        return said + "".join(blocks)

    def classify(self, taught: Taught, kind: str, pixels) -> tuple[dict, list]:
        """What a picture is, and why.

        Args:
            taught: two classes or more.
            kind: one of `CLASSIFIERS`.
            pixels: the picture, uint8 `(H, W, 3)`.

        Returns:
            class → probability, the likeliest first; and the examples of that one that spoke for it, at most six pairs
            of an example's position and its share of all that spoke for it, the most telling first. Examples of other
            classes, which speak for it by being unlike the picture, are left out.

        Raises:
            ValueError: as `teach` does.
        """
        classifier = teach(kind, taught.vectors, taught.labels)
        vector = self.retrieval.encoder.embed(pixels)[0]
        probabilities = classifier.probabilities(vector[None])[0]
        order = np.argsort(-probabilities, kind="stable")
        support = np.maximum(classifier.support(vector)[:, order[0]], 0)
        whole, names = float(support.sum()), taught.names
        own = np.where(taught.labels == order[0], support, 0)
        reasons = [
            (int(row), float(own[row]) / whole)
            for row in np.argsort(-own, kind="stable")[:_REASONS]
            if own[row] > 0
        ]
        return {names[place]: float(probabilities[place]) for place in order}, reasons

    def answer(self, taught: Taught, kind: str, path) -> tuple[str, dict | None, str]:
        """Headline, probability by class, and the examples that spoke for the first of them."""
        if len(taught.names) < 2:
            missing = "two classes" if not taught.names else "a second class"
            return headline("What is it?", f"Teach {missing} first, then ask about any picture."), None, ""
        if path is None:
            return headline("What is it?", "Ask about a picture: drop one, or click one below it."), None, ""
        try:
            pixels = read_upload(path)
        except ImageError as error:
            return (
                headline("This picture cannot be read", f"{escape(str(error))}. Try another one."),
                None,
                "",
            )
        answers, reasons = self.classify(taught, kind, pixels)
        best = next(iter(answers))
        cards = [
            f'<figure class="card"><img src="{data_uri(taught.pictures[row])}" '
            f'alt="An example of {escape(taught.classes[row])}">'
            f'<figcaption class="name">{escape(taught.classes[row])}</figcaption>'
            f'<span class="similarity">{share:.0%}</span></figure>'
            for row, share in reasons
        ]
        about = f"{answers[best]:.0%}, by {kind}, from {len(taught)} examples"
        title = f"<h3>What spoke for “{escape(best)}”</h3>"
        title += (
            '<p class="hint">Its own examples, with their share of all that was said for it. The rest was said by '
            "how unlike the other classes’ examples are.</p>"
        )
        return headline(escape(best), about), answers, title + grid("reasons", cards) if cards else ""

    def save(self, taught: Taught) -> str:
        """What was taught, as a file for `load`."""
        model = self.retrieval.model
        path = (
            Path(tempfile.mkdtemp(prefix="taught-", dir=os.environ.get("GRADIO_TEMP_DIR")))
            / "taught.safetensors"
        )
        return str(write_taught(path, taught, model.name, model.revision))

    def load(self, path) -> Taught:
        """What `save` wrote, here or elsewhere; see `read_taught` for what is raised."""
        model = self.retrieval.model
        return read_taught(path, model.name, model.revision, model.encoder.embed_dim)

    def export(self, taught: Taught, kind: str) -> str:
        """The classifier as an ONNX file of raw pixels; see `write_classifier`."""
        model, classifier = self.retrieval.model, teach(kind, taught.vectors, taught.labels)
        path = (
            Path(tempfile.mkdtemp(prefix="taught-", dir=os.environ.get("GRADIO_TEMP_DIR")))
            / "classifier.onnx"
        )
        return str(write_classifier(path, model.file, model.encoder, classifier, taught.names))

    @property
    def curve_columns(self) -> list[str]:
        """What the curve can take as classes: the things of icons, and the columns of the gallery."""
        return [*([THINGS] if self.retrieval.gallery.icons else []), *self.retrieval.gallery.columns]

    def curve(self, label: str, track=iter) -> list[dict]:
        """Accuracy on one half of the gallery after 1 to 5 examples per class of the other half, five draws each.

        Args:
            label: one of `curve_columns`; classes with fewer than ten images are left out, and of more than 100
                those with the most images are taken.
            track: wraps the numbers of examples, for a progress bar.

        Returns:
            records of `examples per class`, `accuracy` (in per cent) and `classifier`; the last of these is `chance`,
            which guesses a class.

        Raises:
            ValueError: the column is unknown, or has fewer than two classes of ten images.
        """
        if label not in self.curve_columns:
            raise ValueError(f"column: got {label!r}; expected {', '.join(self.curve_columns)}")
        icons, columns = self.retrieval.gallery.icons, self.retrieval.gallery.columns
        if label == THINGS and icons:
            places = np.unique(icons.groups, return_inverse=True)[1]
        else:
            places = columns[label][1]
        counts = np.bincount(places[places >= 0])
        enough = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
        enough = enough[counts[enough] >= _FEWEST]
        if len(enough) < 2:
            raise ValueError(f"column: {label} has {len(enough)} values of ten or more images; expected two")
        rng = np.random.default_rng(0)
        halves = []
        for value in enough:
            rows = rng.permutation(np.flatnonzero(places == value))[: _MOST_JUDGED // len(enough)]
            halves.append((rows[: len(rows) // 2], rows[len(rows) // 2 :]))
        train, test = (np.concatenate(half) for half in zip(*halves, strict=True))
        vectors = self.retrieval.index.vectors
        results, _ = low_shot(
            vectors[train], places[train], vectors[test], places[test], SHOTS, 5, CLASSIFIERS, track=track
        )
        figures = {
            shot: {kind: result["mean"] for kind, result in by.items()} for shot, by in results.items()
        }
        return [
            {"examples per class": shot, "accuracy": 100 * share, "classifier": kind}
            for shot, by_kind in figures.items()
            for kind, share in {**by_kind, "chance": 1 / len(enough)}.items()
        ]


def _measured(measured: dict[str, Measured], kind: str) -> str:
    """How well the classes of a lesson are told apart, by figures."""
    rows, order = [], sorted(measured, key=lambda name: -measured[name].right / measured[name].pictures)
    for name in order:
        one = measured[name]
        mistaken = f", the others mostly taken for “{escape(one.mistaken)}”" if one.mistaken else ""
        rows.append(
            f"<li><b>{escape(name)}</b>: {one.right} of {one.pictures} further pictures right{mistaken}; "
            f"mean confidence {one.confidence:.0%}</li>"
        )
    return (
        f'<div class="measured"><p>Measured on the rest of these classes, by {kind} from five pictures of each: '
        f"the encoder separates <b>{escape(order[0])}</b> best and <b>{escape(order[-1])}</b> worst.</p>"
        f"<ul>{''.join(rows)}</ul></div>"
    )
