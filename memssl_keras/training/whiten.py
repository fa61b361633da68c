"""PCA whitening of the features of a trained model, fitted without labels; its head undoes the whitening."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np

from memssl_keras.encoders import Encoder
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.images import ImageError, Preprocessing
from memssl_keras.training.massl import MaSSL


def whiten(
    model: MaSSL,
    images: Iterable,
    shrinkage: float = 0.1,
    rank: int = 256,
    batch_size: int = 256,
    pooling_grid: Sequence[int] | None = None,
    power: float = 1.0,
    reduce: bool = False,
    on_error: Callable[[ImageError], object] = lambda error: None,
) -> MaSSL:
    """The same `MaSSL` with whitened features: its encoders get a `Whitening` layer, which its heads undo.

    The head's embeddings, the memory and the loss stay the same, up to rounding. Only the encoder's features change:
    all directions get the same variance. The whitening is fitted to the teacher's features of whole images.

    Args:
        model: A `MaSSL` whose encoder is a functional model of one output, such as a `ResNet`.
        images: Unlabelled images, as `embed` takes them, such as a few thousand of the training images.
        shrinkage: See `Whitening.fit`.
        rank: Number of principal axes that are scaled individually; at most the width of the features.
        batch_size: Images per forward pass.
        pooling_grid: For a `ResNet`: one number for each stage, as `ResNet` takes them, to add features from the maps
            of earlier stages.
        power: See `Whitening.fit`.
        reduce: Reduce features to `rank` numbers. The head then lacks the other axes, so that its embeddings change a
            little.
        on_error: Called for each image that cannot be read and is skipped.

    Returns:
        A new `MaSSL`, not compiled.

    Raises:
        ValueError: for another encoder, one that is whitened already, or as `Whitening.fit` and `Encoder.extended` do.

    References:
        Jégou and Chum, Negative Evidences and Co-occurences in Image Retrieval: The Benefit of PCA and Whitening,
        ECCV 2012, for whitening of features that are compared; Ledoit and Wolf, A Well-Conditioned Estimator for
        Large-Dimensional Covariance Matrices, Journal of Multivariate Analysis 2004, for shrinkage.
    """
    raw = model.encoder.extended(pooling_grid=pooling_grid)
    layer = Whitening(min(rank, raw.embed_dim), reduce)
    layer.build((None, raw.embed_dim))
    layer.fit(raw_features(raw, images, batch_size, on_error=on_error), shrinkage, power)
    return with_whitening(model, layer, pooling_grid)


def with_whitening(model: MaSSL, layer: Whitening, pooling_grid: Sequence[int] | None = None) -> MaSSL:
    """The same `MaSSL` with a fitted `Whitening` layer behind its encoders, and heads that undo it.

    Args:
        model: As `whiten` takes it.
        layer: Fitted to the features of the model's encoder with that pooling grid.
        pooling_grid: As `whiten` takes it.

    Returns:
        A new `MaSSL`, not compiled.

    Raises:
        ValueError: as `Encoder.extended` does, or where the layer is for features of another width.
    """
    mean, settings = layer.get_weights()[0], {"rank": layer.rank}
    if layer.reduce:
        settings["reduce"] = True
    white = model.encoder.extended(pooling_grid=pooling_grid).extended(whitening=settings)
    whitened = MaSSL(white, **_settings(model))
    for name in ("student", "teacher"):
        before, after = getattr(model, name), getattr(whitened, name)
        weights = before.encoder.extended(pooling_grid=pooling_grid).get_weights()
        after.encoder.set_weights([*weights, *layer.get_weights()])
        kernel, bias, *others = before.head.get_weights()
        # The head was not taught the other stages.
        kernel = np.pad(kernel, [(0, len(mean) - len(kernel)), (0, 0)])
        after.head.set_weights([layer.undone(kernel), bias + mean @ kernel, *others])
    whitened.memory.set_weights(model.memory.get_weights())
    return whitened


def whitening_of(encoder: Encoder) -> Whitening | None:
    """The layer that whitens an encoder's features; None where there is none."""
    layers = encoder._flatten_layers()
    return next((layer for layer in layers if isinstance(layer, Whitening)), None)


def raw_features(
    encoder: Encoder,
    images: Iterable,
    batch_size: int = 256,
    preprocess: Preprocessing | None = None,
    on_error: Callable[[ImageError], object] = lambda error: None,
) -> np.ndarray:
    """Features `(N, D)` of images, of the length that the encoder gives them; unreadable images are left out.

    Args:
        encoder: The encoder.
        images: What `read_image` takes.
        batch_size: Images per forward pass.
        preprocess: In place of the encoder's own.
        on_error: Called for each image that is skipped.
    """
    preprocess, remaining = preprocess or encoder.preprocess, iter(images)
    parts = [np.zeros((0, encoder.embed_dim), "float32")]
    while batch := list(itertools.islice(remaining, batch_size)):
        pixels = []
        for image in batch:
            try:
                pixels.append(preprocess(image))
            except ImageError as error:
                on_error(error)
        if pixels:
            parts.append(keras.ops.convert_to_numpy(encoder.predict_on_batch(np.stack(pixels))))
    return np.concatenate(parts).astype("float32")


def _settings(model):
    return {name: value for name, value in model.get_config().items() if name not in ("encoder", "name")}
