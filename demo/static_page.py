"""The static page that names icons in the browser: which of the gallery's icons it holds, and what it is made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.demo.examples import EXAMPLES
from memssl_keras.demo.gallery import BUNDLED, Gallery, open_gallery
from memssl_keras.demo.naming import THRESHOLDS
from memssl_keras.export.web import Look, export_web
from memssl_keras.weights.config import VARIANTS
from memssl_keras.zoo.hub import find_folder
from memssl_keras.zoo.registry import bundled_models

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder

# The gallery's three largest sets, and the two others with which the page names the most of its plain icons rightly.
SETS = ("lucide", "tabler", "ph", "material-symbols", "heroicons")
MOST = 2000
_HERE = Path(__file__).parent
_SIDE = 48  # pixels of the gallery's icons
_SHOWN = ("settings",)  # examples of what these sets draw


def choose_icons(gallery: Gallery, count: int = MOST) -> list[int]:
    """The rows of the things that most of `SETS` draw, one drawing of each set, lines before solids.

    Args:
        gallery: a gallery of icons.
        count: how many rows at most; a thing is there with all of its drawings or not at all.

    Returns:
        rows, thing by thing: those that the most of these sets draw first, then those that the most sets of the
        gallery draw, then by name.
    """
    if gallery.icons is None:
        raise ValueError("gallery: its icons have no ids and groups; expected columns id, group and set")
    drawn: dict[str, set] = defaultdict(set)
    of_sets: dict[str, dict[str, int]] = defaultdict(dict)
    for row, (name, group) in enumerate(zip(*gallery.icons, strict=True)):
        prefix = name.partition(":")[0]
        drawn[group].add(prefix)
        if prefix in SETS:
            known = of_sets[group].setdefault(prefix, row)
            if gallery.value(known, "Style") != "line" == gallery.value(row, "Style"):
                of_sets[group][prefix] = row
    rows: list[int] = []
    for group in sorted(of_sets, key=lambda group: (-len(of_sets[group]), -len(drawn[group]), group)):
        if len(rows) + len(of_sets[group]) > count:
            break
        rows += [of_sets[group][prefix] for prefix in SETS if prefix in of_sets[group]]
    return rows


def export_icons(
    model: PathLike,
    folder: PathLike,
    *,
    variant: str | None = None,
    runtime: PathLike | None = None,
    open_encoder: Callable[[str], Encoder] | None = None,
) -> int:
    """Write the page that names icons, with a model and 2,000 icons of the bundled gallery: no server behind it.

    Args:
        model, folder, runtime, open_encoder: as `memssl_keras.export.web.export_web` takes them.
        variant: `"fp32"`, `"fp16"` or `"int8"`; by default int8 where the model's folder has it, for it is smaller and
            faster, else float32.

    Returns:
        the number of icons.

    Raises:
        ValueError: as `export_web` does.
    """
    icons_models = sorted({name.partition("@")[0] for name in THRESHOLDS})
    if str(model) in bundled_models() and str(model) not in icons_models:
        raise ValueError(
            f"model={str(model)!r}: names no icons; expected {' or '.join(icons_models)}, or --images for a page that "
            "searches pictures of your own"
        )
    if variant is None:
        held = find_folder(model, lambda config: []) / "onnx" / VARIANTS["int8"]
        variant = "int8" if held.is_file() else "fp32"
    gallery = open_gallery()
    icons = gallery.take(np.array(choose_icons(gallery)))
    assert icons.icons is not None  # `choose_icons` refuses others
    columns = {
        "ids": icons.icons.ids,
        "groups": icons.icons.groups,
        "sets": [icons.value(row, "Set") for row in range(len(icons))],
        "licences": [icons.value(row, "Licence") for row in range(len(icons))],
    }
    return export_web(
        model,
        folder,
        list(icons.source),
        names=icons.names,
        variant=variant,
        runtime=runtime,
        open_encoder=open_encoder,
        columns=columns,
        look=_look(model, variant),
    )


def _look(model, variant):
    name = Path(str(model)).name
    files = {file.name: file.read_bytes() for file in (_HERE / "page").iterdir() if file.is_file()}
    for script in ("part", "copy"):
        text = (_HERE / f"{script}.js").read_text(encoding="utf-8")
        # As Gradio runs it: the body of a function of these two.
        files[f"{script}.mjs"] = f"export default function (element, trigger) {{\n{text}}}\n".encode()
    files["LICENSES.md"] = (BUNDLED.parent / "LICENSES.md").read_bytes()
    examples = [example for example in EXAMPLES if example.name in _SHOWN]
    files |= {example.file.name: example.file.read_bytes() for example in examples}
    settings = {
        "threshold": THRESHOLDS.get(name if variant == "fp32" else f"{name}@{variant}"),
        "examples": [{"file": one.file.name, "title": one.title, "box": one.box} for one in examples],
    }
    return Look(files=files, settings=settings, thumb=_SIDE)
