"""Is an exported file what the Keras encoder is? Compared in numbers, and on images in what they are for."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import torch
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.encoders.base import Encoder
from memssl_keras.evaluate.protocols.knn import knn_accuracy
from memssl_keras.evaluate.protocols.neighbours import nearest
from memssl_keras.export.bounds import Verification
from memssl_keras.export.session import open_session
from memssl_keras.export.trace import channels_first, device_of, outputs_of, sizes_of
from memssl_keras.images import read_image
from memssl_keras.images.preprocess import Preprocessing

if TYPE_CHECKING:
    import onnx

BATCHES = (1, 3)


def speedup(
    path: PathLike, float32: onnx.ModelProto, encoder: Encoder, image_size: int | None = None, rounds: int = 5
) -> float:
    """How many times as fast as the float32 graph a file is: best of some calls each, in turn, on one thread.

    Args:
        path: An ONNX file with the input `pixel_values`.
        float32: The float32 graph, a `ModelProto`.
        encoder: The Keras model, for the size of the images.
        image_size: The side that the file is fixed to, if it is.
        rounds: Calls of each.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    sessions = [
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for model in (float32.SerializeToString(), str(path))
    ]
    pixels = np.zeros((4, 3, *sizes_of(encoder, image_size)[0]), np.float32)
    best = [np.inf, np.inf]
    for _ in range(rounds + 1):
        for number, session in enumerate(sessions):
            started = time.perf_counter()
            session.run(["pooler_output"], {"pixel_values": pixels})
            best[number] = min(best[number], time.perf_counter() - started)
    return best[0] / max(best[1], 1e-9)


def example_inputs(encoder: Encoder, image_size: int | None = None) -> Iterator[np.ndarray]:
    """Normalised arrays `(N, 3, H, W)`: smooth pictures and noise, at several batch and image sizes."""
    rng, sizes = np.random.default_rng(0), sizes_of(encoder, image_size)
    for height, width in sizes:
        for batch in BATCHES:
            coarse = torch.from_numpy(rng.standard_normal((batch, 3, 4, 4), dtype=np.float32))
            smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").numpy()
            yield smooth + 0.2 * rng.standard_normal(smooth.shape, dtype=np.float32)
    noise = rng.standard_normal((2, 3, *sizes[0]), dtype=np.float32)
    yield noise


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Cosine similarity of each row of two arrays `(N, D)`."""
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return (ours * theirs).sum(1) / np.maximum(norms, 1e-12)


def compare(
    path: PathLike, encoder: Encoder, variant: str = "fp32", image_size: int | None = None
) -> Verification:
    """Run a file beside its Keras encoder.

    Args:
        path: An ONNX file with the input `pixel_values`.
        encoder: The Keras model.
        variant: What the file is.
        image_size: The side that it is fixed to, if it is.

    Returns:
        A `Verification`; a value that is not finite counts as an infinite difference and a cosine of -1.
    """
    encoder = Encoder.wrap(encoder)
    session, module = open_session(path), channels_first(encoder)
    names = [output.name for output in session.get_outputs()]
    device = device_of(module)
    worst, similar, inputs = 0.0, [], []
    for pixels in example_inputs(encoder, image_size):
        with torch.no_grad():
            expected = [output.cpu().numpy() for output in module(torch.from_numpy(pixels).to(device))]
        given = dict(zip(names, session.run(names, {"pixel_values": pixels}), strict=True))
        for name, theirs in zip(outputs_of(module), expected, strict=True):
            difference = np.abs(given[name] - theirs).max() / max(1.0, np.abs(theirs).max())
            worst = max(worst, float(difference)) if np.isfinite(difference) else np.inf
        similar.append(np.nan_to_num(cosines(given["pooler_output"], expected[-1]), nan=-1.0))
        inputs.append([len(pixels), *pixels.shape[2:]])
    return _verification(path, variant, worst, np.concatenate(similar), inputs)


def _verification(path, variant, difference, similar, inputs, raw_pixels=False):
    content = Path(path).read_bytes()
    return Verification(
        Path(path).name,
        variant,
        len(content),
        hashlib.sha256(content).hexdigest(),
        float(difference) if np.isfinite(difference) else np.inf,
        float(similar.mean()),
        float(similar.min()),
        inputs,
        raw_pixels=raw_pixels,
    )


def embed_raw_pixels(session: onnxruntime.InferenceSession, image: Any) -> np.ndarray:
    """Unit vector `(1, D)` of one image through a graph that takes raw pixels."""
    return session.run(["embedding"], {"image": read_image(image)[None]})[0]


def compare_raw_pixels(
    path: PathLike, encoder: Encoder, preprocessing: Preprocessing, variant: str = "fp32"
) -> Verification:
    """Run a raw-pixels file beside `embed` on smooth pictures of 16 to 1200 px and several aspect ratios."""
    rng, pictures = np.random.default_rng(0), []
    for height, width in (
        (16, 16),
        (32, 32),
        (37, 91),
        (375, 500),
        (500, 375),
        (900, 1200),
        (640, 24),
        (3, 300),
    ):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
        pictures.append(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    session = open_session(path)
    expected = Encoder.wrap(encoder).embed(pictures, preprocessing=preprocessing)
    ours = np.concatenate([embed_raw_pixels(session, picture) for picture in pictures])
    similar = np.nan_to_num(cosines(ours, expected), nan=-1.0)
    shapes = [[1, *picture.shape[:2]] for picture in pictures]
    return _verification(path, variant, np.abs(ours - expected).max(), similar, shapes, raw_pixels=True)


def on_images(vectors: np.ndarray, reference: np.ndarray, labels: Sequence | None = None) -> dict[str, Any]:
    """What a variant does to the user's own images.

    Args:
        vectors: The variant's unit vectors `(N, D)`.
        reference: Those of the Keras encoder, of the same images.
        labels: Integer classes `(N,)`, if there are any.

    Returns:
        `images`: N; `recall@1`: share of images that, asked for by the variant's vector, are found first among the
        reference's vectors; `mean_cosine`; with labels `knn` and `reference_knn`, the accuracy of a half
        of the images, drawn by chance, by the votes of the others.
    """
    found = nearest(reference, vectors, 1)[1][:, 0]
    # An image that is there twice may be found in its twin.
    same = np.isclose((reference[found] * reference).sum(1), 1, atol=1e-6) | (found == np.arange(len(found)))
    measured = {
        "images": len(vectors),
        "recall@1": float(same.mean()),
        "mean_cosine": float(cosines(vectors, reference).mean()),
    }
    if labels is not None:
        measured["knn"] = _knn(vectors, labels)
        measured["reference_knn"] = _knn(reference, labels)
    return measured


def _knn(vectors, labels):
    # By a fixed draw: the order of the images may be one of their classes.
    asked, voters = np.split(np.random.default_rng(0).permutation(len(vectors)), [len(vectors) // 2])
    labels = np.asarray(labels)
    return knn_accuracy(
        vectors[voters], labels[voters], vectors[asked], labels[asked], k=min(20, len(voters))
    )
