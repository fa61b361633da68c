"""Vision Transformer encoder in `keras.ops`, for the torch, JAX and TensorFlow backends.

References:
    Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021 (arXiv 2010.11929).
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294),
        for how the position embedding is resized.
    Darcet et al., Vision Transformers Need Registers, ICLR 2024 (arXiv 2309.16588).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor
from memssl_keras.encoders.base import Encoder
from memssl_keras.encoders.positions import resize_positions
from memssl_keras.encoders.transformer import Block

SIZES = {
    "tiny": {"embed_dim": 192, "depth": 12, "num_heads": 3},
    "small": {"embed_dim": 384, "depth": 12, "num_heads": 6},
    "base": {"embed_dim": 768, "depth": 12, "num_heads": 12},
    "large": {"embed_dim": 1024, "depth": 24, "num_heads": 16},
}


@keras.saving.register_keras_serializable("memssl_keras")
class ViT(Encoder, keras.Model):
    """Vision Transformer that maps normalised images `(B, H, W, 3)` to CLS embeddings `(B, embed_dim)`.

    Height and width may differ from `image_size` and from call to call: the position embedding is resized to
    the patch grid that comes. A remainder of height or width modulo `patch_size` is cut off at the bottom
    and on the right.

    Args:
        embed_dim: Width of tokens and of the embedding; a multiple of `num_heads`.
        depth: Number of transformer blocks.
        num_heads: Attention heads per block.
        patch_size: Side of a square patch in pixels.
        image_size: Side of the square images for which the position embedding is learnt; a multiple of
            `patch_size`.
        mlp_ratio: Hidden width of the MLP as a multiple of `embed_dim`.
        drop_path: Stochastic-depth rate of the last block in [0, 1); it rises linearly from 0 at the first.
        layer_scale: Initial value of layer scale, or None for none.
        register_tokens: Number of extra learned tokens behind CLS.
        qkv_bias: Whether the projection to queries, keys and values has a bias.
        norm_epsilon: Added to the variance in every LayerNorm.
        preprocessing: What turns a picture into this encoder's input, as a dict (see
            `memssl_keras.images.Preprocessing`); None for ImageNet's mean and standard deviation at
            `image_size`.
        frozen: Names of the blocks, or "patch_embed" and "norm", whose weights are not trained, where the others' are.

    Raises:
        ValueError: where a size does not divide another, or a count or rate is out of its range.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import ViT
        >>> encoder = ViT.from_size("tiny", patch_size=4, image_size=32)
        >>> encoder(np.zeros((2, 32, 32, 3), "float32")).shape
        torch.Size([2, 192])
        >>> encoder.tokens(np.zeros((2, 48, 32, 3), "float32")).shape  # CLS and 12 × 8 patches
        torch.Size([2, 97, 192])
    """

    embed_dim: Any = None  # an argument here, where the base class takes it from the output
    gives_tokens = True

    def __init__(
        self,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        patch_size: int = 16,
        image_size: int = 224,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
        layer_scale: float | None = None,
        register_tokens: int = 0,
        qkv_bias: bool = True,
        norm_epsilon: float = 1e-6,
        preprocessing: dict | None = None,
        frozen: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        counts = {"embed_dim": embed_dim, "depth": depth, "num_heads": num_heads, "patch_size": patch_size}
        for name, value in counts.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected an integer of at least 1")
        if embed_dim % num_heads:
            raise ValueError(f"embed_dim={embed_dim} is not a multiple of num_heads={num_heads}")
        if image_size < patch_size or image_size % patch_size:
            raise ValueError(f"image_size={image_size} is not a multiple of patch_size={patch_size}")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path={drop_path}: expected a rate in [0, 1)")
        if register_tokens < 0:
            raise ValueError(f"register_tokens={register_tokens}: expected 0 or more")
        self.embed_dim, self.depth, self.num_heads = embed_dim, depth, num_heads
        self.patch_size, self.image_size, self.mlp_ratio = patch_size, image_size, mlp_ratio
        self.drop_path_rate, self.layer_scale, self.register_tokens = drop_path, layer_scale, register_tokens
        self.qkv_bias, self.norm_epsilon, self.preprocessing = qkv_bias, norm_epsilon, preprocessing

        self.patch_embed = layers.Conv2D(
            embed_dim,
            patch_size,
            strides=patch_size,
            data_format="channels_last",
            kernel_initializer=keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
            dtype=self.dtype_policy,
            name="patch_embed",
        )
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = [
            Block(
                embed_dim,
                num_heads,
                mlp_ratio,
                rate,
                layer_scale,
                qkv_bias,
                norm_epsilon,
                dtype=self.dtype_policy,
                name=f"block_{i}",
            )
            for i, rate in enumerate(rates)
        ]
        self.norm = layers.LayerNormalization(epsilon=norm_epsilon, dtype=self.dtype_policy, name="norm")
        self.build((None, image_size, image_size, 3))
        self._freeze(self.trainable, frozen)

    @classmethod
    def from_size(cls, size: str, **kwargs: Any) -> ViT:
        """An encoder of a published size: "tiny", "small", "base" or "large" (5.5, 22, 86, 303 M parameters)."""
        if size not in SIZES:
            raise ValueError(f"size={size!r}: expected one of {', '.join(SIZES)}")
        return cls(**{**SIZES[size], **kwargs})

    @property
    def grid_size(self) -> Any:
        """Patches along one side of a square image of `image_size`."""
        return self.image_size // self.patch_size

    @property
    def input_shape(self) -> Shape:
        return (None, None, None, 3)

    @property
    def output_shape(self) -> Shape:
        return (None, self.embed_dim)

    def build(self, input_shape: Shape) -> None:
        initializer = keras.initializers.TruncatedNormal(stddev=0.02)

        def add(name, count):
            return self.add_weight(shape=(1, count, self.embed_dim), initializer=initializer, name=name)

        self.cls_token = add("cls_token", 1)
        self.registers = add("registers", self.register_tokens) if self.register_tokens else None
        self.pos_embed = add("pos_embed", self.grid_size**2 + 1)
        self.patch_embed.build(input_shape)
        for layer in (*self.blocks, self.norm):
            layer.build((None, None, self.embed_dim))
        self.built = True

    def _embed_patches(self, images):
        images = ops.convert_to_tensor(images, self.compute_dtype)
        height, width = ops.shape(images)[1:3]
        if isinstance(height, int) and isinstance(width, int) and min(height, width) < self.patch_size:
            raise ValueError(f"images are {height} × {width} px, smaller than a patch of {self.patch_size}")
        grid = (height // self.patch_size, width // self.patch_size)
        patches = self.patch_embed(images)
        batch = ops.shape(images)[0]
        patches = ops.reshape(patches, (batch, -1, self.embed_dim))
        positions = ops.cast(ops.convert_to_tensor(self.pos_embed), self.compute_dtype)
        patches = patches + resize_positions(positions[:, 1:], (self.grid_size, self.grid_size), grid)
        first = ops.cast(ops.convert_to_tensor(self.cls_token), self.compute_dtype) + positions[:, :1]
        if self.registers is not None:
            registers = ops.cast(ops.convert_to_tensor(self.registers), self.compute_dtype)
            first = ops.concatenate([first, registers], axis=1)
        first = ops.broadcast_to(first, (batch, 1 + self.register_tokens, self.embed_dim))
        return ops.concatenate([first, patches], axis=1)

    def tokens(self, images: Tensor, training: bool | None = None) -> Tensor:
        """All tokens after the final norm, `(B, 1 + registers + patches, embed_dim)`: CLS, registers, patches."""
        x = self._before_last(images, training)
        return self.norm(self.blocks[-1](x, training=training))

    def attention(self, images: Tensor) -> Tensor:
        """Attention weights of the last block, `(B, num_heads, T, T)`; `[:, :, 0]` is what CLS looks at."""
        last = self.blocks[-1]
        return last.attn.weights_of(last.norm1(self._before_last(images, training=False)))

    def _before_last(self, images, training):
        """All tokens in front of the last block."""
        x = self._embed_patches(images)
        for block in self.blocks[:-1]:
            x = block(x, training=training)
        return x

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        x = self._before_last(images, training)
        return self.norm(self.blocks[-1].of_first(x, training=training))[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.embed_dim)

    def _own_size(self):
        return self.image_size

    def describe(self) -> str:
        return (
            f"a ViT of width {self.embed_dim}, {self.depth} blocks, {self.num_heads} heads, patch {self.patch_size}, "
            f"for {self.image_size} px"
        )

    def sample_sizes(self) -> list[tuple[int, int]]:
        native, patch = self.image_size, self.patch_size
        half = max(native // 2 // patch, 1) * patch
        return [(native, native), (half, half), (native + half, native + half), (native, native + 2 * patch)]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **self._frozen_config(),
            "embed_dim": self.embed_dim,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "patch_size": self.patch_size,
            "image_size": self.image_size,
            "mlp_ratio": self.mlp_ratio,
            "drop_path": self.drop_path_rate,
            "layer_scale": self.layer_scale,
            "register_tokens": self.register_tokens,
            "qkv_bias": self.qkv_bias,
            "norm_epsilon": self.norm_epsilon,
            "preprocessing": self.preprocessing,
        }
