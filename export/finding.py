"""Where an ONNX model's files are, and its preprocessing at the image size that was asked for."""

from __future__ import annotations

from pathlib import Path

from memssl_keras.annotations import PathLike
from memssl_keras.export import foreign
from memssl_keras.export.graph import Graph
from memssl_keras.files import read_json
from memssl_keras.images.preprocess import Preprocessing, check_image_size
from memssl_keras.weights.config import VARIANTS, onnx_file, patch_size_of
from memssl_keras.zoo.hub import find_folder


def find_model(name_or_folder: PathLike, variant: str | None, hub: dict) -> tuple[Path, Path | None, bool]:
    """The folder that says what an encoder is, its ONNX file (None: the variant's), and whether it is one of ours."""
    file = Path(name_or_folder)
    if file.suffix == ".onnx":
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file")
        folder = file.parent.parent if file.parent.name == "onnx" else file.parent
        return folder, file, foreign.is_ours(folder, alone=True)

    names = [variant] if variant else VARIANTS

    def needed(config):
        if foreign.is_foreign(config):
            return foreign.files(variant)
        return [tuple(f"onnx/{onnx_file(name)}" for name in names)]

    folder = find_folder(name_or_folder, needed, **hub)
    if foreign.is_ours(folder):
        return folder, None, True
    graph = foreign.find_graph(folder, variant)
    # Which graph there is was not known before.
    find_folder(name_or_folder, lambda config: foreign.weights(graph.relative_to(folder).as_posix()), **hub)
    return folder, graph, False


def preprocessing_at(image_size: int, settings: Preprocessing, graph: Graph, folder: Path) -> Preprocessing:
    """The preprocessing at a size that the graph takes."""
    check_image_size(image_size)
    if image_size == settings.image_size:
        return settings
    graph.check_size(image_size)  # a graph of a fixed size takes no other multiple of the patch either
    scaled = settings.at(image_size, patch_size_of(read_json(folder / "config.json") or {}))
    graph.check_runs(image_size)
    return scaled
