"""The demo page: retrieve from a gallery by example, with ONNX Runtime alone."""

from __future__ import annotations

import functools
import time
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from memssl_keras import OnnxEncoder
from memssl_keras.images import ImageError, read_image

from .cards import ON_CLICK, Cards
from .index import CosineIndex, digest, read_gallery

MODEL = "massl_vitn4.cifar10"
GALLERY = Path(__file__).parent / "gallery" / "emoji.parquet"
_STYLE = Path(__file__).parent / "style.css"
_CREDITS = (
    "Pictures: Noto Emoji (Apache-2.0), Twemoji (CC BY 4.0, scaled), Fluent Emoji (MIT). "
    "Sources and licences stand in gallery/LICENSES.md."
)


class Retrieval:
    """An encoder, a gallery and the index over the gallery's embeddings.

    Args:
        encoder: an `OnnxEncoder`.
        gallery: a `Gallery`.
    """

    def __init__(self, encoder, gallery):
        self.encoder = encoder
        self.gallery = gallery
        self.cards = Cards(gallery)
        self.index = CosineIndex(encoder.embed(gallery.images))
        self._vendors, self._categories = np.array(gallery.vendors), np.array(gallery.categories)
        self._digests = np.array(gallery.digests)

    def search(self, path, k: int = 12, vendors=(), categories=()) -> tuple[str, str]:
        """Find the images of the gallery that are nearest to a picture.

        Args:
            path: the picture's file, or None for the page before a search.
            k: how many; at least 1.
            vendors, categories: only images of these; no restriction where empty.

        Returns:
            the headline and the results, as HTML. The picture itself is never among its results.
        """
        if path is None:
            welcome = _headline("A look into the gallery", "Pick one to search with it, or bring your own.")
            return welcome, self.cards.large(self.spread(24))
        try:
            pixels = read_image(path)
        except ImageError as error:
            problem = f"{Path(path).name}: {error.reason}"
            gr.Warning(problem)
            return _headline("This picture cannot be read", f"{escape(problem)}. Try another one."), ""
        itself = self._digests == digest(pixels)
        allowed = ~itself
        if vendors:
            allowed &= np.isin(self._vendors, vendors)
        if categories:
            allowed &= np.isin(self._categories, categories)
        if not allowed.any():
            return _headline("No picture matches these filters", "Untick one of them to see results."), ""
        started = time.perf_counter()
        vector = self.encoder.embed(pixels)[0]
        encoded = time.perf_counter()
        rows, similarities = self.index.search(vector, int(k), allowed)
        found = time.perf_counter()
        query = self.cards.title(int(np.argmax(itself))) if itself.any() else "your picture"
        about = (
            f"{len(rows)} of {int(allowed.sum())} pictures, by cosine similarity · "
            f"encoded in {1000 * (encoded - started):.1f} ms, searched in {1000 * (found - encoded):.1f} ms"
        )
        return _headline(f"Nearest to {query}", about), self.cards.large(rows, similarities)

    def spread(self, count: int) -> list[int]:
        """Rows spread evenly over the gallery."""
        size = len(self.gallery)
        count = min(count, size)
        return [(2 * step + 1) * size // (2 * count) for step in range(count)]


@functools.lru_cache(maxsize=2)
def _load(model: str, gallery: Path, modified: float) -> Retrieval:
    return Retrieval(OnnxEncoder.from_pretrained(model), read_gallery(gallery))


def load(model=None, gallery=None) -> Retrieval:
    """Load model and gallery and embed the gallery; once per process for the same two.

    Args:
        model: a model folder or the name of a bundled model; by default the one that comes with the package.
        gallery: a Parquet file as `read_gallery` takes it; by default the bundled emoji.

    Raises:
        UnknownModel: there is no such model.
        FileNotFoundError, ValueError: a file is missing or damaged.

    Example:
        >>> from memssl_keras.demo.app import load
        >>> headline, results = load().search(None)
    """
    path = Path(gallery or GALLERY)
    modified = path.stat().st_mtime if path.is_file() else 0.0
    return _load(str(model or MODEL), path, modified)


def build_app(model=None, gallery=None) -> gr.Blocks:
    """Build the page without serving it; arguments and errors are those of `load`.

    Example:
        >>> from memssl_keras.demo.app import build_app
        >>> app = build_app()
    """
    retrieval = load(model, gallery)
    cards = retrieval.cards
    plain = {"apply_default_css": False, "padding": False}
    with gr.Blocks(title="Look-alikes · memssl-keras", analytics_enabled=False) as app:
        name = Path(model or MODEL).resolve().name
        gr.HTML(_intro(name, retrieval), elem_id="intro", **plain)
        with gr.Row(elem_id="page"):
            with gr.Column(scale=4, min_width=300, elem_id="ask"):
                query = gr.Image(
                    label="Your picture",
                    type="filepath",
                    format="png",  # lossless, so that a picture of the gallery is known again
                    image_mode=None,
                    sources=["upload", "clipboard", "webcam"],
                    height=250,
                    buttons=[],
                    elem_id="query",
                )
                # The file as it came: `read_image` reads more than the component and says what is wrong.
                query.preprocess = lambda payload: payload and payload.path
                gr.HTML("Or start with one of these", elem_id="hint", **plain)
                examples = gr.HTML(
                    cards.small(retrieval.spread(8)), js_on_load=ON_CLICK, elem_id="examples", **plain
                )
                most = min(48, len(retrieval.gallery))
                k = gr.Slider(1, most, min(12, most), step=1, label="How many", buttons=[])
                vendors = _filter("Vendor", retrieval.gallery.vendors)
                categories = _filter("Category", retrieval.gallery.categories)
            with gr.Column(scale=8, min_width=300, elem_id="found"):
                headline, pictures = retrieval.search(None)
                status = gr.HTML(headline, elem_id="status", **plain)
                results = gr.HTML(pictures, js_on_load=ON_CLICK, elem_id="results", **plain)
        if gallery is None:
            gr.HTML(_CREDITS, elem_id="credits", **plain)

        def show(event: gr.EventData):
            return Image.fromarray(read_image(retrieval.gallery.images[event.row]))

        quiet = {"show_progress": "hidden", "api_visibility": "private"}
        examples.click(show, None, query, **quiet)
        results.click(show, None, query, **quiet)
        gr.on(
            [query.change, k.change, vendors.change, categories.change],
            retrieval.search,
            [query, k, vendors, categories],
            [status, results],
            trigger_mode="always_last",
            **quiet,
        )
    return app


def launch(model=None, gallery=None, host="127.0.0.1", port=7860, open_browser=True, **options):
    """Serve the page until interrupted.

    Args:
        model, gallery: as for `load`.
        host: address to serve on; the default is reachable from this computer only.
        port: a free port; None takes the first free one from 7860.
        open_browser: whether to open the page.
        options: further arguments of `gradio.Blocks.launch`, such as `prevent_thread_lock=True`, which
            returns at once.

    Returns:
        what `gradio.Blocks.launch` does: the FastAPI app and the page's addresses.

    Raises:
        OSError: the port is taken. Further as for `load`.
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
    app = build_app(model, gallery)
    try:
        return app.launch(
            server_name=host,
            server_port=port,
            inbrowser=open_browser,
            theme=theme,
            css_paths=_STYLE,
            footer_links=["gradio", "settings"],
            run_history=False,
            ssr_mode=False,
            **options,
        )
    except OSError as error:
        expected = "expected a free port, or None for the first free one from 7860"
        raise OSError(f"port: got {port}, which {host} cannot serve on; {expected}") from error


def _filter(label: str, values: list[str]) -> gr.CheckboxGroup:
    choices = sorted(set(filter(None, values)))
    info = "All, until some are ticked"
    return gr.CheckboxGroup(choices, label=label, info=info, visible=len(choices) > 1)


def _headline(title: str, about: str) -> str:
    return f"<h2>{title}</h2><p>{about}</p>"


def _intro(name: str, retrieval: Retrieval) -> str:
    return (
        "<h1>Show a picture, find its look-alikes</h1>"
        f"<p>The encoder <b>{escape(name)}</b> turns it into {retrieval.encoder.embed_dim} numbers and ranks "
        f"{len(retrieval.gallery)} pictures by how closely theirs agree, all on this computer.</p>"
    )
