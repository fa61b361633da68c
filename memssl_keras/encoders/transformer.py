"""Blocks of a Vision Transformer: attention, MLP, layer scale and drop path.

References:
    Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021 (arXiv 2010.11929).
    Touvron et al., Going Deeper with Image Transformers, ICCV 2021 (arXiv 2103.17239), for layer scale.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor
from memssl_keras.encoders.layers import DropPath, Linear, attention


@keras.saving.register_keras_serializable("memssl_keras")
class LayerScale(layers.Layer):
    """A learned factor per channel on a residual branch: `(..., D)` → `(..., D)`."""

    def __init__(self, initial_value: float = 1e-5, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_value = initial_value

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(
            shape=(input_shape[-1],),
            initializer=keras.initializers.Constant(self.initial_value),
            name="gamma",
        )

    def call(self, x: Tensor) -> Tensor:
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_value": self.initial_value}


@keras.saving.register_keras_serializable("memssl_keras")
class Attention(layers.Layer):
    """Multi-head self-attention with one fused qkv projection: `(B, T, D)` → `(B, T, D)`."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.dim, self.num_heads, self.qkv_bias = dim, num_heads, qkv_bias
        self.qkv = Linear(3 * dim, use_bias=qkv_bias, dtype=self.dtype_policy, name="qkv")
        self.proj = Linear(dim, dtype=self.dtype_policy, name="proj")

    def build(self, input_shape: Shape) -> None:
        self.qkv.build(input_shape)
        self.proj.build(input_shape)

    def _heads(self, x, start, count):
        """`count` of query, key and value from `start` on: `(B, T, D)` → as many of `(B, T, heads, D / heads)`."""
        parts = self.qkv.columns(x, start * self.dim, (start + count) * self.dim)
        shape = (-1, ops.shape(x)[1], count, self.num_heads, self.dim // self.num_heads)
        return ops.unstack(
            ops.reshape(parts, shape), count, axis=2
        )  # slices would each leave a full gradient

    def call(self, x: Tensor) -> Tensor:
        return self.proj(attention(*self._heads(x, 0, 3)))

    def of_first(self, x: Tensor) -> Tensor:
        """What `call` gives the first token, without the others' queries: `(B, T, D)` → `(B, 1, D)`."""
        return self.proj(attention(*self._heads(x[:, :1], 0, 1), *self._heads(x, 1, 2)))

    def weights_of(self, x: Tensor) -> Tensor:
        """Attention weights `(B, heads, T, T)`, rows summing to 1, which the fused kernel never forms."""
        query, key = self._heads(x, 0, 2)
        logits = ops.einsum("bqhd,bkhd->bhqk", query, key) * (self.dim // self.num_heads) ** -0.5
        return ops.softmax(ops.cast(logits, "float32"), axis=-1)

    def get_config(self) -> dict[str, Any]:
        config = {"dim": self.dim, "num_heads": self.num_heads, "qkv_bias": self.qkv_bias}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("memssl_keras")
class Block(layers.Layer):
    """Pre-norm transformer block: `(B, T, D)` → `(B, T, D)`."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        qkv_bias: bool = True,
        norm_epsilon: float = 1e-6,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.dim, self.num_heads, self.mlp_ratio = dim, num_heads, mlp_ratio
        self.drop_path_rate, self.layer_scale = drop_path, layer_scale
        self.qkv_bias, self.norm_epsilon = qkv_bias, norm_epsilon
        dtype = self.dtype_policy

        def norm(name):
            return layers.LayerNormalization(epsilon=norm_epsilon, dtype=dtype, name=name)

        self.norm1 = norm("norm1")
        self.attn = Attention(dim, num_heads, qkv_bias, dtype=dtype, name="attn")
        self.norm2 = norm("norm2")
        self.fc1 = Linear(int(dim * mlp_ratio), dtype=dtype, name="fc1")
        self.fc2 = Linear(dim, dtype=dtype, name="fc2")
        scale = functools.partial(LayerScale, layer_scale) if layer_scale is not None else layers.Identity
        self.ls1, self.ls2 = scale(dtype=dtype, name="ls1"), scale(dtype=dtype, name="ls2")
        self.drop_path = DropPath(drop_path, dtype=dtype, name="drop_path")

    def build(self, input_shape: Shape) -> None:
        for layer in (self.norm1, self.attn, self.norm2, self.fc1, self.ls1, self.ls2):
            layer.build(input_shape)
        self.fc2.build((*input_shape[:-1], int(self.dim * self.mlp_ratio)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        return self._residuals(x, self.attn(self.norm1(x)), training)

    def of_first(self, x: Tensor, training: bool | None = None) -> Tensor:
        """What `call` gives the first token, which is all that is asked of a last block: `(B, T, D)` → `(B, 1, D)`."""
        return self._residuals(x[:, :1], self.attn.of_first(self.norm1(x)), training)

    def _residuals(self, x, attended, training):
        x = x + self.drop_path(self.ls1(attended), training=training)
        hidden = ops.gelu(self.fc1(self.norm2(x)), approximate=False)
        return x + self.drop_path(self.ls2(self.fc2(hidden)), training=training)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "num_heads": self.num_heads,
            "mlp_ratio": self.mlp_ratio,
            "drop_path": self.drop_path_rate,
            "layer_scale": self.layer_scale,
            "qkv_bias": self.qkv_bias,
            "norm_epsilon": self.norm_epsilon,
        }
