"""The demo page: name an icon or retrieve by example, and teach classes by example, with ONNX Runtime alone."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import tempfile
from html import escape
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from threadpoolctl import threadpool_limits

from memssl_keras.demo import api, inside, retrieve_tab, teach
from memssl_keras.demo.asking import PLAIN
from memssl_keras.demo.examples import EXAMPLES_FOLDER
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.models import beside, open_model, shown_name
from memssl_keras.demo.pictures import Pictures
from memssl_keras.demo.retrieve import IconPage, Page
from memssl_keras.demo.search import Retrieval, chosen, load, opened
from memssl_keras.demo.upkeep import MOST_UPLOAD, DiskLimit

_STYLE = Path(__file__).parent / "style.css"
_CREDITS = (
    "Icons: the sets named beside them, under MIT, ISC, Apache-2.0 or CC BY 4.0, scaled. "
    "Authors and licences stand in gallery/LICENSES.md."
)
_SESSIONS = 200  # whose classes are kept at once; the least recent is forgotten first
_HOUR = 3600


def build_app(
    model=None, gallery=None, compare=None, advance=lambda count: None, image_size=None
) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        model: a model folder or name, with `@VARIANT` another one of its ONNX files; by default the bundled one that
            suits the gallery.
        gallery: a folder of images, Parquet, or `hub:OWNER/NAME`; by default the bundled icons.
        compare: further models, to be asked beside the first; by default the model's other variants and the other
            bundled models. Each is opened, and embeds the gallery, when it is first chosen.
        advance: called with the number of images of the gallery done since the last call.
        image_size: side in pixels of the square that the models see, those to compare with included; by default each
            model's own.

    Returns:
        the page; its attribute `pictures` serves the gallery's pictures.

    Raises:
        ValueError, FileNotFoundError: a model or the gallery is missing or damaged.

    Example:
        >>> from memssl_keras.demo.app import build_app
        >>> app = build_app()
    """
    why = None if model else chosen(opened(gallery)).why
    model = model or chosen(opened(gallery)).model
    retrieval = load(model, gallery, advance, image_size)
    for spec in compare or ():
        open_model(str(spec), image_size)  # what is not there is said now
    compare = beside(str(model)) if compare is None else map(str, compare)
    others = {
        shown_name(spec): functools.partial(load, spec, gallery, image_size=image_size) for spec in compare
    }
    pictures = Pictures()
    pictures.add(retrieval.gallery)
    icons = retrieval.gallery.icons is not None
    title = "Which icon is this?" if icons else "Look-alikes"
    kind = "drawings" if chosen(opened(gallery)).drawings else "photographs"
    with gr.Blocks(
        title=f"{title} · memssl-keras", analytics_enabled=False, delete_cache=(_HOUR // 4, _HOUR)
    ) as app:
        gr.HTML(_intro(retrieval, why), elem_id="intro", **PLAIN)
        with gr.Tabs(elem_classes=kind):
            with gr.Tab("Name it" if icons else "Retrieve", id="retrieve"):
                retrieve_tab.build_tab((IconPage if icons else Page)(retrieval, others))
            with gr.Tab("Teach it", id="teach"):
                teach.build_tab(Lessons(retrieval))
            with gr.Tab("Look inside", id="inside") as tab:
                look = inside.Inside(retrieval, pictures.add)
                inside.build_tab(tab, look)
        api.add_endpoints(retrieval, look)
        if gallery is None:
            gr.HTML(_CREDITS, elem_id="credits", **PLAIN)
    app.pictures = pictures
    return app


def launch(
    model=None,
    gallery=None,
    host="127.0.0.1",
    port=7860,
    open_browser=True,
    compare=None,
    advance=lambda count: None,
    image_size=None,
    **options,
):
    """Serve the page until interrupted.

    Args:
        model, gallery, compare, advance, image_size: as for `build_app`.
        host: address to serve on; the default is reachable from this computer only.
        port: a free port; None takes the first free one from 7860.
        open_browser: whether to open the page.
        options: further arguments of `gradio.Blocks.launch`, such as `prevent_thread_lock=True`, which
            returns at once.

    Returns:
        what `gradio.Blocks.launch` does: the FastAPI app and the page's addresses.

    Raises:
        OSError: the port is taken. Further as for `build_app`.
    """
    fonts = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # none is downloaded
    theme = gr.themes.Base(primary_hue="indigo", font=fonts, font_mono=["ui-monospace", "monospace"])
    theme.set(
        block_radius="12px",
        block_title_text_weight="600",
        body_text_color_subdued="*neutral_500",  # the default is too pale to read with ease
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        checkbox_label_background_fill="*neutral_100",
        checkbox_label_background_fill_dark="*neutral_700",
    )
    uploads = os.environ["GRADIO_TEMP_DIR"] = _uploads().name
    app = build_app(model, gallery, compare, advance, image_size)
    _settle()
    try:
        return app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            theme=theme,
            css_paths=_STYLE,
            footer_links=["api", "gradio", "settings"],
            run_history=False,
            ssr_mode=False,
            allowed_paths=[str(EXAMPLES_FOLDER)],
            max_file_size=MOST_UPLOAD,
            state_session_capacity=_SESSIONS,
            enable_monitoring=False,
            app_kwargs={
                "routes": [app.pictures.route],
                "middleware": [Middleware(DiskLimit, folder=uploads)],
            },
            **options,
        )
    except OSError as error:
        expected = "expected a free port, or None for the first free one from 7860"
        raise OSError(f"port: got {port}, which {host} cannot serve on; {expected}") from error


def _settle():
    """What would take a visitor's time, or all of the processor, is loaded and limited before the first one comes."""
    # The threads of a product wait for each other, at many times its cost: with 2 of SciPy's the curve of "Teach it"
    # took 64 s in place of 4 on a busy machine. Only what is loaded can be limited, so scikit-learn loads SciPy here.
    importlib.import_module("sklearn.linear_model")
    threadpool_limits(1, "blas")
    # Gradio asks matplotlib for its backend at each event. Where none is chosen, the first event imports pyplot, which
    # takes more than a second, and all later ones switch it.
    with contextlib.suppress(ImportError):
        importlib.import_module("matplotlib").use("agg")


@functools.cache
def _uploads() -> tempfile.TemporaryDirectory:
    """The folder of what visitors bring: of this process's own, and removed with it."""
    return tempfile.TemporaryDirectory(prefix="memssl-demo-", ignore_cleanup_errors=True)


def _intro(retrieval: Retrieval, why: str | None) -> str:
    """What the page does, with which model and why that one, and how to bring one's own pictures."""
    gallery, model = retrieval.gallery, escape(retrieval.model.name)
    used = f"<b>{model}</b> turns a picture into {retrieval.encoder.embed_dim} numbers" + (
        f"; it was chosen because {escape(why)}" if why else ""
    )
    own = "Your own pictures instead: <code>memssl demo --gallery photos/</code>"
    if gallery.icons:
        sets = len(gallery.columns["Set"][0]) if "Set" in gallery.columns else 1
        return (
            "<h1>Which icon is this?</h1><p>Paste a screenshot and drag a box around the icon. You get its name in "
            f"{sets} sets, with licence and an id to copy, out of <b>{len(gallery):,}</b> icons.</p>"
            f'<p class="hint">{used}, all on this computer. {own}.</p>'
        )
    return (
        f"<h1>Show a picture, find its look-alikes</h1><p>The <b>{len(gallery):,}</b> pictures of the gallery "
        f"are ranked by how closely their numbers agree with those of yours.</p>"
        f'<p class="hint">{used}, all on this computer. {own}.</p>'
    )
