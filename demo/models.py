"""Models of the page: by name, with their revision and their file."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from memssl_keras import OnnxEncoder
from memssl_keras.export.folder import find_onnx

DEFAULT = "massl_vitn4.cifar10"
# Of one search: the searches of several visitors side by side use the other half of the cores.
THREADS = max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True)
class Model:
    """An encoder and where it came from.

    Attributes:
        name: to show: of a folder its last part, with `@VARIANT` where one was asked for.
        encoder: an `OnnxEncoder`.
        file: its ONNX file.
        revision: hash of that file and of the preprocessing: vectors of two revisions do not compare.
    """

    name: str
    encoder: OnnxEncoder
    file: Path
    revision: str


@functools.lru_cache(maxsize=8)
def open_model(spec: str) -> Model:
    """Open a model by the spelling of the command line.

    Args:
        spec: a folder, or a name or repository that `memssl_keras.zoo.registry.resolve` knows; with `@VARIANT`, such
            as `@int8`, that variant.

    Raises:
        ValueError: there is no such model or variant.
        FileNotFoundError: its folder lacks a file.

    Example:
        >>> from memssl_keras.demo.models import open_model
        >>> open_model("massl_vitn4.cifar10@fp32").encoder.embed_dim
        128
    """
    name, _, variant = spec.rpartition("@")
    if Path(spec).is_dir() or not name:
        name, variant = spec, ""
    folder = Path(name)
    if not folder.is_dir():
        from memssl_keras.zoo.registry import resolve

        folder = resolve(name)
    encoder = OnnxEncoder.from_pretrained(folder, variant=variant or "fp32", threads=THREADS)
    file = find_onnx(folder, variant or "fp32")
    digest = hashlib.sha256(file.read_bytes())
    digest.update(repr(encoder.preprocessing).encode())
    shown = Path(name).resolve().name + (f"@{variant}" if variant else "")
    return Model(shown, encoder, file, digest.hexdigest()[:32])
