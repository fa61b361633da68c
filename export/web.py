"""A static page that runs a model in the browser and searches a gallery with it: no server behind it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.export import verify
from memssl_keras.export.session import open_session
from memssl_keras.images import ImageError, read_image, thumbnail
from memssl_keras.weights.config import RAW_PIXELS
from memssl_keras.zoo.hub import find_folder

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder

PAGE = pathlib.Path(__file__).parent / "page"
RUNTIME = "onnxruntime-web@1.30.0"  # the version that the page was tested with
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
THUMB, COLUMNS, ROWS = 64, 32, 32
MOST_IMAGES = 20_000


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
) -> int:
    """Write a page, the model, ONNX Runtime for browsers, and a gallery embedded with that model.

    Any server of static files shows it, such as `python -m http.server -d FOLDER`; a browser does not load
    modules from `file://`. `embed.mjs` beside it does the same under Node.

    Args:
        model: Bundled model, repository or folder of one.
        folder: A new or empty folder.
        images: The gallery, an iterable of what `read_image` takes; at most 20,000. Unreadable ones are left out.
        names: What to call each of them; their numbers by default.
        title: Of the page; the model's name by default.
        variant: `"fp32"`, `"fp16"` or `"int8"`.
        runtime: Folder of the npm package onnxruntime-web; by default npm fetches it.
        open_encoder: From `model` to its Keras encoder, such as `from_pretrained`: called where the model's folder
            lacks the raw-pixels file.

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
    names = [str(name) for name in (names if names is not None else range(1, len(images) + 1))]
    if len(names) != len(images):
        raise ValueError(f"names: got {len(names)} for {len(images)} images")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as building:
        new = pathlib.Path(building) / "page"
        new.mkdir()
        _copy_runtime(new / "ort", runtime)
        _copy_model(model, variant, new / "model.onnx", open_encoder)
        settings = _write_gallery(new, images, names)
        settings |= {"title": title or pathlib.PurePath(str(model)).name, "variant": variant}
        (new / "gallery.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
        for file in PAGE.iterdir():
            if file.is_file():
                shutil.copyfile(file, new / file.name)
        if folder.exists():
            folder.rmdir()
        os.replace(new, folder)
    return settings["count"]


def _copy_runtime(target, package):
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        dist = pathlib.Path(package or _fetch_runtime(scratch)) / "dist"
        for name in (*RUNTIME_FILES, "../LICENSE"):
            if (dist / name).is_file():
                shutil.copyfile(dist / name, target / pathlib.PurePath(name).name)
            elif name in RUNTIME_FILES:
                raise ValueError(
                    f"runtime={str(package)!r}: {name} is not in its dist/; expected {RUNTIME} from npm"
                )


def _fetch_runtime(scratch):
    if not shutil.which("npm"):
        raise ValueError(
            f"ONNX Runtime for browsers comes from npm, which is not installed; runtime=FOLDER takes {RUNTIME}"
        )
    done = subprocess.run(
        ["npm", "pack", "--silent", RUNTIME], cwd=scratch, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"npm could not fetch {RUNTIME}: {reason}; runtime=FOLDER takes an unpacked one")
    with tarfile.open(pathlib.Path(scratch) / done.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(scratch, filter="data")
    return pathlib.Path(scratch) / "package"


def _copy_model(model, variant, target, open_encoder):
    """The raw-pixels file of the model's folder, or one made from its Keras weights."""
    file = f"onnx/{RAW_PIXELS[variant]}"
    held = find_folder(model, lambda config: [(file, "")]) / file
    if held.is_file():
        shutil.copyfile(held, target)
        return
    if open_encoder is None:
        raise ValueError(
            f"model={model!r} holds no {file}; expected open_encoder=from_pretrained, which makes one"
        )
    from memssl_keras.export.onnx import (
        export_onnx,  # needs keras and torch, which a folder with that file does not
    )

    with tempfile.TemporaryDirectory() as scratch:
        made = pathlib.Path(scratch) / "model"
        export_onnx(open_encoder(model), made, variants=dict.fromkeys(["fp32", variant]), raw_pixels=True)
        shutil.copyfile(made / "onnx" / RAW_PIXELS[variant], target)


def _write_gallery(folder, images, names):
    """Sheets of thumbnails, and the vectors as float32 in one file."""
    session, vectors, kept, tiles = open_session(folder / "model.onnx"), [], [], []
    for image, name in zip(images, names, strict=True):
        try:
            pixels = read_image(image)
        except ImageError:
            continue
        vectors.append(verify.embed_raw_pixels(session, pixels)[0])
        kept.append(name)
        tiles.append(thumbnail(pixels, THUMB))
    if not kept:
        raise ValueError("images: none of them can be read")
    np.stack(vectors).astype("<f4").tofile(folder / "gallery.bin")
    sheets = []
    for start in range(0, len(tiles), COLUMNS * ROWS):
        part = tiles[start : start + COLUMNS * ROWS]
        sheet = Image.new("RGB", (COLUMNS * THUMB, -(-len(part) // COLUMNS) * THUMB), "white")
        for i, tile in enumerate(part):
            sheet.paste(tile, (i % COLUMNS * THUMB, i // COLUMNS * THUMB))
        sheets.append(f"gallery-{len(sheets)}.webp")
        content = io.BytesIO()
        sheet.save(content, "WEBP", quality=88)
        (folder / sheets[-1]).write_bytes(content.getvalue())
    return {
        "count": len(kept),
        "dim": len(vectors[0]),
        "names": kept,
        "sheets": sheets,
        "thumb": THUMB,
        "columns": COLUMNS,
        "rows": ROWS,
    }
