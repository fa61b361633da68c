"""ONNX encoders that others exported: transformers.js and optimum, timm, and single files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.export.graph import Graph
from memssl_keras.files import read_json
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.config import is_ours as is_ours_config
from memssl_keras.weights.preprocessor import FILE, of_timm, of_transformers

# Variant → its file, in `onnx/` or beside config.json. transformers.js has several names for eight bits.
_FILES = {
    "fp32": ("model.onnx", "vision_model.onnx"),
    "fp16": ("model_fp16.onnx", "vision_model_fp16.onnx"),
    "int8": ("model_quantized.onnx", "model_int8.onnx", "vision_model_quantized.onnx"),
    "int8-static": ("model_int8.onnx",),
}
# Of the file of a graph's weights, where they are too many for its own: transformers.js's, and torch's exporter's.
WEIGHT_SUFFIXES = ("_data", ".data")


def is_foreign(config: Any) -> bool:
    """Whether a `config.json` is another library's."""
    return isinstance(config, dict) and not is_ours_config(config)


def is_ours(folder: PathLike, alone: bool = False) -> bool:
    """Whether a folder is to be read as one of ours, also where it is damaged.

    Args:
        folder: of the encoder.
        alone: whether its graph was named as a file, which needs no folder around it.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / "config.json")
    except ValueError:  # which reading it as ours says
        return True
    if config is None:
        graphs = (folder / name for name in _candidates(None))
        return not alone and not any(graph.is_file() for graph in graphs)
    return not is_foreign(config)


def files(variant: str | None = None) -> list[tuple[str, ...]]:
    """What to fetch of a repository beside `config.json`, as `find_folder` takes it; `weights` names the rest."""
    return [_candidates(variant), (FILE, "")]


def weights(graph: str) -> list[tuple[str, ...]]:
    """What to fetch beside a graph of such a name: its weights, where they have a file of their own."""
    return [(graph + suffix, "") for suffix in WEIGHT_SUFFIXES]


def weight_files(graph: Path) -> list[Path]:
    """Files beside a graph that hold its weights."""
    files = (graph.with_name(graph.name + suffix) for suffix in WEIGHT_SUFFIXES)
    return [file for file in files if file.is_file()]


def find_graph(folder: PathLike, variant: str | None = None) -> Path:
    """The ONNX file of a variant in a folder; of none the first that there is.

    Raises:
        ValueError: there is no such variant.
        FileNotFoundError: the folder does not hold its file.
    """
    for name in _candidates(variant):
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    asked = f"variant={variant!r}: " if variant else ""
    raise FileNotFoundError(
        f"{asked}{folder} has none of {', '.join(_candidates(variant))}; memssl convert reads checkpoints that are not "
        "ONNX"
    )


def read_preprocessing(folder: PathLike) -> Preprocessing:
    """What pictures go through, as the folder of an encoder says it.

    Raises:
        ValueError: nothing says it, or it is more than `Preprocessing` does.
    """
    folder = Path(folder)
    settings, config = read_json(folder / FILE), read_json(folder / "config.json") or {}
    if settings:
        return of_transformers(settings, _image_size(config))
    if "pretrained_cfg" in config:
        return of_timm(config["pretrained_cfg"])
    raise ValueError(
        f"{folder}: no {FILE}, and no pretrained_cfg in config.json; pass preprocessing=Preprocessing(…), with the "
        "size, mean and std that the encoder was trained with"
    )


def describe(graph: Graph, preprocessing: Preprocessing, file: Path) -> dict[str, Any]:
    """The entries of `config.json` that the runtime needs, found by running one picture.

    Raises:
        ValueError: the graph is fixed to another size than the preprocessing gives.
    """
    side = preprocessing.image_size
    if graph.size and graph.size != (side, side):
        raise ValueError(
            f"{file}: takes {graph.size[0]} × {graph.size[1]} px, and the preprocessing gives {side} × {side}"
        )
    try:
        feature = graph.run(np.zeros((1, side, side, 3), np.float32))
    except Exception as error:  # ONNX Runtime's exception classes share no public base
        raise ValueError(f"{file}: does not run on a picture of {side} × {side} px ({error})") from error
    return {"embed_dim": int(feature.shape[1]), "preprocessing": preprocessing.to_dict()}


def _candidates(variant):
    if variant is None:
        return tuple(name for known in _FILES for name in _candidates(known))
    if variant not in _FILES:
        raise ValueError(f"variant={variant!r}: there is no such variant; expected {', '.join(_FILES)}")
    return tuple(place + name for place in ("onnx/", "") for name in _FILES[variant])


def _image_size(config):
    size = (config.get("vision_config") or config).get("image_size")
    return size if isinstance(size, int) else None
