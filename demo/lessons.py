"""What the tab "Teach it" does with what was taught: answers, with reasons, as HTML; files; a lesson to start with."""

from __future__ import annotations

import os
import tempfile
from html import escape
from pathlib import Path

import numpy as np

from memssl_keras.demo.cards import grid, headline
from memssl_keras.demo.classifiers import teach
from memssl_keras.demo.first_lesson import choose_lesson
from memssl_keras.demo.pictures import data_uri, read_upload
from memssl_keras.demo.search import Retrieval
from memssl_keras.demo.taught import Taught
from memssl_keras.demo.taught_file import read_taught, write_taught
from memssl_keras.demo.taught_onnx import write_classifier
from memssl_keras.evaluate.protocols.lowshot import CLASSIFIERS, low_shot
from memssl_keras.images.read import ImageError

SHOTS = (1, 2, 3, 4, 5)
_REASONS = 6  # examples that are shown as having spoken for a class
_MOST_JUDGED = 4000  # images of the gallery that the curve takes, at most


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

    def start(self) -> tuple[Taught, int | None]:
        """A lesson to start with: three classes, five pictures of each; and a row of one of them to ask about.

        Nothing is taught where the gallery has neither icons nor a column with classes of six pictures.
        """
        taught, found = Taught(), choose_lesson(self.retrieval)
        if found is None:
            return taught, None
        for name, rows in found.classes.items():
            taught = self.add_rows(taught, name, rows)
        return taught, found.asked

    def panel(self, taught: Taught) -> str:
        """The classes and their examples, each with a button to remove it."""
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
        return "".join(blocks)

    def classify(self, taught: Taught, kind: str, pixels) -> tuple[dict, list]:
        """What a picture is, and why.

        Args:
            taught: two classes or more.
            kind: one of `CLASSIFIERS`.
            pixels: the picture, uint8 `(H, W, 3)`.

        Returns:
            class → probability, the likeliest first; and the examples that spoke for that one, at most six pairs of an
            example's position and its share of all that spoke for it, the most telling first.

        Raises:
            ValueError: as `teach` does.
        """
        classifier = teach(kind, taught.vectors, taught.labels)
        vector = self.retrieval.encoder.embed(pixels)[0]
        probabilities = classifier.probabilities(vector[None])[0]
        order = np.argsort(-probabilities, kind="stable")
        support = np.maximum(classifier.support(vector)[:, order[0]], 0)
        whole, names = float(support.sum()), taught.names
        reasons = [
            (int(row), float(support[row]) / whole)
            for row in np.argsort(-support, kind="stable")[:_REASONS]
            if support[row] > 0
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
        title += '<p class="hint">Shares of all that was said for it.</p>'
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

    def curve(self, label: str, track=iter) -> list[dict]:
        """Accuracy on one half of the gallery after 1 to 5 examples per class of the other half, five draws each.

        Args:
            label: the column to take as classes; those with fewer than ten images are left out.
            track: wraps the numbers of examples, for a progress bar.

        Returns:
            records of `examples per class`, `accuracy` (in per cent) and `classifier`.

        Raises:
            ValueError: the column is unknown, or has fewer than two classes of ten images.
        """
        if label not in self.retrieval.gallery.columns:
            raise ValueError(f"column: got {label!r}; expected {', '.join(self.retrieval.gallery.columns)}")
        values, places = self.retrieval.gallery.columns[label]
        enough = [value for value in range(len(values)) if np.count_nonzero(places == value) >= 10]
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
        return [
            {"examples per class": shot, "accuracy": 100 * result["mean"], "classifier": kind}
            for shot, by_kind in results.items()
            for kind, result in by_kind.items()
        ]
