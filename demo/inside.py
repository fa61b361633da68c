"""The tab that looks inside: the gallery as a map, what a ViT attends to, and what its training memory saw."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from html import escape
from pathlib import Path

import gradio as gr

from memssl_keras.demo import blocks
from memssl_keras.demo.asking import PLAIN, QUIET, picture_input
from memssl_keras.demo.attention import LastAttention, draw
from memssl_keras.demo.cards import ON_CLICK, Cards, headline, row_of
from memssl_keras.demo.map import lay_out, map_rows, shipped_map
from memssl_keras.demo.pictures import address, data_uri, read_upload
from memssl_keras.demo.recall import Recall, open_recall
from memssl_keras.demo.search import Retrieval
from memssl_keras.files import cache_folder
from memssl_keras.images.read import ImageError

_COLOURS = (
    "#6366f1", "#f59e0b", "#10b981", "#ef4444", "#06b6d4", "#ec4899", "#84cc16", "#8b5cf6", "#f97316", "#14b8a6",
)  # fmt: skip
_OTHER = "#9ca3af"
_NEAREST = 12
_TICK = 1.0  # seconds

_DOTS = (Path(__file__).parent / "dots.js").read_text(encoding="utf-8")


class Inside:
    """What the tab shows, as HTML.

    Args:
        retrieval: the page's `Retrieval`.
        serve: called with the memory that the model ships, before its pictures are shown.
    """

    def __init__(self, retrieval: Retrieval, serve=lambda memory: None):
        self.retrieval, self._serve = retrieval, serve
        self.rows = map_rows(len(retrieval.gallery))
        self._computing, self._fetching = threading.Lock(), threading.Lock()

    @functools.cached_property
    def _laid_out(self):
        revision = self.retrieval.model.revision
        if self.retrieval.gallery.bundled:
            places = shipped_map(revision, len(self.rows))
            if places is not None:
                return places
        return lay_out(self.retrieval.index.vectors[self.rows], cache_folder("demo") / revision)

    @property
    def places(self):
        """Where the images `rows` are on the map, float32 `(M, 2)` from 0 to 1; some seconds the first time."""
        with self._computing:
            return self._laid_out

    def picture(self) -> str:
        """The map: a dot for each picture, in the colour of its value of the gallery's last column."""
        gallery = self.retrieval.gallery
        label = list(gallery.columns)[-1] if gallery.columns else None
        values, found = gallery.columns[label] if label else ([], None)

        def colour(place):
            return _COLOURS[place] if 0 <= place < len(_COLOURS) else _OTHER

        dots = []
        for first, (row, (x, y)) in enumerate(zip(self.rows.tolist(), self.places, strict=True)):
            tint = colour(int(found[row])) if label else _COLOURS[0]
            dots.append(
                f'<button type="button" class="dot" tabindex="{-1 if first else 0}" data-row="{row}" '
                f'data-picture="{address(gallery, row)}" aria-label="{escape(gallery.title(row))}" '
                f'style="left:{100 * x:.2f}%;top:{100 * y:.2f}%;background:{tint}"></button>'
            )
        legend = "".join(
            f'<li><span style="background:{colour(place)}"></span>{escape(value)}</li>'
            for place, value in enumerate(values[: len(_COLOURS)])
        )
        if len(values) > len(_COLOURS):
            legend += f'<li><span style="background:{_OTHER}"></span>others</li>'
        about = (
            f"A map of {len(self.rows):,} pictures: those that the encoder finds alike are near each other. "
            "Arrow keys go from one to the next, Enter finds its look-alikes"
        )
        drawn = f'<div class="map" role="group" aria-label="{about}">{"".join(dots)}</div>'
        return f'{drawn}<ul class="legend">{legend}</ul>'

    def drawing(self) -> Iterator[str]:
        """How far the map is, once a second, and at last the map."""
        started = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            drawn = pool.submit(self.picture)
            while True:
                try:
                    yield drawn.result(timeout=_TICK)
                    return
                except TimeoutError:
                    if drawn.done():  # it is the map's own
                        raise
                    yield (
                        f'<p class="empty" role="status">The map of {len(self.rows):,} pictures is being drawn, for '
                        f"{time.monotonic() - started:.0f} s now. It takes some ten seconds for 2,000, and is kept.</p>"
                    )

    @functools.cached_property
    def _attention(self):
        try:
            return LastAttention(self.retrieval.model)
        except ValueError:
            return None

    def attention(self, pixels) -> str:
        """What a ViT's last block attends to, all heads and each; empty for another encoder."""
        with self._computing:
            look = self._attention
        if look is None:
            return ""
        seen, weights = look(pixels)
        shown = [("All heads", weights.mean(0))]
        shown += [(f"Head {number}", one) for number, one in enumerate(weights[:12], 1)]
        figures = "".join(
            f'<figure><img src="{data_uri(draw(seen, one))}" alt="Where {name.lower()} of the last block look">'
            f"<figcaption>{name}</figcaption></figure>"
            for name, one in shown
        )
        return f'<p class="lead">What the last block looks at</p><div class="attention">{figures}</div>'

    @functools.cached_property
    def _opened(self) -> tuple[Recall | None, str | None]:
        """The memory, where the model ships one, and why it cannot be shown, where it cannot."""
        try:
            recall = open_recall(self.retrieval.model)
        except (ValueError, OSError) as error:
            # With its path, which is for those who run the page.
            print(f"{self.retrieval.model.name}: {error}")
            return None, "the memory of this model is damaged or cannot be fetched"
        if recall:
            self._serve(recall.memory)
        return recall, None

    @property
    def recall(self) -> Recall | None:
        """The memory that the model ships, or None where it ships none.

        Raises:
            ValueError: it is damaged or cannot be fetched.
        """
        with self._fetching:
            recall, problem = self._opened
        if problem:
            raise ValueError(problem)
        return recall

    def remember(self, path=None, draw: int = 0) -> tuple[str, str, bool]:
        """What the memory is, its blocks' nearest to a picture, and whether other blocks can be drawn.

        Empty where the model ships none.
        """
        try:
            recall = self.recall
        except ValueError as error:
            said = f"{str(error)[0].upper()}{str(error)[1:]}."
            return headline(blocks.TITLE, said), "", False
        if recall is None:
            return "", "", False
        try:
            pixels = path and read_upload(path)
        except ImageError:
            pixels = None  # said where the look-alikes would be
        if pixels is None:
            return blocks.about(recall), blocks.WAITING, False
        return blocks.about(recall), blocks.show(recall, recall.look_up(pixels, draw)), True

    def mark(self, path) -> tuple[str, str, str]:
        """Headline, the nearest pictures of the gallery at their places on the map, and the attention."""
        if path is None:
            return headline("How the encoder sees the gallery", self._about()), "", ""
        try:
            pixels = read_upload(path)
        except ImageError as error:
            return headline("This picture cannot be read", f"{escape(str(error))}. Try another one."), "", ""
        # Of a large gallery a part is on the map, spread evenly: so many more are looked at.
        more = 2 * len(self.retrieval.gallery) // len(self.rows)
        found = self.retrieval.search(pixels, _NEAREST * more)
        gallery, places = self.retrieval.gallery, self.places
        at = {int(row): place for row, place in zip(self.rows, places, strict=True)}
        rows = [] if found is None else [int(row) for row in found.rows if int(row) in at][:_NEAREST]
        marks = "".join(
            f'<img src="{address(gallery, row)}" alt="{escape(gallery.title(row))}" '
            f'style="left:{100 * at[row][0]:.2f}%;top:{100 * at[row][1]:.2f}%">'
            for row in rows
        )
        spread = f"The {len(rows)} nearest pictures that are on the map."
        over = f'<div class="marks">{marks}</div>'
        return headline("Where its look-alikes are", spread), over, self.attention(pixels)

    def _about(self):
        whole = len(self.retrieval.gallery)
        part = "" if len(self.rows) == whole else f" {len(self.rows):,} of {whole:,}, spread evenly."
        return (
            f"Each dot is a picture; alike is near, by t-SNE of {self.retrieval.encoder.embed_dim} numbers.{part} "
            "Point at one to see it, or go there with the arrow keys; click it to find its look-alikes."
        )


