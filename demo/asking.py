"""How a picture is asked about: the input by upload, paste, webcam or drawing, and the box on it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
import PIL.Image
from gradio.data_classes import ImageData

from memssl_keras.demo.pictures import cut, data_uri, read_upload

PLAIN: dict[str, Any] = {"apply_default_css": False, "padding": False}
# Answered at once, side by side: the queue would take longer than the search.
QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
# Gradio hands each component's value to another thread and back, which on a busy machine takes longer than the search.
# What is asked most takes the values as they come, checked by their data models, and gives back text.
PLAINLY: dict[str, Any] = {"preprocess": False, "postprocess": False}

DRAG = "".join(
    (Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("part.js", "bring.js", "copy.js")
)
_KEYS = (
    '<span class="keys">, or <button type="button" data-keys>place one with the arrow keys</button></span>.'
    '<span class="help"> Arrow keys move it, with Shift they resize it; Enter searches, Escape leaves.</span></p>'
)
DRAG_HINT = f'<p class="hint">Drag a box on the picture to search for that part alone{_KEYS}'
ICON_HINT = f'<p class="hint"><b>2.</b> Drag a box around the icon{_KEYS}'


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


def path_of(brought: dict | str | None) -> str | None:
    """The file of a picture that an event with `PLAINLY` brings; a path is one already."""
    return brought.get("path") if isinstance(brought, dict) else brought


def drawing_input() -> gr.Sketchpad:
    """A drawing in black on white."""
    return gr.Sketchpad(
        label="Your drawing",
        type="pil",
        image_mode="RGB",
        sources=(),
        brush=gr.Brush(default_size=9, colors=["#111111"], color_mode="fixed"),
        layers=False,
        transforms=(),
        canvas_size=(300, 250),
        fixed_canvas=True,
        height=250,
        buttons=[],
        elem_id="drawing",
    )


def keep_drawing(drawing: dict | None) -> str | None:
    """A drawing as a file, as a picture that is brought is; None where nothing is drawn."""
    picture: PIL.Image.Image | None = drawing.get("composite") if drawing else None
    if picture is None or len(set(picture.convert("L").getextrema())) == 1:
        return None
    folder = tempfile.mkdtemp(prefix="drawn-", dir=os.environ.get("GRADIO_TEMP_DIR"))
    path = Path(folder) / "drawing.png"
    picture.save(path)
    return str(path)


def preview(path: str, part) -> str:
    """The part in the box, and the way back."""
    return (
        f'<p class="part"><img src="{data_uri(cut(read_upload(path), part))}" alt="The part in the box">'
        "Searching for this part. <button type=button>The whole picture again</button></p>"
    )
