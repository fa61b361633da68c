"""The demo page: retrieve from a gallery by example and teach classes by example, with ONNX Runtime alone."""

from __future__ import annotations

import functools
import os
import tempfile
from html import escape
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from threadpoolctl import threadpool_limits

from memssl_keras.demo import api, inside, retrieve, teach
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.models import DEFAULT, beside, open_model, shown_name
from memssl_keras.demo.pictures import Pictures
from memssl_keras.demo.retrieve import PLAIN, Page
from memssl_keras.demo.search import Retrieval, load
from memssl_keras.demo.upkeep import MOST_UPLOAD, DiskLimit

_STYLE = Path(__file__).parent / "style.css"
_CREDITS = (
    "Pictures: Noto Emoji (Apache-2.0), Twemoji (CC BY 4.0, scaled), Fluent Emoji (MIT). "
    "Sources and licences stand in gallery/LICENSES.md."
)
_SESSIONS = 200  # whose classes are kept at once; the least recent is forgotten first
_HOUR = 3600


def build_app(model=None, gallery=None, compare=None, advance=lambda count: None) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        model: a model folder or name, with `@VARIANT` another one of its ONNX files; by default the one that comes
            with the package.
        gallery: a folder of images, Parquet, or `hub:OWNER/NAME`; by default the bundled emoji.
        compare: further models, to be asked beside the first; by default the model's other variants and the other
            bundled models. Each is opened, and embeds the gallery, when it is first chosen.
        advance: called with the number of images of the gallery done since the last call.

    Returns:
        the page; its attribute `pictures` serves the gallery's pictures.

    Raises:
        ValueError, FileNotFoundError: a model or the gallery is missing or damaged.

    Example:
        >>> from memssl_keras.demo.app import build_app
        >>> app = build_app()
    """
    retrieval = load(model, gallery, advance)
    for spec in compare or ():
        open_model(str(spec))  # what is not there is said now
    compare = beside(str(model or DEFAULT)) if compare is None else map(str, compare)
    others = {shown_name(spec): functools.partial(load, spec, gallery) for spec in compare}
    pictures = Pictures()
    pictures.add(retrieval.gallery)
    with gr.Blocks(
        title="Look-alikes · memssl-keras", analytics_enabled=False, delete_cache=(_HOUR // 4, _HOUR)
    ) as app:
        gr.HTML(_intro(retrieval), elem_id="intro", **PLAIN)
        with gr.Tabs():
            with gr.Tab("Retrieve", id="retrieve"):
                retrieve.build_tab(Page(retrieval, others))
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
    **options,
):
    """Serve the page until interrupted.

    Args:
        model, gallery, compare, advance: as for `build_app`.
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
    app = build_app(model, gallery, compare, advance)
    # NumPy's own threads wait for each other, at many times the cost of one product.
    threadpool_limits(1, "blas")
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


@functools.cache
def _uploads() -> tempfile.TemporaryDirectory:
    """The folder of what visitors bring: of this process's own, and removed with it."""
    return tempfile.TemporaryDirectory(prefix="memssl-demo-", ignore_cleanup_errors=True)


def _intro(retrieval: Retrieval) -> str:
    return (
        "<h1>Show a picture, find its look-alikes</h1>"
        f"<p>The encoder <b>{escape(retrieval.model.name)}</b> turns it into {retrieval.encoder.embed_dim} numbers "
        f"and ranks {len(retrieval.gallery):,} pictures by how closely theirs agree, all on this computer.</p>"
    )
