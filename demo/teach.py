"""The tab that learns classes from a few pictures. What is taught lives in the visitor's session alone."""

from __future__ import annotations

import contextlib
from html import escape

import gradio as gr
import pandas as pd

from memssl_keras.demo.cards import ON_CLICK, Cards, row_of
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.retrieve import PLAIN, QUIET, picture_input
from memssl_keras.demo.taught import Taught

_ON_REMOVE = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-example], [data-class]');
    if (!button) return;
    trigger('click', 'class' in button.dataset
        ? {name: Number(button.dataset.class)} : {example: Number(button.dataset.example)});
});
"""
_PICKS = 24
FIRST = "logistic"
# What changes a session runs by itself: two clicks at once would lose one.
ONE_BY_ONE = {**QUIET, "queue": True, "concurrency_limit": 1, "concurrency_id": "teach"}


def build_tab(lessons: Lessons) -> None:
    """Lay the tab out and connect it."""
    retrieval = lessons.retrieval
    gallery, cards = retrieval.gallery, Cards(retrieval.gallery)
    taught = gr.State(Taught(), time_to_live=3600)
    picks = cards.small(retrieval.spread(_PICKS), "Add")
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=6, min_width=300, elem_classes="ask"):
            name = gr.Textbox(
                label="Class", placeholder="Such as: my mug", max_length=60, max_lines=1, elem_id="class-name"
            )
            with gr.Row():
                upload = gr.UploadButton(
                    "Add pictures to it", file_count="multiple", elem_id="class-pictures"
                )
                first = gr.Button("A first lesson", elem_id="first-lesson", visible=bool(gallery.columns))
            with gr.Accordion("Or pick its pictures from the gallery", open=True):
                find = gr.Textbox(placeholder="Find by name", show_label=False, max_lines=1, elem_id="find")
                pick = gr.HTML(picks, js_on_load=ON_CLICK % "#class-name", elem_id="picks", **PLAIN)
            panel = gr.HTML(lessons.panel(Taught()), js_on_load=_ON_REMOVE, elem_id="taught", **PLAIN)
            with gr.Accordion("Keep it", open=False, elem_id="keep"):
                with gr.Row():
                    save = gr.Button("Save", elem_id="save")
                    loaded = gr.UploadButton("Load", file_types=[".safetensors"], elem_id="load")
                    export = gr.Button("Export as ONNX", elem_id="export")
                files = gr.File(label="Your file", interactive=False, visible=False, elem_id="kept")
        with gr.Column(scale=6, min_width=300, elem_classes="found"):
            query = picture_input("What is it?", "question")
            ask = gr.HTML(
                cards.small(retrieval.spread(8), "Ask about"),
                js_on_load=ON_CLICK % "#question",
                elem_id="ask-examples",
                **PLAIN,
            )
            kind = gr.Radio(
                [("Logistic regression", "logistic"), ("Nearest class mean", "class mean"), ("k-NN", "k-NN")],
                value=FIRST,
                label="Classifier",
                elem_id="classifier",
            )
            status, answers, reasons = lessons.answer(Taught(), FIRST, None)
            status = gr.HTML(status, elem_id="answer", **PLAIN)
            answers = gr.Label(
                answers,
                num_top_classes=8,
                show_heading=False,
                show_label=False,
                visible=False,
                elem_id="classes",
            )
            reasons = gr.HTML(reasons, elem_id="reasons", **PLAIN)
            if gallery.columns:
                _curve(lessons)

    def show(event: gr.EventData):
        return retrieval.as_query(row_of(event, gallery))

    def learnt(new):
        return new, lessons.panel(new)

    def add_files(paths, name, taught):
        with words():
            new, wrong = lessons.add_files(taught, name, paths or [])
        for problem in wrong:
            gr.Warning(escape(problem))
        return learnt(new)

    def add_pick(name, taught, event: gr.EventData):
        with words():
            return learnt(lessons.add_rows(taught, name, [row_of(event, gallery)]))

    def remove(taught, event: gr.EventData):
        number, example = getattr(event, "name", None), getattr(event, "example", None)
        labels = taught.labels
        return learnt(taught.keep([i != example and label != number for i, label in enumerate(labels)]))

    def begin():
        new, row = lessons.start()
        return (*learnt(new), None if row is None else retrieval.as_query(row))

    def look(text):
        wanted = text.strip().casefold()
        if not wanted:
            return picks
        rows = [row for row, name in enumerate(gallery.names) if wanted in name.casefold()][:_PICKS]
        return (
            cards.small(rows, "Add") if rows else f'<p class="empty">Nothing is called “{escape(text)}”.</p>'
        )

    def answer(taught, kind, path):
        with words():
            title, found, why = lessons.answer(taught, kind, path)
        return title, gr.Label(found, visible=found is not None), why

    def load(path):
        with words():
            return learnt(lessons.load(path))

    def keep(make):
        def kept(*arguments):
            with words():
                return gr.File(make(*arguments), visible=True)

        return kept

    known = [taught, panel]
    asked = (answer, [taught, kind, query], [status, answers, reasons])
    for learning in (
        upload.upload(add_files, [upload, name, taught], known, **ONE_BY_ONE),
        pick.click(add_pick, [name, taught], known, **ONE_BY_ONE),
        panel.click(remove, taught, known, **ONE_BY_ONE),
        first.click(begin, None, [*known, query], **ONE_BY_ONE),
        loaded.upload(load, loaded, known, **ONE_BY_ONE),
    ):
        learning.success(*asked, trigger_mode="always_last", **QUIET)
    gr.on([query.change, kind.change], *asked, trigger_mode="always_last", **QUIET)
    find.input(look, find, pick, trigger_mode="always_last", **QUIET)
    ask.click(show, None, query, **QUIET)
    save.click(keep(lessons.save), taught, files, **ONE_BY_ONE)
    export.click(keep(lessons.export), [taught, kind], files, **ONE_BY_ONE)


def _curve(lessons):
    """How accuracy grows with the number of examples, on a column of the gallery."""
    columns = list(lessons.retrieval.gallery.columns)
    with gr.Accordion("How many examples are enough?", open=False, elem_id="curve"):
        gr.HTML(
            '<p class="hint">Half of the gallery teaches a column’s values, the other half asks: five draws, '
            "1 to 5 examples per value.</p>",
            **PLAIN,
        )
        with gr.Row():
            column = gr.Dropdown(columns, value=columns[-1], label="Column", elem_id="curve-column")
            measure = gr.Button("Measure", elem_id="measure")
        plot = gr.LinePlot(
            x="examples per class",
            y="accuracy",
            color="classifier",
            y_title="accuracy, %",
            x_axis_format="d",
            visible=False,
            elem_id="curve-plot",
        )

    def measured(column, progress=gr.Progress()):  # noqa: B008, gradio's way to ask for one
        with words():
            return gr.LinePlot(pd.DataFrame(lessons.curve(column, progress.tqdm)), visible=True)

    measure.click(measured, column, plot, api_visibility="private", concurrency_limit=1)


@contextlib.contextmanager
def words():
    """Says what a visitor can mend as a message on the page."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error
