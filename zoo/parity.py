"""Whether the files of a folder are one and the same model."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.export.bounds import ParityError, problem
from memssl_keras.export.session import open_session
from memssl_keras.export.verify import compare, compare_raw_pixels
from memssl_keras.weights.checkpoint import read_checkpoint
from memssl_keras.weights.config import RAW_PIXELS, VARIANTS
from memssl_keras.weights.folder import read_encoder
from memssl_keras.weights.layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS
from memssl_keras.weights.opening import read_family, to_encoder
from memssl_keras.zoo import memory

TOLERANCE = 1e-4  # largest difference of a CLS embedding from one library to another


def check_parity(folder: PathLike) -> dict[str, float]:
    """Compare every file of a folder with `model.safetensors`.

    Files for Keras and transformers are compared on three smooth random pictures, ONNX files as `export_onnx` does it,
    with the same bounds (float32 1e-4, float16 5e-3, int8 a mean cosine of .99). A memory that the folder ships must be
    one of these weights and of its head, see `zoo.memory`.

    Returns:
        File → largest absolute difference of a CLS embedding; for ONNX files one less the mean cosine.

    Raises:
        ParityError: naming each file that is further away than it may be.

    Example:
        >>> from memssl_keras.zoo.parity import check_parity
        >>> from memssl_keras.zoo.registry import resolve
        >>> max(check_parity(resolve("massl_vitn4.cifar10")).values()) < 0.01
        True
    """
    folder = Path(folder)
    encoder = read_encoder(folder)
    pixels = encoder.preprocess.batch(_pictures())
    expected = encoder.predict_on_batch(pixels)
    found, wrong = {}, []
    for file, given in _others(folder, pixels):
        found[file] = float(np.abs(expected - given).max())
        if not found[file] <= TOLERANCE:
            wrong.append(f"{file} differs by {found[file]:.1e}, more than {TOLERANCE:.0e}")
    for file, verified in _onnx(folder, encoder):
        found[file] = 1 - verified.mean_cosine
        if words := problem(verified):
            wrong.append(f"{file} {words}")
    if words := memory.problem(folder):
        wrong.append(words)
    if wrong:
        raise ParityError(f"{folder}: not the model of model.safetensors: {'; '.join(wrong)}")
    return found


def _pictures():
    coarse = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    return [Image.fromarray(grid).resize((256, 256), Image.Resampling.BICUBIC) for grid in coarse]


def _others(folder, pixels):
    """Each file of another library and the CLS embeddings that it gives."""
    if (folder / KERAS_MODEL).is_file():
        yield KERAS_MODEL, keras.saving.load_model(folder / KERAS_MODEL).predict_on_batch(pixels)
    if (folder / TRANSFORMERS_WEIGHTS).is_file():
        yield TRANSFORMERS_WEIGHTS, _of_transformers(folder).predict_on_batch(pixels)


def _onnx(folder, encoder):
    """Each ONNX file and how it compares."""
    for variant in VARIANTS:
        path = folder / "onnx" / VARIANTS[variant]
        if path.is_file():
            side = open_session(path).get_inputs()[0].shape[2]
            yield (
                f"onnx/{path.name}",
                compare(path, encoder, variant, side if isinstance(side, int) else None),
            )
        path = folder / "onnx" / RAW_PIXELS[variant]
        if path.is_file():
            yield f"onnx/{path.name}", compare_raw_pixels(path, encoder, encoder.preprocess, variant)


def _of_transformers(folder):
    path = folder / TRANSFORMERS_WEIGHTS
    files = {
        name: json.loads((folder / f"{file}.json").read_text(encoding="utf-8"))
        for name, file in (("config", "config"), ("preprocessor", "preprocessor_config"))
    }
    return to_encoder(read_family(read_checkpoint(path), source=str(path), **files), str(path))
