"""The tab that asks the gallery about a picture, laid out and connected."""

from __future__ import annotations

import gradio as gr

from memssl_keras.demo import examples
from memssl_keras.demo.asking import DRAG, PLAIN, PLAINLY, QUIET, drawing_input, picture_input
from memssl_keras.demo.cards import ON_CLICK, Cards
from memssl_keras.demo.retrieve import IconPage, Page

_MANY = 12  # values of a column from which on they are chosen from a list
_MOST, _MOST_THINGS = 48, 12


def build_tab(page: Page) -> gr.Image:
    """Lay the tab out; returns the component of the query."""
    gallery, icons = page.retrieval.gallery, isinstance(page, IconPage)
    asked, part = gr.State(None), gr.State(None)
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=4, min_width=300, elem_classes="ask"):
            query, sketch = _inputs(icons)
            drag = gr.HTML(page.hint, js_on_load=DRAG, elem_id="part", **PLAIN)
            gr.HTML(f"<p class=lead>Or {'try' if icons else 'start with'} one of these</p>", **PLAIN)
            some = examples.cards() if icons else Cards(gallery).small(page.retrieval.spread(8))
            start = gr.HTML(some, js_on_load=ON_CLICK % "#query", elem_id="examples", **PLAIN)
            settings = _settings(page, icons)
        with gr.Column(scale=8, min_width=300, elem_classes="found"):
            first, pictures = page.look(None)
            status = gr.HTML(first, elem_id="status", **PLAIN)
            results = gr.HTML(pictures, js_on_load=ON_CLICK % "#query", elem_id="results", **PLAIN)

    everything, fast = [asked, part, drag, status, results], QUIET | PLAINLY
    if isinstance(page, IconPage):
        start.click(page.fetch, None, query, **QUIET)
        query.change(page.first, [query, *settings], everything, trigger_mode="always_last", **fast)
        sketch.change(page.sketched, [sketch, *settings], everything, trigger_mode="always_last", **QUIET)
    else:
        start.click(page.pick, None, query, **QUIET)
        query.change(page.anew, [query, *settings], everything, trigger_mode="always_last", **fast)
    results.click(page.pick, None, query, **QUIET)
    drag.click(page.anew, [query, *settings], everything, **fast)
    drag.select(page.choose, [query, *settings], everything, trigger_mode="always_last", **fast)
    drag.upload(page.refuse, None, [status, results], **QUIET)
    slow = QUIET | {"queue": True, "show_progress": "full"}  # a model that is first chosen embeds the gallery
    k, other, *filters = settings
    shown = [page.look, [asked, part, *settings], [status, results]]
    other.change(*shown, trigger_mode="always_last", **slow)
    gr.on([k.change, *(one.change for one in filters)], *shown, trigger_mode="always_last", **fast)
    return query


def _inputs(icons):
    """The picture that is brought, and, for icons, the drawing."""
    if not icons:
        return picture_input("Your picture", "query"), None
    with gr.Tabs(elem_id="asking"):
        with gr.Tab("Picture", id="picture"):
            query = picture_input("1. Paste, drop, upload or photograph", "query")
        with gr.Tab("Draw", id="draw"):
            sketch = drawing_input()
    return query, sketch


def _settings(page, icons):
    """How many, the model to compare with, and a filter for each column of the gallery."""
    gallery = page.retrieval.gallery
    most = min(_MOST_THINGS if icons else _MOST, len(gallery))
    columns = list(gallery.columns.items())
    filters = [_filter(columns[0], "Pin a set")] if icons else []
    with gr.Accordion("More", open=not icons, elem_id="more"):
        label = "How many things it may be" if icons else "How many"
        k = gr.Slider(1, max(2, most), min(4 if icons else 12, most), step=1, label=label, buttons=[])
        other = gr.Dropdown(
            ["nothing", *page.others],
            value="nothing",
            label="Compare with",
            info="The same query, side by side",
            visible=bool(page.others),
            elem_id="compare",
        )
        filters += [_filter(column) for column in columns[len(filters) :]]
    return [k, other, *filters]


def _filter(column, label=None):
    name, (values, _) = column
    if label or len(values) > _MANY:
        return gr.Dropdown(
            values, value=[], multiselect=True, label=label or name, elem_id=f"filter-{name.lower()}"
        )
    return gr.CheckboxGroup(values, label=name, info="All, until some are ticked")
