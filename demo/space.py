"""A folder that a Space on the Hub runs as it is: the page, its model and gallery, and this package."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
from pathlib import Path

import memssl_keras
from memssl_keras.demo.models import open_model
from memssl_keras.zoo.memory import LICENCES, PARTS

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
        ['README.md', 'app.py', 'memssl_keras', 'model', 'requirements.txt']
    """
    from memssl_keras.demo.recall import open_recall
    from memssl_keras.demo.search import chosen
    from memssl_keras.demo.search import opened as opened_gallery

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"space: {folder} holds something; expected a new or empty folder")
    if gallery and not str(gallery).startswith("hub:") and not Path(gallery).exists():
        raise ValueError(f"gallery: {gallery}: no such file or folder")
    opened = open_model(str(model or chosen(opened_gallery(gallery)).model), image_size)
    recall = open_recall(opened)  # which says what is wrong with it before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model" / "onnx").mkdir(parents=True)
    shutil.copy(opened.file.parent.parent / "config.json", folder / "model")
    shutil.copy(opened.file, folder / "model" / "onnx" / "model.onnx")
    credits = recall and _copy_memory(recall.memory, folder / "model")
    there = str(gallery) if gallery else None
    if gallery and Path(gallery).exists():
        there = "pictures" if Path(gallery).is_dir() else "pictures.parquet"
        copy = shutil.copytree if Path(gallery).is_dir() else shutil.copy
        copy(gallery, folder / there)
    _copy_package(folder / "memssl_keras")
    gradio = importlib.metadata.version("gradio")
    about = {"title": title, "gradio": gradio, "name": opened.name, "dim": opened.encoder.embed_dim}
    about["credits"] = f"\nPictures of the training memory: {credits}\n" if credits else ""
    more = f", image_size={image_size}" if image_size else ""
    page = _APP.format(model="model", gallery=there, more=more)
    (folder / "app.py").write_text(page, encoding="utf-8")
    (folder / "README.md").write_text(_CARD.format(**about), encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
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


def _copy_memory(memory, target):
    """The memory that the model ships, with the licences of its pictures; returns whose they are."""
    source = memory.head.parent.parent
    for part in (*PARTS, LICENCES):
        if (source / part).is_file():
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / part, target / part)
    return memory.credits


def _copy_package(target):
    """The package without what a page never loads: bundled weights and what is compiled."""
    from memssl_keras import demo, export, zoo

    unwanted = shutil.ignore_patterns("__pycache__", "weights", "experiments", "results", "*.png")
    shutil.copytree(Path(memssl_keras.__file__).parent, target, ignore=unwanted, dirs_exist_ok=True)
    for name, module in (("demo", demo), ("export", export), ("zoo", zoo)):
        shutil.copytree(Path(module.__file__).parent, target / name, ignore=unwanted, dirs_exist_ok=True)
