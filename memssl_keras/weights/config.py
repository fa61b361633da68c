"""The folder that holds a model, as those who run it read it: `config.json` and `onnx/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.images.preprocess import Preprocessing

FORMAT_VERSION = 2  # of config.json; a newer one may mean something else by the same keys
# Name of a variant -> its file in the folder onnx/. The names are those that transformers.js asks for.
VARIANTS = {
    "fp32": "model.onnx",
    "fp16": "model_fp16.onnx",
    "int8": "model_quantized.onnx",
    "int8-static": "model_int8.onnx",
}
HEAD = "head.onnx"  # there too: from the feature of any variant to what the memory is compared with, see `export_head`
RAW_PIXELS = {variant: file.replace("model", "raw_pixels") for variant, file in VARIANTS.items()}
_OWN = ("format_version", "embed_dim", "keras_config")  # entries that no other library writes


def read_config(folder: PathLike) -> dict:
    """Read and check the `config.json` of a model folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is not JSON, lacks a key, or is of a newer `format_version`.

    Example:
        >>> from memssl_keras.weights.config import read_config
        >>> from memssl_keras.zoo.registry import bundled_models, resolve
        >>> all(read_config(resolve(name))["embed_dim"] > 0 for name in bundled_models())
        True
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the folder of a saved encoder")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    required = ("format_version", "embed_dim", "preprocessing")
    if not isinstance(config, dict) or any(key not in config for key in required):
        raise ValueError(
            f"{path}: expected an object with {', '.join(required)}; for a checkpoint of another library, see "
            "memssl convert"
        )
    if not isinstance(config["format_version"], int) or config["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {config['format_version']!r}; this version of memssl-keras reads "
            f"{FORMAT_VERSION}; update it to read newer ones"
        )
    try:
        Preprocessing.from_dict(config["preprocessing"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return config


def is_ours(config: Any) -> bool:
    """Whether a `config.json` is to be read as one of this package, also where entries of it are missing.

    Example:
        >>> from memssl_keras.weights.config import is_ours
        >>> is_ours({"embed_dim": 384}), is_ours({"model_type": "vit"})
        (True, False)
    """
    return isinstance(config, dict) and not config.keys().isdisjoint(_OWN)


def patch_size_of(config: dict) -> int:
    """The patch that a `config.json`, ours or transformers', says of its encoder; 1 where it says none.

    Example:
        >>> from memssl_keras.weights.config import patch_size_of
        >>> patch_size_of({"vision_config": {"patch_size": 16}}), patch_size_of({})
        (16, 1)
    """
    vision = config.get("vision_config")
    patch = (vision if isinstance(vision, dict) else config).get("patch_size")
    return patch if isinstance(patch, int) and patch > 0 else 1


def split_variant(spec: str) -> tuple[str, str]:
    """Split `NAME@VARIANT` into both; of a folder, or a name alone, the variant is empty.

    Example:
        >>> from memssl_keras.weights.config import split_variant
        >>> split_variant("massl_vitn4.cifar10@int8")
        ('massl_vitn4.cifar10', 'int8')
    """
    name, _, variant = str(spec).rpartition("@")
    return (str(spec), "") if Path(spec).is_dir() or not name else (name, variant)


def find_onnx(folder: PathLike, variant: str) -> Path:
    """Return the ONNX file of a variant.

    Raises:
        ValueError: there is no such variant.
        FileNotFoundError: the folder does not hold its file.

    Example:
        >>> from memssl_keras.weights.config import find_onnx
        >>> from memssl_keras.zoo.registry import bundled_models, resolve
        >>> all(find_onnx(resolve(name), "int8").is_file() for name in bundled_models())
        True
    """
    folder = Path(folder)
    path, held = folder / "onnx" / onnx_file(variant), [name for name in VARIANTS if has_onnx(folder, name)]
    if path.is_file():
        return path
    others = sorted(file.name for file in path.parent.glob("*.onnx"))
    if not others:
        raise FileNotFoundError(
            f"{folder}: no ONNX file; expected one that `memssl export {folder}` writes, in Python export_onnx"
        )
    raise FileNotFoundError(
        f"variant={variant!r}: {folder.name} has {', '.join(held or others)}; memssl export writes "
        f"others (memssl export MODEL --variants {variant} --out FOLDER, in Python export_onnx)"
    )


def default_variant(folder: PathLike) -> str:
    """Float32, or of a folder without it the first of the other variants that it has.

    Example:
        >>> from memssl_keras.weights.config import default_variant
        >>> from memssl_keras.zoo.registry import resolve
        >>> default_variant(resolve("massl_vitn4.cifar10"))
        'fp32'
    """
    return next((name for name in VARIANTS if has_onnx(folder, name)), "fp32")


def has_onnx(folder: PathLike, variant: str) -> bool:
    """Whether a folder holds the ONNX file of a variant."""
    return (Path(folder) / "onnx" / VARIANTS[variant]).is_file()


def onnx_file(variant: str) -> str:
    """Return the name of a variant's file in the folder `onnx/`.

    Raises:
        ValueError: there is no such variant.

    Example:
        >>> from memssl_keras.weights.config import onnx_file
        >>> onnx_file("int8")
        'model_quantized.onnx'
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r}: there is no such variant; expected {', '.join(VARIANTS)}")
    return VARIANTS[variant]
