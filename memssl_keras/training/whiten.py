"""A model with white features: the map that a data set determines without labels, and a head that undoes it."""

import contextlib
import itertools

import keras
import numpy as np

from memssl_keras.encoders.resnet import with_cells
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.training.branch import feature_width
from memssl_keras.training.massl import MaSSL

LAYER = "whitening"


def whiten(model, images, shrinkage=0.1, rank=256, batch_size=256, cells=None):
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
        cells: Of a `ResNet`, a number for each stage, as `memssl_keras.encoders.resnet.with_cells` takes them:
            features from the maps of earlier stages, which say more of colours and edges, as well.

    Returns:
        A new `MaSSL`, not compiled.

    Raises:
        ValueError: for another encoder, one that is white already, or as `Whitening.fit` and `with_cells` do.

    References:
        Jégou and Chum, Negative Evidences and Co-occurences in Image Retrieval: The Benefit of PCA and Whitening,
        ECCV 2012, for whitening of features that are compared; Ledoit and Wolf, A Well-Conditioned Estimator for
        Large-Dimensional Covariance Matrices, Journal of Multivariate Analysis 2004, for shrinkage.
    """
    encoder = model.encoder
    if not hasattr(encoder, "operations"):
        raise ValueError(f"encoder={type(encoder).__name__}: expected a functional model, such as a ResNet")
    if any(layer.name == LAYER for layer in encoder.layers):
        raise ValueError(f"encoder={encoder.name}: its features are white already")
    if cells is not None:
        encoder = with_cells(encoder, cells)
    width = feature_width(encoder)
    map_ = Whitening(min(rank, width), name=LAYER, dtype="float32")
    map_.build((None, width))
    map_.fit(raw_features(encoder, images, batch_size), shrinkage)
    white = MaSSL(_extended(encoder, map_), **_settings(model))
    mean = map_.get_weights()[0]
    for name in ("student", "teacher"):
        before, after = getattr(model, name), getattr(white, name)
        for layer in before.encoder.layers:
            after.encoder.get_layer(layer.name).set_weights(layer.get_weights())
        kernel, bias, *others = before.head.get_weights()
        # The head was not taught the other stages.
        kernel = np.pad(kernel, [(0, width - len(kernel)), (0, 0)])
        after.head.set_weights([map_.undone(kernel), bias + mean @ kernel, *others])
    white.memory.set_weights(model.memory.get_weights())
    return white


def raw_features(encoder, images, batch_size=256):
    """Features `(N, D)` of images, of the length that the encoder gives them; unreadable images are left out."""
    from memssl_keras.images.read import ImageError
    from memssl_keras.pretrained import preprocessing_of

    preprocess, remaining = preprocessing_of(encoder), iter(images)
    parts = [np.zeros((0, feature_width(encoder)), "float32")]
    while batch := list(itertools.islice(remaining, batch_size)):
        pixels = []
        for image in batch:
            with contextlib.suppress(ImageError):
                pixels.append(preprocess(image))
        if pixels:
            parts.append(keras.ops.convert_to_numpy(encoder.predict_on_batch(np.stack(pixels))))
    return np.concatenate(parts).astype("float32")


def _extended(encoder, map_):
    twin = type(encoder).from_config(encoder.get_config())
    extended = keras.Model(twin.input, map_(twin.output), name=encoder.name)
    extended.preprocessing = getattr(encoder, "preprocessing", None)
    return extended


def _settings(model):
    return {name: value for name, value in model.get_config().items() if name not in ("encoder", "name")}
