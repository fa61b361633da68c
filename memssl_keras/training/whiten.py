"""A model with whitened features: the map that a data set determines without labels, and a head that undoes it."""

import contextlib
import itertools

import keras
import numpy as np

from memssl_keras.images import ImageError
from memssl_keras.training.massl import MaSSL

LAYER = "whitening"


def whiten(
    model, images, shrinkage=0.1, rank=256, batch_size=256, pooling_grid=None, power=1.0, reduce=False
):
    """The same `MaSSL` with white features: a last layer `Whitening` in its encoders, which its heads undo.

    Embeddings, memory and loss stay as they were, up to rounding; what changes is the feature that the encoder gives,
    in which no direction drowns the others any more when features are compared. Means and covariances are those of
    the teacher's features of whole images.

    Args:
        model: A `MaSSL` whose encoder is a functional model of one output, such as a `ResNet`.
        images: Unlabelled ones, as `embed` takes them: some thousand of those it was trained on.
        shrinkage: See `Whitening.fit`.
        rank: Axes that are scaled each by its own variance; of fewer features, all.
        batch_size: Images per forward pass.
        pooling_grid: Of a `ResNet`, a number for each stage, as `ResNet` takes them: features from the maps of earlier
            stages, which say more of colours and edges, as well.
        power: See `Whitening.fit`.
        reduce: Features of `rank` numbers. What the head is given then lacks the other axes, so that embeddings are
            not quite those from before.

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
    settings = {"rank": min(rank, raw.embed_dim)} | ({"reduce": True} if reduce else {})
    whitened = MaSSL(raw.extended(whitening=settings), **_settings(model))
    layer = _whitening_of(whitened.encoder)
    layer.fit(raw_features(raw, images, batch_size), shrinkage, power)
    mean = layer.get_weights()[0]
    for name in ("student", "teacher"):
        before, after = getattr(model, name), getattr(whitened, name)
        weights = before.encoder.extended(pooling_grid=pooling_grid).get_weights()
        after.encoder.set_weights([*weights, *layer.get_weights()])
        kernel, bias, *others = before.head.get_weights()
        # The head was not taught the other stages.
        kernel = np.pad(kernel, [(0, raw.embed_dim - len(kernel)), (0, 0)])
        after.head.set_weights([layer.undone(kernel), bias + mean @ kernel, *others])
    whitened.memory.set_weights(model.memory.get_weights())
    return whitened


def _whitening_of(encoder):
    return next(layer for layer in encoder._flatten_layers() if layer.name == LAYER)


def raw_features(encoder, images, batch_size=256):
    """Features `(N, D)` of images, of the length that the encoder gives them; unreadable images are left out."""
    preprocess, remaining = encoder.preprocess, iter(images)
    parts = [np.zeros((0, encoder.embed_dim), "float32")]
    while batch := list(itertools.islice(remaining, batch_size)):
        pixels = []
        for image in batch:
            with contextlib.suppress(ImageError):
                pixels.append(preprocess(image))
        if pixels:
            parts.append(keras.ops.convert_to_numpy(encoder.predict_on_batch(np.stack(pixels))))
    return np.concatenate(parts).astype("float32")


def _settings(model):
    return {name: value for name, value in model.get_config().items() if name not in ("encoder", "name")}
