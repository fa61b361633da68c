"""One export: each graph is checked against the encoder, put in place, and what was measured is noted beside it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from memssl_keras.encoders import Encoder
from memssl_keras.export import verify
from memssl_keras.export.bounds import ParityError, Verification, check
from memssl_keras.export.calibration import dead_leaves
from memssl_keras.export.graph import Graph
from memssl_keras.export.pack import packed
from memssl_keras.export.quantize import MOST_CALIBRATION_IMAGES
from memssl_keras.export.runtime import OnnxEncoder
from memssl_keras.export.session import open_session
from memssl_keras.files import replace_file, write_json
from memssl_keras.images import read_image
from memssl_keras.images.preprocess import Preprocessing

CHUNK = 32  # pictures that are decoded at once
DEAD_LEAVES = 96  # pictures to calibrate with where the user gives none


class Job:
    """What is compared with what, and what came of it."""

    def __init__(
        self,
        encoder: Encoder,
        folder: pathlib.Path,
        preprocess: Preprocessing,
        images: list | None,
        labels: Sequence | None,
        tolerance: float | None,
        image_size: int | None,
    ):
        self.encoder, self.folder, self.preprocess = encoder, folder / "onnx", preprocess
        self.images, self.labels, self.tolerance, self.image_size = images, labels, tolerance, image_size
        self.written: dict[str, Verification] = {}
        self.failures: list[str] = []
        self._references: dict[bool, np.ndarray] = {}  # of the images, by whether pixels are raw
        self.float32: Any = None

    def calibration(self, batch: int = 8) -> Iterator[np.ndarray]:
        """Full batches `(n, 3, S, S)` of images from all parts of those given: ranges are collected side by side."""
        images = _spread(self.images) if self.images else dead_leaves(DEAD_LEAVES)
        stop = len(images) - len(images) % batch if len(images) > batch else len(images)
        for start in range(0, stop, batch):
            yield self._pixels(images[start : start + batch])

    def write(self, graph: Any, name: str, variant: str, ort: bool, raw: bool = False) -> None:
        """Check a graph and put it in place, or note why not."""
        graph = packed(graph)

        def verified(path):
            onnx.checker.check_model(graph, full_check=True)
            onnx.save(graph, path)
            self._check(path, name, variant, raw)

        try:
            replace_file(self.folder / name, verified)
            self._note(name)
            if ort:
                mobile = str(pathlib.Path(name).with_suffix(".ort"))
                replace_file(
                    self.folder / mobile,
                    lambda path: (
                        _optimise(self.folder / name, path),
                        self._check(path, mobile, variant, raw),
                    ),
                )
                self._note(mobile)
        except ParityError as error:
            self.failures.append(str(error))

    def _note(self, name):
        write_json(self.folder / f"{name}.verify.json", self.written[name].to_dict())

    def _check(self, path, name, variant, raw):
        if raw:
            found = verify.compare_raw_pixels(path, self.encoder, self.preprocess, variant)
        else:
            found = verify.compare(path, self.encoder, variant, self.image_size)
        if variant.startswith("int8") and not raw:
            found = dataclasses.replace(
                found, speedup=verify.speedup(path, self.float32, self.encoder, self.image_size)
            )
        measured = self._on_images(path, raw) if self.images else {}
        found = dataclasses.replace(found, file=name, images=measured)
        check(found, self.tolerance if variant == "fp32" else None)
        self.written[name] = found

    def _on_images(self, path, raw):
        if raw not in self._references:
            self._references[raw] = self._embed_keras(raw)
        return verify.on_images(self._embed(path, raw), self._references[raw], self.labels)

    def _embed_keras(self, raw):
        """What the variants are compared with; a graph of raw pixels sees no JPEG decoded at a fraction."""
        if not raw:
            return self.encoder.embed(self.images, preprocessing=self.preprocess)
        parts = []
        for start in range(0, len(self.images), CHUNK):
            pixels = [read_image(image) for image in self.images[start : start + CHUNK]]
            parts.append(self.encoder.embed(pixels, preprocessing=self.preprocess))
        return np.concatenate(parts)

    def _embed(self, path, raw):
        session = open_session(path)
        if raw:
            return np.concatenate([verify.embed_raw_pixels(session, image) for image in self.images])
        config = {"preprocessing": self.preprocess.to_dict(), "embed_dim": self.encoder.embed_dim}
        graph = Graph(session, pathlib.Path(path))
        return OnnxEncoder(graph, config, graph.file).embed(self.images)

    def _pixels(self, images):
        return np.ascontiguousarray(self.preprocess.batch(images).transpose(0, 3, 1, 2))


def _spread(images):
    """At most `MOST_CALIBRATION_IMAGES` images at equal distances: folders come class by class."""
    count = min(MOST_CALIBRATION_IMAGES, len(images))
    return [images[int(row)] for row in np.linspace(0, len(images) - 1, count)]


def _optimise(source, path):
    """The graph as ONNX Runtime optimises it for any processor, in its own format."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
