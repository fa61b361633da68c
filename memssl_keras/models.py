"""Models by name as `Embedder`s: encoders in Keras and ONNX, the same untrained, and functions of others."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import importlib
import inspect
import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from memssl_keras.evaluate.data.scales import scaled_preprocessing
from memssl_keras.evaluate.embedders import Embedder, pixel_embedders
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.files import read_json, sha256
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.checkpoint import SUFFIXES
from memssl_keras.weights.config import (
    find_onnx,
    is_ours,
    onnx_file,
    patch_size_of,
    read_config,
    split_variant,
)
from memssl_keras.zoo.hub import find_folder

BATCH = 64  # more is no faster on processors
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # ours, timm's and transformers'
_OTHERS = "preprocessor_config.json"


def open_embedder(
    spec: str | os.PathLike, threads: int | None = None, image_size: int | None = None
) -> Embedder:
    """What a user names on the command line.

    Args:
        spec: A folder, zoo name or repository that `from_pretrained` takes: its Keras weights, or its ONNX model
            where there are none; the same with `@VARIANT`, such as `@fp32`: that ONNX variant; or `module:function`,
            a function from a list of images to features `(N, D)`.
        threads: Processor threads of the encoder; all by default. On a machine that is busy with something else one
            is faster than all.
        image_size: Side in pixels of the square that pictures are preprocessed to, in place of the model's own. The
            name says it then.

    Raises:
        ValueError: where there is no such model, variant or function, or it does not take that image size.

    Example:
        >>> from memssl_keras.models import open_embedder
        >>> open_embedder("numpy:asarray").key["kind"]
        'function'
    """
    spec = str(spec)
    if ":" in spec and not pathlib.Path(spec).exists() and "/" not in spec:
        if image_size is not None:
            raise ValueError(
                f"image_size={image_size}: {spec} is a function, which sees pictures at a size of its own; expected "
                "none with functions"
            )
        return _function(spec)
    return _sized(_open(spec, threads, image_size), image_size)


def _sized(embedder, image_size):
    """The embedder with the size, where one was asked for, in its name and key."""
    if image_size is None:
        return embedder
    said = (embedder.key.get("preprocessing") or {}).get("image_size") == image_size
    key = embedder.key if said else {**embedder.key, "image_size": image_size}
    return dataclasses.replace(embedder, name=f"{embedder.name}, {image_size} px", key=key)


def _open(spec, threads, image_size):
    if pathlib.Path(spec).is_file():
        key = {"kind": "checkpoint", "revision": sha256(spec)}
        return Embedder(spec, key, **_keras_calls(pathlib.Path(spec), threads, True, image_size))
    if pathlib.Path(spec).suffix in SUFFIXES:
        raise ValueError(f"model: got {spec!r}; there is no such file")
    name, variant = split_variant(spec)
    folder = _folder(name, variant)
    if not variant and _weights(folder):
        return _keras(spec, folder, threads, image_size)
    return _onnx(spec, folder, variant or "fp32", threads, image_size)


def open_embedders(
    models: Sequence[str],
    *,
    baselines: bool = True,
    pixels: int = 16,
    threads: int | None = None,
    image_size: int | None = None,
) -> list[Embedder]:
    """Models to be scored, behind what they are to be compared with.

    Args:
        models: As `open_embedder` takes them; a single one is called "the encoder".
        baselines: Put pixels, and the untrained encoder where the first model is one in Keras, before them.
        pixels: Side to which pictures are resized for pixels.
        threads: As `open_embedder` takes it.
        image_size: As `open_embedder` takes it, of all models and the untrained encoder.

    Raises:
        ValueError: as `open_embedder` does.
    """
    embedders = [open_embedder(model, threads, image_size) for model in models]
    if len(embedders) == 1:
        name = "the encoder" + (f", {image_size} px" if image_size else "")
        embedders = [dataclasses.replace(embedders[0], name=name)]
    if not baselines:
        return embedders
    fresh = untrained(models[0], threads, image_size)
    if fresh and len(embedders) > 1:
        fresh = dataclasses.replace(fresh, name=f"{embedders[0].name}, untrained")
    return [*pixel_embedders(pixels), *([fresh] if fresh else []), *embedders]


def untrained(
    spec: str | os.PathLike, threads: int | None = None, image_size: int | None = None
) -> Embedder | None:
    """The architecture of a Keras encoder with weights drawn with seed 0; None where `spec` is no Keras encoder.

    Args:
        spec: As `open_embedder` takes it, with `threads` and `image_size`.
        threads: Likewise.
        image_size: Likewise.
    """
    spec = str(spec)
    if (":" in spec and not pathlib.Path(spec).exists()) or pathlib.Path(spec).is_file():
        return None
    folder = _folder(split_variant(spec)[0])
    if not _weights(folder):
        return None
    config = (folder / "config.json").read_bytes()
    key = {"kind": "untrained", "revision": hashlib.sha256(config).hexdigest(), "seed": 0, "whitening": None}
    calls = _keras_calls(folder, threads, False, image_size)
    return _sized(Embedder("the encoder, untrained", key, **calls), image_size)


def _folder(name, variant=""):
    if variant:
        return find_folder(name, lambda config: [(f"onnx/{onnx_file(variant)}", "")])
    return find_folder(name, lambda config: [(*_WEIGHTS, f"onnx/{onnx_file('fp32')}"), (_OTHERS, "")])


def _weights(folder):
    """The Keras or torch weights of a folder, or None."""
    return next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)


def _config(folder):
    """Ours where it is ours, the encoder's preprocessing in another library's words where it is not."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if is_ours(config):
        return read_config(folder)
    others = folder / _OTHERS
    return {"preprocessing": json.loads(others.read_text(encoding="utf-8")) if others.is_file() else config}


