"""White features: those of an encoder, turned by a linear map that a data set determines without labels."""

import keras
import numpy as np

from memssl_keras.branch import feature_width
from memssl_keras.lean import Linear
from memssl_keras.massl import MaSSL

LAYER = "whitening"


def whitening(features, shrinkage=0.1):
    """Mean `(D,)` and symmetric matrix `(D, D)`, both float64, that make features white: `(x - mean) @ matrix`.

    Of all maps that do, it is the one that moves the features least.

    Args:
        features: `(N, D)`.
        shrinkage: What is added to every variance before its root is taken, as a share of their mean; above 0,
            since it keeps directions in which hardly anything differs from becoming noise.

    Raises:
        ValueError: for a shrinkage that is not above 0, fewer than two features, or features that are all alike.
    """
    if not shrinkage > 0:
        raise ValueError(f"shrinkage={shrinkage}: expected a number above 0, such as 0.1")
    if len(features) < 2:
        raise ValueError(f"features: got {len(features)}; expected two or more")
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    variances, axes = np.linalg.eigh(np.cov(features - mean, rowvar=False).reshape(2 * [features.shape[1]]))
    variances = np.maximum(variances, 0)
    if not variances.any():
        raise ValueError("features: all of them are alike; there is nothing to whiten")
    return mean, (axes / np.sqrt(variances + shrinkage * variances.mean())) @ axes.T


def whiten(model, images, shrinkage=0.1, batch_size=256):
    """The same `MaSSL` with white features: a last linear layer in its encoders, which its heads undo.

    Embeddings, memory and loss stay as they were, up to rounding; what changes is the feature that the encoder gives,
    in which no direction drowns the others any more when features are compared. Means and covariances are those of
    the teacher's features of whole images.

    Args:
        model: A `MaSSL` whose encoder is a functional model of one output, such as a `ResNet`.
        images: Unlabelled ones, as `embed` takes them: some thousand of those it was trained on.
        shrinkage: See `whitening`.
        batch_size: Images per forward pass.

    Returns:
        A new `MaSSL`, not compiled.

    Raises:
        ValueError: for another encoder, one that is white already, or as `whitening` does.

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
    mean, matrix = whitening(raw_features(encoder, images, batch_size), shrinkage)
    white = MaSSL(_extended(encoder), **_settings(model))
    for name in ("student", "teacher"):
        before, after = getattr(model, name), getattr(white, name)
        after.encoder.set_weights([*before.encoder.get_weights(), matrix, -mean @ matrix])
        kernel, bias, *others = before.head.get_weights()
        after.head.set_weights([np.linalg.solve(matrix, kernel), bias + mean @ kernel, *others])
    white.memory.set_weights(model.memory.get_weights())
    return white


def raw_features(encoder, images, batch_size=256):
    """Features `(N, D)` of images, of the length that the encoder gives them."""
    from memssl_keras.pretrained import preprocessing_of

    preprocess, images = preprocessing_of(encoder), list(images)
    return np.concatenate(
        [
            keras.ops.convert_to_numpy(
                encoder.predict_on_batch(preprocess.batch(images[i : i + batch_size]))
            ).astype("float32")
            for i in range(0, len(images), batch_size)
        ]
    )


def _extended(encoder):
    width = feature_width(encoder)
    twin = type(encoder).from_config(encoder.get_config())
    features = Linear(width, dtype="float32", name=LAYER)(twin.output)
    extended = keras.Model(twin.input, features, name=encoder.name)
    extended.preprocessing = getattr(encoder, "preprocessing", None)
    return extended


def _settings(model):
    return {name: value for name, value in model.get_config().items() if name not in ("encoder", "name")}
