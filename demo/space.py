"""A folder that a Space on the Hub runs as it is: the page, its model and gallery, and this package."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import tempfile
from pathlib import Path

import memssl_keras
from memssl_keras.demo.models import open_model
from memssl_keras.export.foreign import weight_files
from memssl_keras.weights.config import split_variant
from memssl_keras.zoo.memory import LICENCES, PARTS

_PICTURES = ("pictures", "pictures.parquet")  # what the gallery is called there: a folder, or a file

_APP = '''"""The demo, as the Space runs it."""

from memssl_keras.demo.app import launch

launch({model!r}, {gallery!r}, host="0.0.0.0", open_browser=False{more})
'''

_CARD = """---
title: {title}
emoji: 🔎
colorFrom: indigo
colorTo: blue
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
license: apache-2.0
short_description: Find look-alikes, and teach classes by a few pictures
---

# {title}

The encoder `{name}` turns a picture into {dim} numbers and finds its look-alikes in a gallery; named classes are learnt
from one to five pictures each. It runs on ONNX Runtime, on a processor. What visitors bring stays in their session and
is removed after an hour.

Every function is an endpoint as well, documented under "Use via API" at the foot of the page.
{credits}"""


def write_space(folder, model=None, gallery=None, title="Look-alikes", image_size=None) -> Path:
    """Write `app.py`, `requirements.txt`, `README.md`, this package, the model and the gallery into a new folder.

    Args:
        folder: where to; it must not exist, or be empty.
        model: as for `build_app`.
        gallery: likewise; a folder or file is copied, a data set on the Hub is named.
        title: of the Space.
        image_size: as for `build_app`.

    Returns:
        `folder` as a `Path`.

    Raises:
        ValueError: the folder holds something, or there is no such model or gallery.

    Example:
        >>> import tempfile
        >>> from memssl_keras.demo.space import write_space
        >>> sorted(path.name for path in write_space(tempfile.mkdtemp()).iterdir())
        ['README.md', 'app.py', 'massl_resnet14.icons', 'memssl_keras', 'requirements.txt']
    """
    from memssl_keras.demo.recall import open_recall
    from memssl_keras.demo.search import chosen
    from memssl_keras.demo.search import opened as opened_gallery

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"space: {folder} holds something; expected a new or empty folder")
    if gallery and not str(gallery).startswith("hub:") and not Path(gallery).exists():
        raise ValueError(f"gallery: {gallery}: no such file or folder")
    spec = str(model or chosen(opened_gallery(gallery)).model)
    opened = open_model(spec, image_size)
    recall = open_recall(opened)  # which says what is wrong with it before anything is written
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scratch:
        part = Path(scratch) / "space"
        model, there = _copy_model(opened.file, spec, part), _copy_gallery(gallery, part)
        credits = recall and _copy_memory(recall.memory, part / model.partition("@")[0])
        _copy_package(part / "memssl_keras")
        gradio = importlib.metadata.version("gradio")
        about = {"title": title, "gradio": gradio, "name": opened.name, "dim": opened.encoder.embed_dim}
        about["credits"] = f"\nPictures of the training memory: {credits}\n" if credits else ""
        more = f", image_size={image_size}" if image_size else ""
        page = _APP.format(model=model, gallery=there, more=more)
        (part / "app.py").write_text(page, encoding="utf-8")
        (part / "README.md").write_text(_CARD.format(**about), encoding="utf-8")
        (part / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        os.replace(part, folder)
    return folder


def requirements() -> list[str]:
    """What the page needs, as the installed package says it: its own dependencies, those of `cli` and of `demo`."""
    wanted = []
    for line in importlib.metadata.requires("memssl-keras") or ():
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"](.+?)['\"]", marker)
        own = requirement.strip().startswith("memssl-keras")
        if not own and (extra is None or extra[1] in ("cli", "demo")):
            wanted.append(requirement.strip())
    return sorted(set(wanted))


def _copy_model(file, spec, target):
    """The files that run the model, in a folder of its own name, which thresholds go by; returns its spelling there."""
    name, variant = split_variant(spec)
    alone = Path(name).suffix == ".onnx"
    folder = file.parent.parent if file.parent.name == "onnx" else file.parent
    called = (folder if alone else Path(name)).resolve().name
    called = "model" if called in ("", "memssl_keras", *_PICTURES) or "@" in called else called
    for source in (file, *weight_files(file), folder / "config.json", folder / "preprocessor_config.json"):
        if source.is_file():
            copy = target / called / source.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    if alone:
        return f"{called}/{file.relative_to(folder).as_posix()}"
    return f"{called}@{variant}" if variant else called


def _copy_gallery(gallery, target):
    """Copies pictures that lie here; returns their spelling there."""
    if not gallery or not Path(gallery).exists():
        return str(gallery) if gallery else None
    folder, file = _PICTURES
    if Path(gallery).is_dir():
        shutil.copytree(gallery, target / folder)
        return folder
    shutil.copy(gallery, target / file)
    return file


def _copy_memory(memory, target):
    """The memory that the model ships, with the licences of its pictures; returns whose they are."""
    source = memory.head.parent.parent
    for part in (*PARTS, LICENCES):
        if (source / part).is_file():
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part, target / part)
    return memory.credits


def _copy_package(target):
    """The package without what a page never loads: the zoo's weights and results, and what is compiled."""
    from memssl_keras import demo, export, zoo

    compiled = ("__pycache__", "*.png")
    parts = ((memssl_keras, "", compiled), (demo, "demo", compiled), (export, "export", compiled))
    for module, name, unwanted in (*parts, (zoo, "zoo", (*compiled, "weights", "experiments", "results"))):
        ignored = shutil.ignore_patterns(*unwanted)
        shutil.copytree(Path(module.__file__).parent, target / name, ignore=ignored, dirs_exist_ok=True)
