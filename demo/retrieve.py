"""The tab that retrieves from the gallery by example."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import PIL.Image
from gradio.data_classes import ImageData

from memssl_keras.demo.cards import ON_CLICK, Cards, headline, row_of
from memssl_keras.demo.pictures import cut, data_uri, read_upload
from memssl_keras.demo.search import Retrieval
from memssl_keras.images.read import ImageError

PLAIN: dict[str, Any] = {"apply_default_css": False, "padding": False}
# Answered at once, side by side: the queue would take longer than the search.
QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}

_DRAG = (Path(__file__).parent / "part.js").read_text(encoding="utf-8")
_DRAG_HINT = (
    '<p class="hint">Drag a box on the picture to search for that part alone<span class="keys">, or '
    '<button type="button" data-keys>place one with the arrow keys</button></span>.'
    '<span class="help"> Arrow keys move it, with Shift they resize it; Enter searches, Escape leaves.</span></p>'
)


def picture_input(label: str, elem_id: str) -> gr.Image:
    """A picture by upload, paste or webcam, as the path of the file as it came."""
    image = gr.Image(
        label=label,
        type="filepath",
        format="png",  # lossless, so that a picture of the gallery is known again
        image_mode=None,
        sources=["upload", "clipboard", "webcam"],
        height=250,
        buttons=[],
        elem_id=elem_id,
    )
    # `read_upload` reads more than the component and says what is wrong.
    image.preprocess = _path_of  # type: ignore[method-assign]
    return image


def _path_of(payload: ImageData | None) -> str | None:
    return payload.path if payload else None


class Page:
    """What the tab answers, as HTML.

    Args:
        retrieval: of the page's own model.
        others: name of a model to compare with → a function that gives its `Retrieval` of the same gallery.
    """

    def __init__(self, retrieval: Retrieval, others=None):
        self.retrieval, self.others = retrieval, others or {}

    def look(self, path, part=None, k=12, other=None, *filters) -> tuple[str, str]:
        """Headline and results for a picture's file, or for the page before a search where it is None."""
        retrieval, cards = self.retrieval, Cards(self.retrieval.gallery)
        if path is None:
            welcome = headline("A look into the gallery", "Pick one to search with it, or bring your own.")
            return welcome, cards.large(retrieval.spread(24))
        try:
            pixels = read_upload(path)
        except ImageError as error:
            return headline("This picture cannot be read", f"{escape(str(error))}. Try another one."), ""
        if part is not None:
            pixels = cut(pixels, part)
        wanted = dict(zip(retrieval.gallery.columns, filters, strict=False))
        found = retrieval.search(pixels, k, wanted)
        if found is None:
            return headline("No picture matches these filters", "Untick one of them to see results."), ""
        query = "the part in the box" if part is not None else "your picture"
        if found.itself is not None:
            query = cards.title(found.itself)
        title = f"Nearest to {query}"
        if other not in self.others:
            return headline(title, _times(found)), cards.large(found.rows, found.similarities)
        try:
            second = self.others[other]()
        except (ValueError, OSError) as error:
            print(f"{other}: {error}")  # with its path, which is for those who run the page
            return headline("This model cannot be compared", f"{escape(other)} is missing or damaged."), ""
        theirs = second.search(pixels, k, wanted)
        common = len(set(found.rows.tolist()) & set(theirs.rows.tolist()))
        about = f"{common} of {len(found.rows)} pictures are found by both models."
        sides = ((retrieval.model.name, cards, found), (other, Cards(second.gallery), theirs))
        columns = [
            f'<section><h3>{escape(name)}</h3><p class="hint">{_times(one)}</p>'
            f"{side.large(one.rows, one.similarities)}</section>"
            for name, side, one in sides
        ]
        return headline(title, about), f'<div class="sides">{"".join(columns)}</div>'

    def pick(self, event: gr.EventData) -> PIL.Image.Image:
        """The picture of a card that was clicked, as a query."""
        return self.retrieval.as_query(row_of(event, self.retrieval.gallery))

    def anew(self, path: str | None, *settings) -> tuple[None, str, str, str]:
        """No box, and what is shown for the whole picture."""
        return None, _DRAG_HINT, *self.look(path, None, *settings)

    def choose(self, path: str, event: gr.EventData, *settings) -> tuple[list[float], str, str, str]:
        """The box that was drawn, its part of the picture, and what is shown for that part."""
        preview = (
            f'<p class="part"><img src="{data_uri(cut(read_upload(path), event.part))}" alt="The part in the box">'
            "Searching for this part. <button type=button>The whole picture again</button></p>"
        )
        return event.part, preview, *self.look(path, event.part, *settings)


def _times(found):
    return (
        f"{len(found.rows):,} of {found.among:,} pictures, by cosine similarity · "
        f"encoded in {1000 * found.encoded:.1f} ms, searched in {1000 * found.searched:.1f} ms"
    )


def _filter(label: str, values: list[str]) -> gr.CheckboxGroup:
    return gr.CheckboxGroup(values, label=label, info="All, until some are ticked")


def build_tab(page: Page) -> gr.Image:
    """Lay the tab out; returns the component of the query."""
    retrieval = page.retrieval
    gallery, cards = retrieval.gallery, Cards(retrieval.gallery)
    part = gr.State(None)
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=4, min_width=300, elem_classes="ask"):
            query = picture_input("Your picture", "query")
            drag = gr.HTML(_DRAG_HINT, js_on_load=_DRAG, elem_id="part", **PLAIN)
            gr.HTML("<p class=lead>Or start with one of these</p>", **PLAIN)
            examples = gr.HTML(
                cards.small(retrieval.spread(8)), js_on_load=ON_CLICK % "#query", elem_id="examples", **PLAIN
            )
            most = min(48, len(gallery))
            k = gr.Slider(1, max(2, most), min(12, most), step=1, label="How many", buttons=[])
            other = gr.Dropdown(
                ["nothing", *page.others],
                value="nothing",
                label="Compare with",
                info="The same query, side by side",
                visible=bool(page.others),
                elem_id="compare",
            )
            filters = [_filter(label, values) for label, (values, _) in gallery.columns.items()]
        with gr.Column(scale=8, min_width=300, elem_classes="found"):
            first, pictures = page.look(None)
            status = gr.HTML(first, elem_id="status", **PLAIN)
            results = gr.HTML(pictures, js_on_load=ON_CLICK % "#query", elem_id="results", **PLAIN)

    settings = [k, other, *filters]
    everything = [part, drag, status, results]
    examples.click(page.pick, None, query, **QUIET)
    results.click(page.pick, None, query, **QUIET)
    query.change(page.anew, [query, *settings], everything, trigger_mode="always_last", **QUIET)
    drag.click(page.anew, [query, *settings], everything, **QUIET)
    drag.select(page.choose, [query, *settings], everything, trigger_mode="always_last", **QUIET)
    slow = QUIET | {"queue": True, "show_progress": "full"}  # a model that is first chosen embeds the gallery
    other.change(page.look, [query, part, *settings], [status, results], trigger_mode="always_last", **slow)
    gr.on(
        [k.change, *(column.change for column in filters)],
        page.look,
        [query, part, *settings],
        [status, results],
        trigger_mode="always_last",
        **QUIET,
    )
    return query
