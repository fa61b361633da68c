"""A static page that runs a model in the browser and searches a gallery with it: no server behind it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pathlib
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.export.web_model import PageModel, copy_runtime
from memssl_keras.images import ImageError, read_image, thumbnail
from memssl_keras.weights.config import RAW_PIXELS

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder

PAGE = pathlib.Path(__file__).parent / "page"
SHARED = ("encoder.js", "trim.mjs", "embed.mjs")  # what any page needs
COLUMNS, ROWS = 32, 32  # of a sheet of thumbnails
MOST_IMAGES = 20_000
MOST_NAMED = 20  # unreadable pictures that a warning names


@dataclasses.dataclass(frozen=True)
class Look:
    """What a page is made of, beside the model and the gallery.

    Attributes:
        shared: Names of the files of `export/page` that it uses.
        files: Its own files, name → content.
        settings: What it needs to know, as JSON values; they stand in `gallery.json`.
        thumb: Side of the gallery's pictures, in pixels.
    """

    shared: Sequence[str] = SHARED
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    thumb: int = 64


def export_web(
    model: PathLike,
    folder: PathLike,
    images: Any,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    variant: str = "fp32",
    runtime: PathLike | None = None,
    open_encoder: Callable[[str], Encoder] | None = None,
    columns: Mapping[str, Sequence[str]] | None = None,
    look: Look | None = None,
) -> int:
    """Write a page, the model, ONNX Runtime for browsers, and a gallery embedded with that model.

    Any server of static files shows it, such as `python -m http.server -d FOLDER`; a browser does not load
    modules from `file://`. `embed.mjs` beside it does the same under Node.

    Args:
        model: Bundled model, repository or folder of one.
        folder: A new or empty folder.
        images: The gallery, an iterable of what `read_image` takes; at most 20,000. Unreadable ones are skipped, with a
            warning.
        names: What to call each of them; their numbers by default.
        title: Of the page; the model's name by default.
        variant: `"fp32"`, `"fp16"` or `"int8"`.
        runtime: Folder of the npm package onnxruntime-web; by default npm fetches it.
        open_encoder: From `model` to its Keras encoder, such as `from_pretrained`: called where the model's folder
            lacks the file that is needed.
        columns: What else is known of the images, name → one text each; `gallery.json` has it under `about`.
        look: Another page than the one that searches by picture.

    Returns:
        The number of images in the gallery.

    Raises:
        ValueError: where the folder is not empty, the variant unknown, the gallery empty or too large, or
            ONNX Runtime for browsers cannot be had; nothing is written.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"web={str(folder)!r} is not empty; expected a new folder")
    if variant not in RAW_PIXELS:
        raise ValueError(f"variant={variant!r}: expected one of {', '.join(RAW_PIXELS)}")
    images = list(images)
    if not 0 < len(images) <= MOST_IMAGES:
        raise ValueError(f"images: got {len(images):,}; expected 1 to {MOST_IMAGES:,} for the page's gallery")
    look, columns = look or Look(shared=(*SHARED, "index.html", "style.css", "app.js")), columns or {}
    names = [str(name) for name in (names if names is not None else range(1, len(images) + 1))]
    if len(names) != len(images):
        raise ValueError(f"names: got {len(names)} for {len(images)} images")
    for column, values in columns.items():
        if len(values) != len(images):
            raise ValueError(f"columns: got {len(values)} of {column!r} for {len(images)} images")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as building:
        new = pathlib.Path(building) / "page"
        new.mkdir()
        copy_runtime(new / "ort", runtime)
        encoder = PageModel(model, variant, new / "model.onnx", open_encoder)
        kept, settings = _write_gallery(new, encoder, images, look.thumb)
        settings |= {"title": title or pathlib.PurePath(str(model)).name, "variant": variant}
        settings |= {"trim": encoder.trim, "names": [names[i] for i in kept]}
        settings["about"] = {column: [values[i] for i in kept] for column, values in columns.items()}
        settings |= look.settings
        (new / "gallery.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        for name in look.shared:
            shutil.copyfile(PAGE / name, new / name)
        for name, content in look.files.items():
            (new / name).write_bytes(content)
        if folder.exists():
            folder.rmdir()
        os.replace(new, folder)
    return settings["count"]


def _write_gallery(folder, encoder, images, thumb):
    """Sheets of thumbnails, and the vectors as float32 in one file; returns which images could be read."""
    vectors, kept, tiles, unreadable = [], [], [], []
    for i, image in enumerate(images):
        try:
            pixels = read_image(image)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        vectors.append(encoder.embed(pixels))
        kept.append(i)
        tiles.append(thumbnail(pixels, thumb))
    if not kept:
        raise ValueError("images: none of them can be read")
    if unreadable:
        more = f"; and {len(unreadable) - MOST_NAMED} more" if len(unreadable) > MOST_NAMED else ""
        named = "; ".join(unreadable[:MOST_NAMED])
        warnings.warn(
            f"{len(unreadable)} of {len(images):,} images cannot be read and are skipped: {named}{more}",
            stacklevel=3,
        )
    np.stack(vectors).astype("<f4").tofile(folder / "gallery.bin")
    sheets = []
    for start in range(0, len(tiles), COLUMNS * ROWS):
        part = tiles[start : start + COLUMNS * ROWS]
        sheet = Image.new("RGB", (COLUMNS * thumb, -(-len(part) // COLUMNS) * thumb), "white")
        for i, tile in enumerate(part):
            sheet.paste(tile, (i % COLUMNS * thumb, i // COLUMNS * thumb))
        sheets.append(f"gallery-{len(sheets)}.webp")
        content = io.BytesIO()
        sheet.save(content, "WEBP", quality=88)
        (folder / sheets[-1]).write_bytes(content.getvalue())
    shape = {"thumb": thumb, "columns": COLUMNS, "rows": ROWS}
    return kept, {"count": len(kept), "dim": len(vectors[0]), "sheets": sheets} | shape