def _preprocessing(folder, image_size):
    """What stands in a folder's configuration; at another size, in our words where it is ours."""
    settings = _config(folder)["preprocessing"]
    config = read_json(folder / "config.json") or {}
    if image_size is None or not is_ours(config):
        return settings
    return Preprocessing.from_dict(settings).at(image_size, patch_size_of(config)).to_dict()


def _keras_calls(folder, threads, trained, image_size):
    @functools.cache
    def load():
        import keras

        from memssl_keras.encoders.copies import fresh_copy
        from memssl_keras.pretrained import from_pretrained

        if threads is not None and keras.backend.backend() == "torch":
            import torch

            torch.set_num_threads(threads)
        encoder = from_pretrained(folder, image_size=image_size)
        if trained:
            return encoder
        keras.utils.set_random_seed(0)
        return fresh_copy(encoder)  # not its whitening: that is fitted to a trained encoder

    def embed(images):
        return load().embed(images, batch_size=BATCH)

    def scaled(images, factor):
        encoder = load()
        preprocess = scaled_preprocessing(encoder.preprocess, factor)
        starts = range(0, len(images), BATCH)
        parts = [encoder.predict_on_batch(preprocess.batch(images[s : s + BATCH])) for s in starts]
        return unit(np.concatenate(parts), "features")

    def blocks(images, count, patches):
        from memssl_keras.evaluate.blocks import embed_blocks

        return embed_blocks(load(), images, count, patches)

    is_vit = folder.is_file() or _config(folder).get("model_type") != "keras"
    return {"embed": embed, "scaled": scaled, "blocks": blocks if is_vit else None}


def _keras(spec, folder, threads, image_size):
    key = {
        "kind": "keras",
        "revision": sha256(folder / "config.json", _weights(folder)),
        "preprocessing": _preprocessing(folder, image_size),
    }
    return Embedder(spec, key, **_keras_calls(folder, threads, True, image_size))


def _onnx(spec, folder, variant, threads, image_size):
    read_config(folder)
    file = find_onnx(folder, variant)

    @functools.cache
    def load():
        from memssl_keras.export.runtime import OnnxEncoder

        return OnnxEncoder.from_pretrained(folder, variant=variant, threads=threads, image_size=image_size)

    key = {
        "kind": "onnx",
        "variant": variant,
        "revision": sha256(file),
        "preprocessing": _preprocessing(folder, image_size),
    }

    def scaled(images, factor):
        encoder = copy.copy(load())
        encoder.preprocessing = scaled_preprocessing(encoder.preprocessing, factor)
        return encoder.embed(images, batch_size=BATCH)

    return Embedder(spec, key, lambda images: load().embed(images, batch_size=BATCH), scaled)


def _function(spec):
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"model: got {spec!r}; expected module:function on the Python path ({error})"
        ) from None
    if not callable(function):
        raise ValueError(f"model: got {spec!r}; expected a function, it is {type(function).__name__}")
    try:
        source = pathlib.Path(inspect.getsourcefile(module)).read_bytes()
    except TypeError:  # built in
        source = b""
    # What the module imports or loads is not seen: whoever changes that asks for fresh features.
    key = {"kind": "function", "name": spec, "revision": hashlib.sha256(source).hexdigest()}
    return Embedder(spec, key, function)
