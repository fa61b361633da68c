"""What encoder and head are made of, each some passes over memory shorter than Keras's own."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor


@keras.saving.register_keras_serializable("memssl_keras")
class Linear(layers.Dense):
    """`Dense` with truncated-normal weights; on torch the bias is added within the matrix product."""

    def __init__(self, units: int, **kwargs: Any):
        kwargs.setdefault("kernel_initializer", keras.initializers.TruncatedNormal(stddev=0.02))
        super().__init__(units, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if self.activation is not keras.activations.linear:
            return super().call(inputs, training=training)
        return self.columns(inputs, 0, self.units)

    def columns(self, inputs: Tensor, start: int, stop: int) -> Tensor:
        """Columns `start` … `stop` of the output alone: `(…, D)` → `(…, stop - start)`."""
        kernel = ops.convert_to_tensor(self.kernel, self.compute_dtype)
        bias = None if self.bias is None else ops.convert_to_tensor(self.bias, self.compute_dtype)
        if (start, stop) != (0, self.units):
            kernel, bias = kernel[:, start:stop], bias if bias is None else bias[start:stop]
        if keras.backend.backend() == "torch":
            from torch.nn.functional import linear

            return linear(inputs, kernel.mT, bias)
        outputs = ops.matmul(inputs, kernel)
        return outputs if bias is None else ops.add(outputs, bias)


@keras.saving.register_keras_serializable("memssl_keras")
class DropPath(layers.Dropout):
    """Stochastic depth: drops a residual branch `(B, …)` for whole images, and scales it up for the others.

    References:
        Huang et al., Deep Networks with Stochastic Depth, ECCV 2016 (arXiv 1603.09382).
    """

    def call(self, inputs: Tensor, training: bool | None = False) -> Tensor:
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * (ops.cast(kept, inputs.dtype) / (1 - self.rate))


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Scaled dot-product attention, fused; Keras copies all three into new memory first where torch does without.

    Args:
        query: `(B, Q, heads, d)`.
        key: `(B, T, heads, d)`.
        value: `(B, T, heads, d)`.

    Returns:
        `(B, Q, heads · d)`.
    """
    if keras.backend.backend() == "torch":
        from torch.nn.functional import scaled_dot_product_attention

        attended = scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value))).transpose(
            1, 2
        )
    else:
        attended = ops.dot_product_attention(query, key, value)
    return ops.reshape(attended, (-1, ops.shape(query)[1], query.shape[2] * query.shape[3]))


_NARROW = 16  # channels; a block of oneDNN's is 8 with AVX2 and 16 with AVX-512


@keras.saving.register_keras_serializable("memssl_keras")
class Convolution(layers.Conv2D):
    """`Conv2D` of NHWC maps without bias, padded by `size // 2` on every side, as torch does at any stride."""

    def __init__(self, filters: int, kernel_size: int, **kwargs: Any):
        kwargs = {"data_format": "channels_last", "use_bias": False, **kwargs}
        super().__init__(filters, kernel_size, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        margins = [size // 2 for size in self.kernel_size]
        if keras.backend.backend() != "torch":
            inputs = ops.pad(inputs, [(0, 0), *((margin, margin) for margin in margins), (0, 0)])
            return super().call(inputs)
        from torch.nn.functional import conv2d

        kernel, strides = ops.convert_to_tensor(self.kernel, self.compute_dtype), self.strides
        if self.kernel_size == (1, 1) and inputs.shape[-1] < _NARROW:
            # The same pixels, taken here: oneDNN's gradient of a strided 1 × 1 kernel writes past its memory where
            # there are fewer channels than its block (github.com/uxlfoundation/oneDNN/issues/6035).
            inputs, strides = inputs[:, :: strides[0], :: strides[1]], 1
        outputs = conv2d(
            inputs.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), stride=strides, padding=margins
        )
        return outputs.permute(0, 2, 3, 1)

    def compute_output_shape(self, shape: Shape) -> Shape:
        sizes = [
            side if side is None else (side + 2 * (size // 2) - size) // stride + 1
            for side, size, stride in zip(shape[1:3], self.kernel_size, self.strides, strict=True)
        ]
        return (shape[0], *sizes, self.filters)


@keras.saving.register_keras_serializable("memssl_keras")
class MapNorm(layers.BatchNormalization):
    """Batch norm of NHWC maps; on torch in one pass over the map, where Keras takes five."""

    def __init__(self, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if keras.backend.backend() != "torch":
            return super().call(inputs, training=training)
        import torch

        maps = inputs.permute(0, 3, 1, 2)
        gamma, beta, mean, variance = (
            ops.convert_to_tensor(weight)
            for weight in (self.gamma, self.beta, self.moving_mean, self.moving_variance)
        )
        if not (training and self.trainable):
            outputs = torch.nn.functional.batch_norm(maps, mean, variance, gamma, beta, eps=self.epsilon)
            return outputs.permute(0, 2, 3, 1)
        outputs, centre, inverse = torch.native_batch_norm(
            maps, gamma, beta, None, None, True, 0.0, self.epsilon
        )
        with torch.no_grad():
            self.moving_mean.assign(mean.lerp(centre, 1 - self.momentum))
            self.moving_variance.assign(variance.lerp(inverse**-2 - self.epsilon, 1 - self.momentum))
        return outputs.permute(0, 2, 3, 1)


def _shares(length, cells):
    """How much of each of `cells` equal parts of an axis each of `length` pixels fills: `(cells, length)`."""
    count, parts = ops.arange(length, dtype="float32"), ops.expand_dims(ops.arange(cells, dtype="float32"), 1)
    ends = ops.minimum((parts + 1) / cells, (count + 1) / length)
    return ops.relu(ends - ops.maximum(parts / cells, count / length)) * cells


@keras.saving.register_keras_serializable("memssl_keras")
class GridPooling2D(layers.Layer):
    """Means over `cells` × `cells` equal parts of a map of any size: `(B, H, W, C)` → `(B, cells² · C)`."""

    def __init__(self, cells: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.cells = cells

    def call(self, x: Tensor) -> Tensor:
        height, width = ops.shape(x)[1:3]
        # Borders of cells in float32: bfloat16 has no whole numbers above 256.
        rows, columns = (ops.cast(_shares(n, self.cells), x.dtype) for n in (height, width))
        x = ops.einsum("bhwc,ih,jw->bijc", x, rows, columns)
        return ops.reshape(x, (-1, self.cells * self.cells * x.shape[-1]))

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (shape[0], self.cells**2 * shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "cells": self.cells}
