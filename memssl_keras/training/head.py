"""Projection head: encoder feature → unit vector that is compared with the memory."""

from __future__ import annotations

from typing import Any

import keras
import torch
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor
from memssl_keras.encoders.layers import Linear
from memssl_keras.training import distributed


@keras.saving.register_keras_serializable("memssl_keras")
class HeadBatchNorm(layers.BatchNormalization):
    """Batch norm over all processes, with torch's constants and the unbiased running variance that torch keeps.

    Checkpoints therefore mean the same on both sides. The batch's variance is the mean squared deviation:
    Keras's E[x²] - E[x]² loses its digits where features differ little from image to image.
    """

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        if not training:
            return super().call(inputs, training=False, mask=mask)
        x = ops.cast(inputs, "float32")
        mean = distributed.average(ops.mean(x, axis=0))
        variance = distributed.average(ops.mean(ops.square(x - mean), axis=0))
        rows = ops.shape(x)[0] * distributed.world_size()
        unbiased = variance * (rows / max(rows - 1, 1))
        for running, value in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            kept = ops.convert_to_tensor(running) * self.momentum
            running.assign(kept + ops.stop_gradient(value) * (1 - self.momentum))
        x = ops.batch_normalization(x, mean, variance, -1, self.beta, self.gamma, self.epsilon)
        return ops.cast(x, self.compute_dtype)


@keras.saving.register_keras_serializable("memssl_keras")
class ProjectionHead(layers.Layer):
    """Linear → GELU → Linear → GELU → Linear, then L2-normalised: `(B, D)` → unit vectors `(B, output_dim)`.

    There are no prototypes behind it: its output is compared with the memory directly. The normalisation is
    done in float32 under any dtype policy.

    Args:
        hidden_dim: Width of the two hidden layers.
        output_dim: Width of the unit vectors, the memory's width.
        batch_norm: Put batch norm in front of each GELU.

    References:
        Silva et al., Learning from Memory: Non-Parametric Memory Augmented Self-Supervised Learning of
        Visual Features, ICML 2024 (arXiv 2407.17486).
    """

    def __init__(
        self, hidden_dim: int = 2048, output_dim: int = 256, batch_norm: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.hidden_dim, self.output_dim, self.batch_norm = hidden_dim, output_dim, batch_norm
        widths = (hidden_dim, hidden_dim, output_dim)
        self.linears = [
            Linear(width, dtype=self.dtype_policy, name=f"linear_{i}") for i, width in enumerate(widths)
        ]

        def norm(i):
            return HeadBatchNorm(dtype=self.dtype_policy, name=f"norm_{i}")

        self.norms = [norm(i) for i in range(2)] if batch_norm else []

    def build(self, input_shape: Shape) -> None:
        widths = (input_shape[-1], self.hidden_dim, self.hidden_dim)
        for linear, width in zip(self.linears, widths, strict=True):
            linear.build((None, width))
        for norm in self.norms:
            norm.build((None, self.hidden_dim))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.output_dim)

    def call(self, features: Tensor, training: bool | None = None) -> Tensor:
        x = features
        for i, linear in enumerate(self.linears[:-1]):
            x = linear(x)
            if self.batch_norm:
                x = self.norms[i](x, training=training)
            x = ops.gelu(x, approximate=False)
        x = ops.cast(self.linears[-1](x), "float32")
        return torch.nn.functional.normalize(x, dim=-1, eps=1e-6)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "hidden_dim": self.hidden_dim,
            "output_dim": self.output_dim,
            "batch_norm": self.batch_norm,
        }
