"""Keras encoder → self-contained ONNX files, each verified against the Keras model before it is saved."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.encoders import Encoder
from memssl_keras.export.bounds import ParityError, Verification
from memssl_keras.export.job import Job
from memssl_keras.export.quantize import is_convolutional, to_float16, to_int8, to_static_int8
from memssl_keras.export.raw_pixels import check_raw_pixels, with_raw_pixels
from memssl_keras.export.trace import OPSETS, trace
from memssl_keras.images import ImageError
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.images.read import open_picture
from memssl_keras.weights.config import RAW_PIXELS, VARIANTS, read_config
from memssl_keras.weights.folder import write_config

__all__ = ["ParityError", "Verification", "export_onnx"]


def export_onnx(
    encoder: Encoder,
    folder: PathLike,
    *,
    variants: str | Sequence[str] = ("fp32",),
    image_size: int | None = None,
    raw_pixels: bool = False,
    ort: bool = False,
    images: Any = None,
    labels: Sequence | None = None,
    preprocessing: Preprocessing | None = None,
    tolerance: float | None = None,
    opset: int = OPSETS[0],
) -> dict[str, Verification]:
    """Write an encoder into `folder/onnx/`, and `folder/config.json`.

    `model.onnx` takes `pixel_values` `(N, 3, H, W)` float32 and gives `last_hidden_state` `(N, T, D)` and
    `pooler_output` `(N, D)`; an encoder other than a ViT gives `pooler_output` alone. N, H and W are dynamic. Each
    file holds its weights. It is verified against the Keras encoder before it is saved; the measured differences are
    in a `….verify.json` beside it.

    Args:
        encoder: A `ViT` or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        folder: Folder to write; made if missing.
        variants: Any of `"fp32"`, `"fp16"` (inputs, outputs, norms and softmax in float32), `"int8"` (dynamic
            quantisation of matrix products, static quantisation of convolutions, calibrated with `images` or else with
            generated ones) and `"int8-static"` (all static, calibrated with `images`); `"all"` for all
            possible ones that differ.
        image_size: Fix the input to squares of this side, for a smaller and faster graph.
        raw_pixels: Write `raw_pixels.onnx` of each variant as well: `image` `(N, H, W, 3)` uint8 of any size → unit
            vectors `embedding` `(N, D)`, with the preprocessing in the graph.
        ort: Write each file in ONNX Runtime's own format as well, optimised, for its builds for mobile devices.
        images: Typical images, as `read_image` takes them: int8 is calibrated with at most 256 from all parts of
            them, and every variant is verified on all.
        labels: Their classes, integers `(N,)`: k-NN accuracy is then verified as well.
        preprocessing: A `Preprocessing` in place of the encoder's own.
        tolerance: Largest accepted difference between float32 ONNX and the Keras encoder; 1e-4 by default.
        opset: ONNX opset version, 18 to 21.

    Returns:
        File name → `Verification`.

    Raises:
        ParityError: where files fail verification: float32 differs by more than 1e-4, float16 by more than 5e-3, int8
            has a mean cosine below .99, or recall@1 or k-NN on `images` falls by more than half a point and by more
            than two images. The error names these files, which are not written, and `written` those that are.
        ValueError: for an argument out of its range, a folder that holds something else, or an operation that
            ONNX lacks; nothing is written.

    Example:
        >>> import tempfile
        >>> from memssl_keras import ViT, export_onnx
        >>> encoder = ViT(embed_dim=48, depth=1, num_heads=3, patch_size=8, image_size=32)
        >>> written = export_onnx(encoder, tempfile.mkdtemp(), variants=["fp32", "int8"])
        >>> written["model.onnx"].largest_difference < 1e-4
        True
    """
    images = None if images is None else list(images)
    if labels is not None and (images is None or len(labels) != len(images)):
        raise ValueError(f"labels: got {len(labels)} for {len(images or ())} images; expected one for each")
    images, labels = _readable(images, labels)
    chosen = _check_variants(variants, images)
    encoder = Encoder.wrap(encoder)
    folder, preprocess = pathlib.Path(folder), preprocessing or encoder.preprocess
    if image_size is not None and image_size != preprocess.image_size:
        encoder.check_image_size(image_size)
        preprocess = preprocess.at(image_size)
    _check_folder(folder, preprocess)
    if raw_pixels:
        check_raw_pixels(preprocess)
    job = Job(encoder, folder, preprocess, images, labels, tolerance, image_size)
    job.float32 = trace(encoder, image_size=image_size, opset=opset)
    if variants == "all" and is_convolutional(job.float32):
        chosen = [variant for variant in chosen if variant != "int8-static"]  # whose int8 is static
    graphs = _variants(job.float32, chosen, job)
    for variant, graph in graphs:
        job.write(graph, VARIANTS[variant], variant, ort)
    if raw_pixels and job.written:
        square = trace(encoder, image_size=preprocess.image_size, tokens=False, opset=opset)
        for variant, graph in _variants(square, [v for v in chosen if VARIANTS[v] in job.written], job):
            job.write(with_raw_pixels(graph, preprocess), RAW_PIXELS[variant], variant, ort, raw=True)
    if job.written:
        write_config(encoder, folder, preprocess)
    if job.failures:
        raise ParityError("; ".join(job.failures), job.written)
    return job.written


def _readable(images, labels):
    """The images that can be read and their labels; the others are skipped, with a warning that names them."""
    if images is None:
        return images, labels
    kept, lost = [], []
    for row, image in enumerate(images):
        try:
            open_picture(image)
            kept.append(row)
        except ImageError as error:
            lost.append(str(error))
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(images)} images are unreadable and skipped: {'; '.join(lost[:3])}",
            stacklevel=3,
        )
    return [images[row] for row in kept], None if labels is None else [labels[row] for row in kept]


def _check_variants(variants, images):
    if variants == "all":
        return [v for v in VARIANTS if v != "int8-static" or images]
    variants = [variants] if isinstance(variants, str) else list(dict.fromkeys(variants))
    if not variants or not set(variants) <= set(VARIANTS):
        raise ValueError(f"variants={variants}: expected some of {', '.join(VARIANTS)}, or 'all'")
    if "int8-static" in variants and not images:
        raise ValueError(
            "variants: int8-static takes the ranges of its activations from images; images is "
            f"{'empty' if images == [] else None}, expected some of those it will be used on"
        )
    return variants


def _check_folder(folder, preprocess):
    if not (folder / "config.json").is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(
                f"folder={str(folder)!r} is not empty and holds no model; expected a new one or a model's"
            )
        return
    theirs = read_config(folder)["preprocessing"]
    if theirs != preprocess.to_dict():
        raise ValueError(
            f"folder={str(folder)!r} holds a model with another preprocessing ({theirs}, here {preprocess.to_dict()}); "
            "expected another folder"
        )


def _variants(model, variants, job):
    """Pairs of a variant and its graph."""
    for variant in variants:
        if variant == "fp32":
            yield variant, model
        elif variant == "fp16":
            yield variant, to_float16(model)
        elif variant == "int8":
            yield variant, to_int8(model, job.calibration)
        else:
            yield variant, to_static_int8(model, job.calibration())
