"""The tab that retrieves from the gallery by example."""

from __future__ import annotations

from html import escape
from pathlib import Path

import gradio as gr
import PIL.Image

from memssl_keras.demo import examples, named
from memssl_keras.demo.asking import DRAG_HINT, ICON_HINT, keep_drawing, path_of, preview
from memssl_keras.demo.cards import Cards, headline, row_of
from memssl_keras.demo.choice import is_drawing
from memssl_keras.demo.naming import Namer
from memssl_keras.demo.pictures import cut, read_upload
from memssl_keras.demo.search import Retrieval, chosen
from memssl_keras.images.read import ImageError

_KINDS = {
    True: "Your picture looks like a drawing; the gallery holds photographs. ",
    False: "Your picture looks like a photograph; the gallery holds drawings. ",
}
_MOST = 100  # results, whatever is asked for
_LARGE = 128  # pixels of a side from which on a picture may hold more than one icon


class Page:
    """What the tab answers, as HTML.

    Args:
        retrieval: of the page's own model.
        others: name of a model to compare with → a function that gives its `Retrieval` of the same gallery.
    """

    def __init__(self, retrieval: Retrieval, others=None):
        self.retrieval, self.others = retrieval, others or {}
        self._usual = None if retrieval.gallery.icons else retrieval.usual_similarity()

    hint = DRAG_HINT

    def look(self, path, part=None, k=12, other=None, *filters) -> tuple[str, str]:
        """Headline and results for a picture's file, or for the page before a search where it is None."""
        if path is None:
            return self.welcome()
        try:
            pixels = read_upload(path)
        except ImageError as error:
            return headline("This picture cannot be read", f"{escape(str(error))}. Try another one."), ""
        if part is not None:
            pixels = cut(pixels, part)
        k = max(1, min(int(k), _MOST))
        # What is chosen from a list is None where nothing is.
        wanted = {
            label: values or []
            for label, values in zip(self.retrieval.gallery.columns, filters, strict=False)
        }
        if other in self.others:
            return self._compare(pixels, k, other, wanted)
        return self._answer(pixels, part, k, wanted)

    def welcome(self) -> tuple[str, str]:
        """What stands there before anything was asked."""
        shown = Cards(self.retrieval.gallery).large(self.retrieval.spread(24))
        return headline("A look into the gallery", "Pick one to search with it, or bring your own."), shown

    def _answer(self, pixels, part, k, wanted):
        cards, found = Cards(self.retrieval.gallery), self.retrieval.search(pixels, k, wanted)
        if found is None:
            return headline("No picture matches these filters", "Untick one of them to see results."), ""
        query = "the part in the box" if part is not None else "your picture"
        if found.itself is not None:
            query = cards.title(found.itself)
        about = self._warning(pixels, float(found.similarities[0])) + _times(found)
        return headline(f"Nearest to {query}", about), cards.large(found.rows, found.similarities)

    def _warning(self, pixels, similarity):
        """What stands before an answer that is none."""
        if self._usual is None or similarity >= self._usual:
            return ""
        said = (
            f"<b>No close match:</b> the nearest has similarity {similarity:.2f}; of the gallery’s own pictures 19 of "
            f"20 have five neighbours of {self._usual:.2f} or more. "
        )
        if is_drawing(pixels) != chosen(self.retrieval.gallery).drawings:
            said += _KINDS[is_drawing(pixels)]
        return said

    def _compare(self, pixels, k, other, wanted):
        try:
            second = self.others[other]()
        except (ValueError, OSError) as error:
            print(f"{other}: {error}")  # with its path, which is for those who run the page
            return headline("This model cannot be compared", f"{escape(other)} is missing or damaged."), ""
        sides = [
            (name, Cards(one.gallery), one.search(pixels, k, wanted))
            for name, one in ((self.retrieval.model.name, self.retrieval), (other, second))
        ]
        if any(found is None for *_, found in sides):
            return headline("No picture matches these filters", "Untick one of them to see results."), ""
        rows = [set(found.rows.tolist()) for *_, found in sides]
        columns = [
            f'<section><h3>{escape(name)}</h3><p class="hint">{_times(found)}</p>'
            f"{cards.large(found.rows, found.similarities)}</section>"
            for name, cards, found in sides
        ]
        about = (
            f"{len(rows[0] & rows[1])} of {len(rows[0])} pictures are found by both models. Compare what they find: "
            "the similarities of one model are on another scale than those of the other."
        )
        return headline("Two models on one picture", about), f'<div class="sides">{"".join(columns)}</div>'

    def pick(self, event: gr.EventData) -> PIL.Image.Image:
        """The picture of a card that was clicked, as a query."""
        return self.retrieval.as_query(row_of(event, self.retrieval.gallery))

    def anew(self, brought: dict | str | None, *settings) -> tuple[str | None, list | None, str, str, str]:
        """What is asked about, no box, and what is shown for the whole picture."""
        path = path_of(brought)
        return path, None, self.hint, *self.look(path, None, *settings)

    def choose(
        self, brought: dict | str, event: gr.EventData, *settings
    ) -> tuple[str, list[float], str, str, str]:
        """What is asked about, the box that was drawn, its part of the picture, and what is shown for that part."""
        path = str(path_of(brought))
        return path, event.part, preview(path, event.part), *self.look(path, event.part, *settings)

    def refuse(self, event: gr.EventData) -> tuple[str, str]:
        """What is shown for a file that is no picture."""
        name = escape(Path(str(getattr(event, "refused", "the file"))).name[:100])
        return headline(
            "This is no picture", f"{name}: expected an image, such as PNG, JPEG, WebP or HEIC."
        ), ""


