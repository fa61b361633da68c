"""Residual networks of basic or bottleneck blocks, each a functional Keras model.

References:
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import initializers, layers

from memssl_keras.encoders.base import Encoder
from memssl_keras.encoders.layers import Convolution, GridPooling2D, MapNorm
from memssl_keras.encoders.whitening import Whitening

STEMS = {"imagenet": (7, 2), "cifar": (3, 1), "half": (3, 2), "quarter": (7, 4)}  # size and stride


def _convolution(x, width, size, stride, dtype, name):
    he = initializers.VarianceScaling(2.0, "fan_out")
    x = Convolution(width, size, strides=stride, kernel_initializer=he, dtype=dtype, name=name)(x)
    return MapNorm(dtype=dtype, name=f"{name}_norm")(x)


def _block(x, width, stride, dtype, name):
    residual = x
    if stride > 1 or x.shape[-1] != width:
        residual = _convolution(x, width, 1, stride, dtype, f"{name}_shortcut")
    x = _convolution(x, width, 3, stride, dtype, f"{name}_conv_1")
    x = layers.ReLU(dtype=dtype, name=f"{name}_relu_1")(x)
    x = _convolution(x, width, 3, 1, dtype, f"{name}_conv_2")
    x = layers.Add(dtype=dtype, name=f"{name}_add")([x, residual])
    return layers.ReLU(dtype=dtype, name=f"{name}_relu_2")(x)


def _bottleneck(x, width, stride, dtype, name):
    residual = x
    if stride > 1 or x.shape[-1] != 4 * width:
        residual = _convolution(x, 4 * width, 1, stride, dtype, f"{name}_shortcut")
    x = _convolution(x, width, 1, 1, dtype, f"{name}_conv_1")
    x = layers.ReLU(dtype=dtype, name=f"{name}_relu_1")(x)
    x = _convolution(x, width, 3, stride, dtype, f"{name}_conv_2")
    x = layers.ReLU(dtype=dtype, name=f"{name}_relu_2")(x)
    x = _convolution(x, 4 * width, 1, 1, dtype, f"{name}_conv_3")
    x = layers.Add(dtype=dtype, name=f"{name}_add")([x, residual])
    return layers.ReLU(dtype=dtype, name=f"{name}_relu_3")(x)


def _stem(images, width, stem, dtype):
    x = _convolution(images, width, *STEMS[stem], dtype, "stem")
    x = layers.ReLU(dtype=dtype, name="stem_relu")(x)
    if stem != "imagenet":
        return x
    # What comes out of ReLU is never below the zeros that it is padded with.
    x = layers.ZeroPadding2D(1, "channels_last", dtype=dtype, name="stem_pool_pad")(x)
    return layers.MaxPooling2D(3, 2, data_format="channels_last", dtype=dtype, name="stem_pool")(x)


def _stages(x, blocks, width, dtype, block):
    """The map that each stage gives."""
    maps = []
    for stage, count in enumerate(blocks):
        for i in range(count):
            x = block(x, width * 2**stage, 2 if stage and not i else 1, dtype, f"stage_{stage}_block_{i}")
        maps.append(x)
    return maps


def _pooled(x, side, dtype, name):
    if side > 1:
        return GridPooling2D(side, dtype=dtype, name=name)(x)
    return layers.GlobalAveragePooling2D("channels_last", dtype=dtype, name=name)(x)


def _features(maps, grids, dtype):
    names = [*(f"stage_{stage}_pool" for stage in range(len(maps) - 1)), "pool"]
    features = [
        _pooled(x, side, dtype, name) for x, side, name in zip(maps, grids, names, strict=True) if side
    ]
    features.reverse()
    return features[0] if len(features) == 1 else layers.Concatenate(dtype=dtype, name="pools")(features)


def _grids(pooling_grid, stages):
    """One whole number for each stage, 0 for a stage whose map is left out."""
    given = list(pooling_grid) if np.ndim(pooling_grid) else [pooling_grid]
    try:
        grids = [operator.index(number) for number in given]
    except TypeError:
        grids = []
    if grids and np.ndim(pooling_grid) == 0:
        grids = [0] * (stages - 1) + grids
    if len(grids) != stages or min(grids) < 0 or max(grids) < 1:
        raise ValueError(
            f"pooling_grid={pooling_grid}: expected a whole number of at least 1, or {stages} of at least 0, one for "
            "each stage, not all of them 0"
        )
    return grids


@keras.saving.register_keras_serializable("memssl_keras")
class ResNet(Encoder, keras.Model):
    """A residual network that maps normalised images `(B, H, W, 3)` of any size to `(B, D)`.

    With the defaults it is a ResNet-18, D = 512, 11.2 M parameters.

    Args:
        blocks: Blocks per stage. Each stage after the first halves height and width and doubles the channels.
        width: Channels of the first stage; the last map has `width · 2 ** (len(blocks) - 1)`,
            with bottlenecks four times as many.
        stem: `"imagenet"` (7×7 of stride 2, then max pool of stride 2), `"cifar"` (3×3 of stride 1, for images of
            about 32 px), `"half"` (3×3 of stride 2, for about 64 px) or `"quarter"` (7×7 of stride 4, for the same in
            less time).
        pooling_grid: The last map is averaged over each part of a grid of `pooling_grid` × `pooling_grid` equal parts.
            1 is global average pooling; larger grids keep where things are in the picture. A sequence of one number for
            each stage pools the maps of several stages; 0 skips a stage, and the last stage comes first in the
            features. D is the sum of channels · pooling_grid².
        whitening: Arguments of a `Whitening` layer behind the features, such as `{"rank": 256}`; None for none.
            `memssl_keras.whiten` fits it.
        preprocessing: Preprocessing of pictures, as a dict; see `memssl_keras.images.Preprocessing`.
        bottleneck: Use bottleneck blocks as in ResNet-50 instead of basic ones: 1×1, 3×3 (with the stride) and 1×1
            with four times the channels.
        dtype: Keras dtype policy of all layers; by default the global one.
        name: Of the model.
        trainable: Whether its weights are trained.
        frozen: Names of the layers whose weights are not, where the others' are.

    Raises:
        ValueError: for an unknown stem, a count below 1, or a pooling grid that is not as above.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import ResNet
        >>> encoder = ResNet(stem="cifar")
        >>> encoder.predict(np.zeros((2, 32, 32, 3), "float32"), verbose=0).shape
        (2, 512)
    """

    def __init__(
        self,
        blocks: Sequence[int] = (2, 2, 2, 2),
        width: int = 64,
        stem: str = "imagenet",
        pooling_grid: int | Sequence[int] = 1,
        whitening: dict | None = None,
        preprocessing: dict | None = None,
        bottleneck: bool = False,
        dtype: Any = None,
        name: str = "resnet",
        trainable: bool = True,
        frozen: Sequence[str] = (),
    ) -> None:
        if stem not in STEMS:
            raise ValueError(f"stem={stem!r}: expected 'imagenet', 'cifar', 'half' or 'quarter'")
        if not blocks or min(*blocks, width) < 1:
            raise ValueError(f"blocks={blocks}, width={width}: expected numbers of at least 1")
        grids, dtype = _grids(pooling_grid, len(blocks)), keras.dtype_policies.get(dtype)

        images = keras.Input((None, None, 3), name="images")
        maps = _stages(
            _stem(images, width, stem, dtype), blocks, width, dtype, _bottleneck if bottleneck else _block
        )
        features = _features(maps, grids, dtype)
        if whitening is not None:
            features = Whitening(**whitening, name="whitening", dtype="float32")(features)
        super().__init__(inputs=images, outputs=features, name=name)
        self.dtype_policy = dtype
        self._freeze(trainable, frozen)

        self.blocks, self.width, self.stem = tuple(blocks), width, stem
        self.pooling_grid = tuple(pooling_grid) if isinstance(pooling_grid, Iterable) else pooling_grid
        self.whitening = whitening
        self.bottleneck, self.preprocessing = bottleneck, preprocessing

    def extended(self, whitening: dict | None = None, pooling_grid: Sequence[int] | None = None) -> ResNet:
        if self.whitening is not None:
            raise ValueError(f"encoder={self.name}: its features are whitened already")
        changes = {"whitening": whitening}
        if pooling_grid is not None:
            changes["pooling_grid"] = self._wider_grid(pooling_grid)
        copy = ResNet.from_config(self.get_config() | changes)
        for layer in self.layers:
            copy.get_layer(layer.name).set_weights(layer.get_weights())
        return copy

    def _wider_grid(self, pooling_grid):
        *others, own = _grids(self.pooling_grid, len(self.blocks))
        if sum(others):
            raise ValueError(
                f"encoder={self.name}: expected a ResNet whose features are of its last stage alone"
            )
        given = list(pooling_grid) if np.ndim(pooling_grid) else []
        whole = all(isinstance(number, (int, np.integer)) and number >= 0 for number in given)
        if not whole or len(given) != len(self.blocks) or given[-1] != own:
            raise ValueError(
                f"pooling_grid={pooling_grid}: expected {len(self.blocks)} whole numbers of at least 0, one for each "
                f"stage, and the last of them {own}, as the encoder has it"
            )
        return given

    def get_config(self) -> dict[str, Any]:
        return {
            "blocks": list(self.blocks),
            "width": self.width,
            "stem": self.stem,
            "pooling_grid": list(self.pooling_grid)
            if isinstance(self.pooling_grid, tuple)
            else self.pooling_grid,
            "whitening": self.whitening,
            "preprocessing": self.preprocessing,
            **({"bottleneck": True} if self.bottleneck else {}),
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "name": self.name,
            **self._frozen_config(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ResNet:
        return cls(**config)
