"""Whether the files of a folder are one and the same model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from memssl_keras.export.folder import VARIANTS, find_onnx

from .layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS

TOLERANCE = 1e-4  # largest difference of a CLS embedding in single precision
COSINE = {"fp16": 0.999, "int8": 0.95, "int8-static": 0.95}  # smallest cosine to it of what is less precise


def check_parity(folder) -> dict[str, float]:
    """Compare every file of a folder with `model.safetensors`, on three smooth random pictures.

    Returns:
        File → largest absolute difference of a CLS embedding, and for fp16 and int8 one less the smallest cosine.

    Raises:
        ParityError: naming each file that is further away than `TOLERANCE` or `COSINE` lets it.

    Example:
        >>> from memssl_keras.zoo.parity import check_parity
        >>> from memssl_keras.zoo.registry import resolve
        >>> max(check_parity(resolve("massl_vitn4.cifar10")).values()) < 0.05
        True
    """
    from memssl_keras.export.onnx import ParityError
    from memssl_keras.pretrained import preprocessing_of, read_encoder

    folder = Path(folder)
    encoder = read_encoder(folder)
    pixels = preprocessing_of(encoder).batch(_pictures())
    expected = encoder.predict_on_batch(pixels)
    found, wrong = {}, []
    for file, given in _others(folder, pixels):
        variant = next((name for name, onnx in VARIANTS.items() if file == f"onnx/{onnx}"), None)
        if variant in COSINE:
            found[file], limit = 1 - float(_cosine(expected, given).min()), 1 - COSINE[variant]
        else:
            found[file], limit = float(np.abs(expected - given).max()), TOLERANCE
        if not found[file] <= limit:
            wrong.append(f"{file} differs by {found[file]:.1e}, more than {limit:.0e}")
    if wrong:
        raise ParityError(f"{folder}: not one model: {'; '.join(wrong)} from model.safetensors")
    return found


def _pictures():
    from PIL import Image

    coarse = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), np.uint8)
    return [Image.fromarray(grid).resize((256, 256), Image.Resampling.BICUBIC) for grid in coarse]


def _cosine(one, other):
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(1) / np.maximum(lengths, 1e-12)


def _others(folder, pixels):
    """Each other file of the folder and the CLS embeddings that it gives."""
    if (folder / KERAS_MODEL).is_file():
        import keras

        yield KERAS_MODEL, keras.saving.load_model(folder / KERAS_MODEL).predict_on_batch(pixels)
    if (folder / TRANSFORMERS_WEIGHTS).is_file():
        yield TRANSFORMERS_WEIGHTS, _of_transformers(folder).predict_on_batch(pixels)
    import onnxruntime

    for variant in VARIANTS:
        if (folder / "onnx" / VARIANTS[variant]).is_file():
            session = onnxruntime.InferenceSession(
                find_onnx(folder, variant), providers=["CPUExecutionProvider"]
            )
            inputs = {"pixel_values": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}
            yield f"onnx/{VARIANTS[variant]}", session.run(["pooler_output"], inputs)[0].astype("float32")


def _of_transformers(folder):
    import json

    from memssl_keras.convert import read_family, to_encoder
    from memssl_keras.convert.checkpoint import read_checkpoint

    path = folder / TRANSFORMERS_WEIGHTS
    files = {
        name: json.loads((folder / f"{file}.json").read_text())
        for name, file in (("config", "config"), ("preprocessor", "preprocessor_config"))
    }
    return to_encoder(read_family(read_checkpoint(path), source=str(path), **files), str(path))