class IconPage(Page):
    """What the tab answers where the gallery is of icons: their names."""

    hint = ICON_HINT

    def __init__(self, retrieval: Retrieval, others=None):
        super().__init__(retrieval, others)
        self.namer = Namer(retrieval)

    def welcome(self) -> tuple[str, str]:
        about = "Ask about an icon, and its name stands here, as each of the sets calls it, ready to copy."
        return headline("What is in the gallery", about), Cards(self.retrieval.gallery).large(
            self.retrieval.spread(24)
        )

    def _answer(self, pixels, part, k, wanted):
        whole = part is None and max(pixels.shape[:2]) >= _LARGE
        found = self.namer.name(pixels, k, wanted)
        return named.show(self.namer, found, whole, "" if is_drawing(pixels) else _KINDS[False])

    def fetch(self, event: gr.EventData) -> str:
        """The example that was clicked."""
        return str(examples.EXAMPLES[row_of(event, examples.EXAMPLES)].file)

    def first(self, brought: dict | str | None, *settings) -> tuple[str | None, list | None, str, str, str]:
        """As `anew`, with the box of an example."""
        path, box = path_of(brought), None
        if path is not None:
            try:
                box = examples.box_of(read_upload(path))
            except ImageError:
                box = None  # `look` says what is wrong
        if path is None or box is None:
            return self.anew(path, *settings)
        return path, box, preview(path, box), *self.look(path, box, *settings)

    def sketched(self, drawing: dict | None, *settings) -> tuple[str | None, list | None, str, str, str]:
        """As `anew`, for a drawing, which is one icon as a box is."""
        path = keep_drawing(drawing)
        box = None if path is None else [0, 0, 1, 1]
        hint = '<p class="hint">Your drawing is asked about as it stands.</p>'
        return path, box, hint if path else self.hint, *self.look(path, box, *settings)


def _times(found):
    return (
        f"{len(found.rows):,} of {found.among:,} pictures, by cosine similarity · "
        f"encoded in {1000 * found.encoded:.1f} ms, searched in {1000 * found.searched:.1f} ms"
    )
