"""What can be evaluated: encoders in Keras and ONNX, functions of others, and the baselines they have to beat."""

import dataclasses
import functools
import hashlib
import importlib
import inspect
import pathlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from memssl_keras.images import read_image

BATCH = 64  # more is no faster on processors
WEIGHTS = "model.safetensors"  # as in memssl_keras.pretrained, which loads keras


@dataclasses.dataclass(frozen=True)
class Embedder:
    """Anything that turns images into features.

    Attributes:
        name: How it is called in tables.
        key: What its features depend on, as JSON holds it; features are kept under it.
        embed: From a list of images, as `read_image` takes them, to features `(N, D)`. What has to be loaded for it
            is loaded at the first call, so that kept features need no model.
    """

    name: str
    key: dict
    embed: Callable[[list], np.ndarray]


def pixels(images, size, centred=False):
    """Pixels as features, the baseline that an encoder has to beat: `(N, size · size · 3)` float32, 0 … 255.

    Args:
        images: What `read_image` takes.
        size: Side in pixels to which each image is resized.
        centred: Subtract each image's own mean. That takes brightness out, which raw pixels are mostly compared by,
            and makes the baseline much harder to beat.
    """
    rows = np.empty((len(images), size * size * 3), "float32")
    for row, image in zip(rows, images, strict=True):
        picture = Image.fromarray(read_image(image)).resize((size, size), Image.Resampling.BICUBIC)
        row[:] = np.asarray(picture).ravel()
    return rows - rows.mean(axis=1, keepdims=True) if centred else rows


def pixel_embedders(size):
    """Raw pixels at `size` px, and the same less each image's mean."""
    return [
        Embedder(f"{words}, {size} px", key, functools.partial(pixels, size=size, centred=centred))
        for words, centred in (("raw pixels", False), ("pixels less their mean", True))
        for key in [{"kind": "pixels", "size": size, "centred": centred}]
    ]


def open_embedder(spec, threads=None):
    """What a user names on the command line.

    Args:
        spec: A folder of an encoder or the name of a bundled one: its Keras weights, or its ONNX model where there
            are none; the same with `@VARIANT`, such as `@fp32`: that ONNX variant; or `module:function`, a function
            from a list of images to features `(N, D)`.
        threads: Processor threads of the encoder; all by default. On a machine that is busy with something else one
            is faster than all.

    Raises:
        ValueError: where there is no such model, variant or function.

    Example:
        >>> from memssl_keras.evaluate.embedders import open_embedder
        >>> open_embedder("numpy:asarray").key["kind"]
        'function'
    """
    spec = str(spec)
    whole, (name, _, variant) = pathlib.Path(spec), spec.rpartition("@")
    if ":" in spec and not whole.exists() and "/" not in spec:
        return _function(spec)
    if whole.is_dir() or not name:
        name, variant = spec, ""
    folder = _folder(name)
    if not variant and (folder / WEIGHTS).is_file():
        return _keras(spec, folder, threads)
    return _onnx(spec, folder, variant or "fp32", threads)


def untrained(spec, threads=None):
    """The architecture of a Keras encoder with weights drawn with seed 0; None where `spec` is no Keras encoder."""
    spec = str(spec)
    if ":" in spec and not pathlib.Path(spec).exists():
        return None
    name = spec if pathlib.Path(spec).is_dir() else spec.partition("@")[0]
    folder = _folder(name)
    if not (folder / WEIGHTS).is_file():
        return None
    config = (folder / "config.json").read_bytes()
    key = {"kind": "untrained", "revision": hashlib.sha256(config).hexdigest(), "seed": 0}
    return Embedder("the encoder, untrained", key, _keras_embed(folder, threads, trained=False))


def _folder(name):
    from memssl_keras.zoo.registry import resolve

    folder = pathlib.Path(name)
    return folder if folder.is_dir() else resolve(str(name))


def _revision(*files):
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _keras_embed(folder, threads, trained):
    @functools.cache
    def load():
        import keras

        from memssl_keras.pretrained import from_pretrained

        if threads is not None and keras.backend.backend() == "torch":
            import torch

            torch.set_num_threads(threads)
        encoder = from_pretrained(folder)
        if trained:
            return encoder
        keras.utils.set_random_seed(0)
        fresh = type(encoder).from_config(encoder.get_config())
        fresh.preprocessing = encoder.preprocessing
        return fresh

    def embed(images):
        from memssl_keras.pretrained import embed as embed_with

        return embed_with(load(), images, batch_size=BATCH)

    return embed


def _keras(spec, folder, threads):
    from memssl_keras.export.folder import read_config

    key = {
        "kind": "keras",
        "revision": _revision(folder / "config.json", folder / WEIGHTS),
        "preprocessing": read_config(folder)["preprocessing"],
    }
    return Embedder(spec, key, _keras_embed(folder, threads, trained=True))


def _onnx(spec, folder, variant, threads):
    from memssl_keras.export.folder import find_onnx, read_config

    config, file = read_config(folder), find_onnx(folder, variant)

    @functools.cache
    def load():
        from memssl_keras.export.runtime import OnnxEncoder

        return OnnxEncoder.from_pretrained(folder, variant=variant, threads=threads)

    key = {
        "kind": "onnx",
        "variant": variant,
        "revision": _revision(file),
        "preprocessing": config["preprocessing"],
    }
    return Embedder(spec, key, lambda images: load().embed(images, batch_size=64))


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
