"""The tab that learns classes from a few pictures. What is taught lives in the visitor's session alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from memssl_keras.demo.asking import PLAIN, QUIET, picture_input
from memssl_keras.demo.cards import ON_CLICK
from memssl_keras.demo.curve import draw_curve
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.taught import Taught
from memssl_keras.demo.teach_events import TeachEvents, words

_ON_REMOVE = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-example], [data-class]');
    if (!button) return;
    trigger('click', 'class' in button.dataset
        ? {name: Number(button.dataset.class)} : {example: Number(button.dataset.example)});
});
// A reload loses what was taught and is not saved; the first lesson is at hand again.
let kept = '';
const examples = () => [...element.querySelectorAll('.example')].map((one) => one.title).join();
document.addEventListener('taught-saved', () => { kept = examples(); });
window.addEventListener('beforeunload', (event) => {
    if (examples() && examples() !== kept && !element.querySelector('.measured')) event.preventDefault();
});
"""
# The file is downloaded at the click that makes it; its name stands below for those whose browser refuses.
_DOWNLOAD = """(file) => {
    const {url, orig_name} = Array.isArray(file) ? file[0] : file;
    Object.assign(document.createElement('a'), {href: url, download: orig_name}).click();
    %s
}"""
_SAVED = "document.dispatchEvent(new Event('taught-saved'));"
FIRST = "logistic"
# What changes a session runs by itself: two clicks at once would lose one.
ONE_BY_ONE: dict[str, Any] = {**QUIET, "queue": True, "concurrency_limit": 1, "concurrency_id": "teach"}


class _Teaching(NamedTuple):
    """Components of the side that teaches."""

    name: gr.Textbox
    upload: gr.UploadButton
    first: gr.Button
    find: gr.Textbox
    pick: gr.HTML
    panel: gr.HTML
    save: gr.Button
    load: gr.UploadButton
    export: gr.Button
    files: gr.File


class _Asking(NamedTuple):
    """Components of the side that asks."""

    query: gr.Image
    examples: gr.HTML
    kind: gr.Radio
    status: gr.HTML
    answers: gr.Label
    reasons: gr.HTML


def build_tab(lessons: Lessons) -> None:
    """Lay the tab out and connect it."""
    taught = gr.State(Taught(), time_to_live=3600)
    events = TeachEvents(lessons)
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=6, min_width=300, elem_classes="ask"):
            teaching = _teaching_side(lessons, events.look(""))
        with gr.Column(scale=6, min_width=300, elem_classes="found"):
            asking = _asking_side(lessons, events.some())
            if lessons.retrieval.gallery.columns:
                _curve(lessons)
    _connect(events, taught, teaching, asking)


def _teaching_side(lessons, picks):
    with_columns = bool(lessons.retrieval.gallery.columns)
    name = gr.Textbox(
        label="1. Name a class",
        placeholder="Such as: my mug",
        max_length=60,
        max_lines=1,
        elem_id="class-name",
    )
    with gr.Row():
        upload = gr.UploadButton(
            "2. Add pictures to it", variant="primary", file_count="multiple", elem_id="class-pictures"
        )
        first = gr.Button("A first lesson", elem_id="first-lesson", visible=with_columns)
    with gr.Accordion("Or click pictures of the gallery to add them", open=True):
        find = gr.Textbox(placeholder="Find by name", show_label=False, max_lines=1, elem_id="find")
        pick = gr.HTML(picks, js_on_load=ON_CLICK % "#class-name", elem_id="picks", **PLAIN)
    panel = gr.HTML(lessons.panel(Taught()), js_on_load=_ON_REMOVE, elem_id="taught", **PLAIN)
    with gr.Accordion("Keep it", open=False, elem_id="keep"):
        with gr.Row():
            save = gr.Button("Save", elem_id="save")
            load = gr.UploadButton("Load", file_types=[".safetensors"], elem_id="load")
            # What trims its pictures cannot be put into one graph.
            whole = lessons.retrieval.encoder.preprocessing.trim is None
            export = gr.Button("Export as ONNX", elem_id="export", visible=whole)
        files = gr.File(label="Your file", interactive=False, visible=False, elem_id="kept")
    return _Teaching(name, upload, first, find, pick, panel, save, load, export, files)


def _asking_side(lessons, some):
    query = picture_input("3. Ask: what is it?", "question")
    examples = gr.HTML(
        some,
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
    title, found, why = lessons.answer(Taught(), FIRST, None)
    status = gr.HTML(title, elem_id="answer", **PLAIN)
    answers = gr.Label(
        found, num_top_classes=8, show_heading=False, show_label=False, visible=False, elem_id="classes"
    )
    reasons = gr.HTML(why, elem_id="reasons", **PLAIN)
    return _Asking(query, examples, kind, status, answers, reasons)


def _connect(events, taught, teaching, asking):
    known = [taught, teaching.panel]
    asked = [taught, asking.kind, asking.query], [asking.status, asking.answers, asking.reasons]
    for learning in (
        teaching.upload.upload(
            events.add_files, [teaching.upload, teaching.name, taught], known, **ONE_BY_ONE
        ),
        teaching.pick.click(events.add_pick, [teaching.name, taught], known, **ONE_BY_ONE),
        teaching.panel.click(events.remove, taught, known, **ONE_BY_ONE),
        teaching.first.click(
            events.begin, asking.kind, [*known, asking.query, asking.examples], **ONE_BY_ONE
        ),
        teaching.load.upload(events.load, teaching.load, known, **ONE_BY_ONE),
    ):
        learning.success(events.answer, *asked, trigger_mode="always_last", **QUIET)
    changes = [asking.query.change, asking.kind.change]
    gr.on(changes, events.answer, *asked, trigger_mode="always_last", **QUIET)
    teaching.find.input(events.look, teaching.find, teaching.pick, trigger_mode="always_last", **QUIET)
    asking.examples.click(events.show, None, asking.query, **QUIET)
    for making, then in (
        (teaching.save.click(events.save, taught, teaching.files, **ONE_BY_ONE), _SAVED),
        (teaching.export.click(events.export_onnx, [taught, asking.kind], teaching.files, **ONE_BY_ONE), ""),
    ):
        making.success(None, teaching.files, None, js=_DOWNLOAD % then, **QUIET)


def _curve(lessons):
    """How accuracy grows with the number of examples, on a column of the gallery."""
    columns = lessons.curve_columns
    with gr.Accordion("How many examples are enough?", open=False, elem_id="curve"):
        gr.HTML(
            '<p class="hint">Half of the gallery teaches, the other half asks: five draws of 1 to 5 examples per '
            "class, of at most 100 classes.</p>",
            **PLAIN,
        )
        with gr.Row():
            column = gr.Dropdown(
                columns,
                value=columns[0] if lessons.retrieval.gallery.icons else columns[-1],
                label="Classes",
                elem_id="curve-column",
            )
            measure = gr.Button("Measure", elem_id="measure")
        plot = gr.HTML("", elem_id="curve-plot", **PLAIN)

    def measured(column, progress=gr.Progress()):  # noqa: B008, gradio's way to ask for one
        with words():
            return draw_curve(lessons.curve(column, progress.tqdm))

    measure.click(measured, column, plot, api_visibility="private", concurrency_limit=1)
