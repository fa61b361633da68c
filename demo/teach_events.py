"""What a click in the tab that teaches does: from what the components hold to what they show next."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from html import escape

import gradio as gr
import PIL.Image

from memssl_keras.demo.cards import Cards, row_of
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.taught import Taught

_PICKS = 24


@contextlib.contextmanager
def words() -> Iterator[None]:
    """Says what a visitor can mend as a message on the page."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error


def _named(name):
    if not name.strip():
        raise gr.Error("Name the class first, then add its pictures.", print_exception=False)


class TeachEvents:
    """Each public method is an event; the names of the endpoints in `api` are taken, and are none of these.

    Args:
        lessons: the page's `Lessons`.
    """

    def __init__(self, lessons: Lessons):
        self._lessons, self._retrieval = lessons, lessons.retrieval
        self._cards = Cards(lessons.retrieval.gallery)

    def _learnt(self, new: Taught) -> tuple[Taught, str]:
        return new, self._lessons.panel(new)

    def add_files(self, paths: list[str] | None, name: str, taught: Taught) -> tuple[Taught, str]:
        _named(name)
        with words():
            new, wrong = self._lessons.add_files(taught, name, paths or [])
        for problem in wrong:
            gr.Warning(escape(problem))
        return self._learnt(new)

    def add_pick(self, name: str, taught: Taught, event: gr.EventData) -> tuple[Taught, str]:
        _named(name)
        with words():
            return self._learnt(self._lessons.add_rows(taught, name, [self._row(event)]))

    def remove(self, taught: Taught, event: gr.EventData) -> tuple[Taught, str]:
        """Without an example, or without a class."""
        number, example = getattr(event, "name", None), getattr(event, "example", None)
        kept = [row != example and label != number for row, label in enumerate(taught.labels)]
        return self._learnt(taught.keep(kept))

    def begin(self, kind: str) -> tuple[Taught, str, PIL.Image.Image | None, str]:
        """The first lesson: what it teaches, how well, a picture to ask about, and further ones."""
        first = self._lessons.start(kind)
        if first is None:
            gr.Warning("This gallery has no two classes of six pictures to teach.")
            return *self._learnt(Taught()), None, self.some()
        panel = self._lessons.panel(first.taught, first.said)
        return (
            first.taught,
            panel,
            self._retrieval.as_query(first.asked),
            self._cards.small(first.ask, "Ask about"),
        )

    def some(self) -> str:
        """Pictures from all over the gallery to ask about."""
        return self._cards.small(self._retrieval.spread(8), "Ask about")

    def load(self, path: str) -> tuple[Taught, str]:
        with words():
            return self._learnt(self._lessons.load(path))

    def look(self, text: str) -> str:
        """Pictures to pick whose names hold a text, or pictures from all over the gallery."""
        wanted = text.strip().casefold()
        if not wanted:
            return self._cards.small(self._retrieval.spread(_PICKS), "Add")
        names = enumerate(self._retrieval.gallery.names)
        rows = [row for row, name in names if wanted in name.casefold()][:_PICKS]
        if not rows:
            return f'<p class="empty">Nothing is called “{escape(text)}”.</p>'
        return self._cards.small(rows, "Add")

    def show(self, event: gr.EventData) -> PIL.Image.Image:
        return self._retrieval.as_query(self._row(event))

    def answer(self, taught: Taught, kind: str, path: str | None) -> tuple[str, gr.Label, str]:
        with words():
            title, found, why = self._lessons.answer(taught, kind, path)
        return title, gr.Label(found, visible=found is not None), why

    def save(self, taught: Taught) -> gr.File:
        with words():
            return gr.File(self._lessons.save(taught), visible=True)

    def export_onnx(self, taught: Taught, kind: str) -> gr.File:
        with words():
            return gr.File(self._lessons.export(taught, kind), visible=True)

    def _row(self, event):
        return row_of(event, self._retrieval.gallery)