def build_tab(tab: gr.Tab, inside: Inside) -> None:
    """Lay the tab out; the map is computed when it is first looked at."""
    retrieval = inside.retrieval
    cards = Cards(retrieval.gallery)
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=4, min_width=300, elem_classes="ask"):
            query = picture_input("Find a picture on the map", "placed")
            examples = gr.HTML(
                cards.small(retrieval.spread(8), "Find"),
                js_on_load=ON_CLICK % "#map-frame",
                elem_id="inside-examples",
                **PLAIN,
            )
            attention = gr.HTML("", elem_id="attention", **PLAIN)
        with gr.Column(scale=8, min_width=300, elem_classes="found"):
            first, *_ = inside.mark(None)
            status = gr.HTML(first, elem_id="inside-status", **PLAIN)
            with gr.Column(elem_id="map-frame"):
                picture = gr.HTML(
                    '<p class="empty">The map is being drawn …</p>',
                    js_on_load=_DOTS + ON_CLICK % "#map-frame",
                    elem_id="map",
                    **PLAIN,
                )
                marks = gr.HTML("", elem_id="marks", **PLAIN)
    draw = gr.State(0)
    memory = gr.HTML("", elem_id="memory", **PLAIN)
    again = gr.Button("Draw other blocks", visible=False, elem_id="draw", size="sm")
    nearest = gr.HTML("", elem_id="blocks", **PLAIN)

    def remember(path, draw):
        about, shown, more = inside.remember(path, draw)
        return about, shown, gr.Button(visible=more)

    def draw_again(path, draw):
        return (draw + 1, *remember(path, draw + 1))

    def show(event: gr.EventData):
        return retrieval.as_query(row_of(event, retrieval.gallery))

    tab.select(inside.drawing, None, picture, **QUIET | {"queue": True, "concurrency_limit": None})
    tab.select(remember, [query, draw], [memory, nearest, again], **QUIET)
    again.click(
        draw_again, [query, draw], [draw, memory, nearest, again], trigger_mode="always_last", **QUIET
    )
    examples.click(show, None, query, **QUIET)
    picture.click(show, None, query, **QUIET)
    query.change(inside.mark, query, [status, marks, attention], trigger_mode="always_last", **QUIET)
    query.change(remember, [query, draw], [memory, nearest, again], trigger_mode="always_last", **QUIET)
