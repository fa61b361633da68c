"""PCA whitening of features, as a linear layer."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor


@keras.saving.register_keras_serializable("memssl_keras")
class Whitening(layers.Layer):
    """A fixed linear layer that whitens features `(B, D)`; see `fit`.

    The `rank` principal axes of largest variance are scaled one by one; all other axes share one variance. This needs
    `2 · D · rank` multiplications instead of `D²`.

    Args:
        rank: Number of principal axes that are scaled individually.
        reduce: Return features along these axes only, `(B, rank)` instead of `(B, D)`.

    References:
        Tipping and Bishop, Probabilistic Principal Component Analysis, JRSS B 1999, for that covariance.
    """

    def __init__(self, rank: int, reduce: bool = False, **kwargs: Any):
        super().__init__(**{"trainable": False, **kwargs})
        self.rank, self.reduce = rank, reduce

    def build(self, shape: Shape) -> None:
        width = shape[-1]
        if not 1 <= self.rank <= width:
            raise ValueError(f"rank={self.rank}: expected 1 … {width}, the width of the features")
        for name, size in (("mean", (width,)), ("axes", (width, self.rank)), ("scales", (self.rank,))):
            setattr(self, name, self.add_weight(shape=size, name=name, trainable=False))
        if not self.reduce:
            self.rest = self.add_weight(shape=(1,), name="rest", trainable=False)

    def call(self, features: Tensor) -> Tensor:
        x = ops.subtract(features, self.mean)
        # As einsum, which quantisers leave in float32: turning weak directions up turns up their rounding.
        if self.reduce:
            return ops.multiply(ops.einsum("bd,dr->br", x, self.axes), self.scales)
        along = ops.multiply(ops.einsum("bd,dr->br", x, self.axes), ops.subtract(self.scales, self.rest))
        return ops.add(ops.multiply(x, self.rest), ops.einsum("br,dr->bd", along, self.axes))

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-1], self.rank) if self.reduce else tuple(shape)

    def fit(self, features: np.ndarray, shrinkage: float = 0.1, power: float = 1.0) -> None:
        """Set the layer's weights from the mean and covariance of features `(N, D)`.

        Args:
            features: Features of an encoder.
            shrinkage: Regularisation above 0: this share of the mean variance is added to every variance, which keeps
                directions of very small variance from becoming noise.
            power: Strength in 0 … 1: 1 gives every direction the same variance, 0 only subtracts the mean. Classifiers
                of few labelled pictures do better with 0.5 than with 1, which amplifies noise in weak directions.

        Raises:
            ValueError: for a shrinkage that is not above 0, a power outside 0 … 1, fewer than two features, or
                identical features.
        """
        _check_strength(shrinkage, power)
        if len(features) < 2:
            raise ValueError(f"features: got {len(features)}; expected two or more")
        features = np.asarray(features, np.float64)
        covariance = np.cov(features, rowvar=False).reshape(2 * [features.shape[1]])
        variances, axes = (array[..., ::-1] for array in np.linalg.eigh(covariance))
        variances = np.maximum(variances, 0)
        if not variances.any():
            raise ValueError("features: all of them are alike; there is nothing to whiten")
        added = shrinkage * variances.mean()
        scales = (variances[: self.rank] + added) ** (-power / 2)
        weights = [features.mean(0), axes[:, : self.rank], scales]
        if not self.reduce:
            others = variances[self.rank :].mean() if self.rank < len(variances) else 0.0
            weights.append(np.array([(others + added) ** (-power / 2)]))
        self.set_weights(weights)

    def fit_pairs(
        self,
        features: np.ndarray,
        first: np.ndarray,
        second: np.ndarray,
        shrinkage: float = 0.1,
        within: float = 0.75,
        power: float = 0.1,
    ) -> None:
        """Set the layer's weights so that what changes from one view of a picture to another counts less.

        First the variance within pairs of views is whitened, such as that of colours where the other view has other
        ones; then, along principal axes, the variance that all features have left. Needs `reduce=True`.

        Args:
            features: Features of pictures, `(N, D)`, of which the second step and the mean are.
            first: Features of a view of each of some pictures, `(M, D)`.
            second: Features of another view of each of them, `(M, D)`.
            shrinkage: As `fit` takes it, for either step.
            within: Strength in 0 … 1 of the first step, as `power` of `fit`.
            power: Strength in 0 … 1 of the second. 1 undoes the first step: all that is left then has one variance,
                as after `fit`.

        Raises:
            ValueError: without `reduce=True`, for a shrinkage or a power that `fit` refuses, for views of two
                shapes or another width, or for views that are all alike.

        References:
            Hatch and Stolcke, Generalized linear kernels for one-versus-all classification: application to speaker
            recognition, ICASSP 2006, for the first step (within-class covariance normalisation).
        """
        if not self.reduce:
            raise ValueError("reduce=False: expected a layer with reduce=True, which keeps no other axes")
        _check_strength(shrinkage, within, "within")
        _check_strength(shrinkage, power)
        features, first, second = (np.asarray(array, np.float64) for array in (features, first, second))
        for name, array, width in (("first", first, features.shape[1:]), ("second", second, first.shape[1:])):
            if array.shape[1:] != width or len(array) != len(first):
                expected = (len(first), *width)
                raise ValueError(f"{name}: got shape {array.shape}; expected {expected}")
        apart = first - second
        variances, axes = np.linalg.eigh(apart.T @ apart / max(2 * len(apart), 1))
        variances = np.maximum(variances, 0)
        if not variances.any():
            raise ValueError("second: equal to first; expected another view of each picture")
        even = (axes * (variances + shrinkage * variances.mean()) ** (-within / 2)) @ axes.T
        self.fit(features @ even, shrinkage, power)
        _, turned, scales = self.get_weights()
        kernel = even @ (turned * scales)
        lengths = np.linalg.norm(kernel, axis=0)
        self.set_weights([features.mean(0), kernel / lengths, lengths])

    def undone(self, kernel: np.ndarray) -> np.ndarray:
        """The kernel that has the same effect on whitened features as `kernel` `(D, …)` on unwhitened ones; float64.

        For reduced features this holds only for the axes that are kept.
        """
        if self.reduce:
            _, axes, scales = (weight.astype("float64") for weight in self.get_weights())
            return (axes.T @ kernel) / scales[:, None]
        _, axes, scales, rest = (weight.astype("float64") for weight in self.get_weights())
        return (kernel + axes @ ((rest / scales - 1)[:, None] * (axes.T @ kernel))) / rest

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "reduce": self.reduce}


def _check_strength(shrinkage, power, name="power"):
    if not shrinkage > 0:
        raise ValueError(f"shrinkage={shrinkage}: expected a number above 0, such as 0.1")
    if not 0 <= power <= 1:
        raise ValueError(f"{name}={power}: expected a number in 0 … 1")
