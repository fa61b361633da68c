"""Models of the page: by name, with their revision and their file."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from memssl_keras import OnnxEncoder
from memssl_keras.weights.config import VARIANTS, default_variant, split_variant
from memssl_keras.zoo.hub import find_folder
from memssl_keras.zoo.registry import bundled_models, resolve

# int8 names as many icons of the benchmark as float32 does, to half a point, in less than half of the time.
DEFAULT, PHOTOGRAPHS = "massl_resnet14.icons@int8", "massl_resnet14.cifar10"
# Of one search: the searches of several visitors side by side use the other half of the cores.
THREADS = max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True)
class Model:
    """An encoder and where it came from.

    Attributes:
        name: to show: of a folder its last part, with `@VARIANT` where one was asked for.
        encoder: an `OnnxEncoder`.
        file: its ONNX file.
        source: the folder or name that it was opened by, without its variant.
        revision: hash of that file and of the preprocessing: vectors of two revisions do not compare.
    """

    name: str
    encoder: OnnxEncoder
    file: Path
    source: str
    revision: str


@functools.lru_cache(maxsize=8)
def open_model(spec: str, image_size: int | None = None) -> Model:
    """Open a model by the spelling of the command line; without a variant float32, or what there is.

    Args:
        spec: a folder, a name of the zoo, or a repository on the Hub as `owner/name`; with `@VARIANT`, such as `@int8`,
            that variant.
        image_size: side in pixels of the square that it sees, in place of its own; where the two differ, its name says
            it.

    Raises:
        ValueError: there is no such model or variant, or it does not take that image size.
        FileNotFoundError: its folder lacks a file.

    Example:
        >>> from memssl_keras.demo.models import open_model
        >>> open_model("massl_vitn4.cifar10@fp32").encoder.embed_dim
        128
    """
    name, variant = split_variant(spec)
    encoder = OnnxEncoder.from_pretrained(
        name, variant=variant or None, threads=THREADS, image_size=image_size
    )
    shown = shown_name(spec) + ("" if at_own_size(encoder) else f", {image_size} px")
    return Model(shown, encoder, encoder.file, name, encoder.revision()[:32])


def at_own_size(encoder: OnnxEncoder) -> bool:
    """Whether an encoder sees pictures at its model's own size, at which thresholds and memory were made."""
    return encoder.preprocessing.image_size == encoder.config["preprocessing"]["image_size"]


def shown_name(spec: str) -> str:
    """A model's name on the page: of a folder its last part."""
    return Path(spec).resolve().name


def beside(spec: str) -> list[str]:
    """What a model can be compared with at once: its folder's other variants, and the other bundled models.

    A file alone has no other variants.

    Example:
        >>> from memssl_keras.demo.models import beside
        >>> "massl_vitn4.cifar10" in beside("massl_vitn4.cifar10")
        False
    """
    name, variant = split_variant(spec)
    if Path(name).is_file():
        return list(bundled_models())
    folder = find_folder(name, lambda config: [])
    there = [v for v, file in VARIANTS.items() if (folder / "onnx" / file).is_file()]
    own = [f"{name}@{v}" for v in there if v != (variant or default_variant(folder))]
    return own + [other for other in bundled_models() if resolve(other).resolve() != folder.resolve()]
