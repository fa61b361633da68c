"""The linear map that makes features white."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor


@keras.saving.register_keras_serializable("memssl_keras")
class Whitening(layers.Layer):
    """A fixed linear map that makes features `(B, D)` white; see `fit`.

    Of the covariance the strongest `rank` axes are kept, the others share one variance: `2 · D · rank`
    multiplications in place of `D²`.

    Args:
        rank: Axes that are scaled each by its own variance.
        reduce: Give features along these axes alone, `(B, rank)`, in place of `(B, D)`.

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
        """Take mean and covariance of features `(N, D)`.

        Args:
            features: As an encoder gives them.
            shrinkage: What is added to every variance before its root is taken, as a share of their mean; above 0,
                since it keeps directions in which hardly anything differs from becoming noise.
            power: How far: 1 gives every direction the same variance, 0 leaves the features as they are but for
                their mean. What is taught few labelled pictures does better with 0.5: the weak directions of full
                whitening are noise to it.

        Raises:
            ValueError: for a shrinkage that is not above 0, a power outside 0 … 1, fewer than two features, or features
                that are all alike.
        """
        if not shrinkage > 0:
            raise ValueError(f"shrinkage={shrinkage}: expected a number above 0, such as 0.1")
        if not 0 <= power <= 1:
            raise ValueError(f"power={power}: expected a number in 0 … 1")
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

    def fit_groups(self, features: np.ndarray, groups: Sequence, shrinkage: float = 0.03) -> None:
        """Take the directions in which groups differ, by linear discriminant analysis; for reduced features.

        What differs within groups, such as colours where a group holds one thing in several colours, is made white
        first. Of what differs then, the `rank` strongest axes are kept, each by the root of the share of its variance
        that lies between groups. Groups are labels, if weak ones: who uses this has to say so.

        Args:
            features: `(N, D)`, as an encoder gives them.
            groups: What each shows, `(N,)`; some of two pictures or more.
            shrinkage: What is added to every variance within groups, as a share of their mean; above 0.

        Raises:
            ValueError: for features that are not reduced, a shrinkage that is not above 0, or groups that do not fit.

        References:
            Fisher, The Use of Multiple Measurements in Taxonomic Problems, Annals of Eugenics 1936.
        """
        if not self.reduce:
            raise ValueError("reduce=False: expected a layer with reduce=True, which keeps no other axes")
        if not shrinkage > 0:
            raise ValueError(f"shrinkage={shrinkage}: expected a number above 0, such as 0.03")
        features = np.asarray(features, np.float64)
        _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
        if len(numbers) != len(features) or len(counts) == len(numbers) or len(counts) < 2:
            raise ValueError(
                f"groups: got {len(counts)} groups of {len(numbers)} for {len(features)} features; expected one for "
                "each feature, two groups or more, some of two or more"
            )
        mean, sums = features.mean(0), np.zeros((len(counts), features.shape[1]))
        np.add.at(sums, numbers, features)
        apart = features - (sums / counts[:, None])[numbers]
        variances, axes = np.linalg.eigh(apart.T @ apart / (len(numbers) - len(counts)))
        variances = np.maximum(variances, 0)
        white = axes * (variances + shrinkage * variances.mean()) ** -0.5
        total, turned = np.linalg.eigh(np.cov((features - mean) @ white, rowvar=False))
        total, turned = total[::-1][: self.rank], turned[:, ::-1][:, : self.rank]
        kernel = white @ turned * np.sqrt(np.maximum(1 - 1 / total, 1e-3))
        lengths = np.linalg.norm(kernel, axis=0)
        self.set_weights([mean, kernel / lengths, lengths])

    def undone(self, kernel: np.ndarray) -> np.ndarray:
        """What `kernel` `(D, …)`, applied to features, becomes when it is applied to white ones; float64.

        Of reduced features it is what their axes say, less what they leave out.
        """
        if self.reduce:
            _, axes, scales = (weight.astype("float64") for weight in self.get_weights())
            return (axes.T @ kernel) / scales[:, None]
        _, axes, scales, rest = (weight.astype("float64") for weight in self.get_weights())
        return (kernel + axes @ ((rest / scales - 1)[:, None] * (axes.T @ kernel))) / rest

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rank": self.rank, "reduce": self.reduce}
