"""Residual networks of basic blocks, as a plain functional Keras model.

References:
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385).
"""

import operator
import re

import numpy as np
from keras import Input, Model, initializers, layers

from memssl_keras.encoders.layers import Convolution, GridPooling2D, MapNorm


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


def _pooled(x, cells, dtype, name):
    if cells > 1:
        return GridPooling2D(cells, dtype=dtype, name=name)(x)
    return layers.GlobalAveragePooling2D("channels_last", dtype=dtype, name=name)(x)


def _numbers(cells):
    """One or several whole numbers as a list, which is empty where some are none."""
    try:
        return [operator.index(number) for number in (cells if np.ndim(cells) else [cells])]
    except TypeError:
        return []


def _features(maps, grids, dtype):
    names = [*(f"stage_{stage}_pool" for stage in range(len(maps) - 1)), "pool"]
    features = [
        _pooled(x, cells, dtype, name) for x, cells, name in zip(maps, grids, names, strict=True) if cells
    ][::-1]
    if len(features) == 1:
        return features[0]
    return layers.Concatenate(dtype=dtype, name="pools")(features)


def ResNet(
    blocks=(2, 2, 2, 2),
    width=64,
    stem="imagenet",
    cells=1,
    preprocessing=None,
    dtype="float32",
    name="resnet",
):
    """A residual network that maps normalised images `(B, H, W, 3)` of any size to `(B, D)`.

    With the defaults it is a ResNet-18, D = 512, 11.2 M parameters.

    Args:
        blocks: Basic blocks per stage. Each stage after the first halves height and width and doubles the channels.
        width: Channels of the first stage; the last map has `width · 2 ** (len(blocks) - 1)`.
        stem: `"imagenet"` (7×7 of stride 2, then max pool of stride 2), `"cifar"` (3×3 of stride 1, for images of
            about 32 px), `"half"` (3×3 of stride 2, for about 64 px) or `"quarter"` (7×7 of stride 4, for the same in
            less time).
        cells: The last map is averaged over `cells` × `cells` equal parts of the image, row by row. With 1 the
            features say what there is in a picture, with more also where. One number for each stage takes the maps of
            all stages, the last one first, and leaves out those of 0. D is the sum of channels · cells².
        preprocessing: What turns a picture into this encoder's input, as a dict; see
            `memssl_keras.images.Preprocessing`.
        dtype: Keras dtype policy of all layers.
        name: Of the model.

    Raises:
        ValueError: for an unknown stem, a count below 1, or cells that are not as above.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import ResNet
        >>> encoder = ResNet(stem="cifar")
        >>> encoder.predict(np.zeros((2, 32, 32, 3), "float32"), verbose=0).shape
        (2, 512)
    """
    stems = {"imagenet": (7, 2), "cifar": (3, 1), "half": (3, 2), "quarter": (7, 4)}
    if stem not in stems:
        raise ValueError(f"stem={stem!r}: expected 'imagenet', 'cifar', 'half' or 'quarter'")
    if not blocks or min(*blocks, width) < 1:
        raise ValueError(f"blocks={blocks}, width={width}: expected numbers of at least 1")
    grids = _numbers(cells)
    if grids and np.ndim(cells) == 0:
        grids = [0] * (len(blocks) - 1) + grids
    if len(grids) != len(blocks) or min(grids) < 0 or max(grids) < 1:
        raise ValueError(
            f"cells={cells}: expected a whole number of at least 1, or {len(blocks)} of at least 0, one for each "
            "stage, not all of them 0"
        )
    images = Input((None, None, 3), name="images")
    x = _convolution(images, width, *stems[stem], dtype, "stem")
    x = layers.ReLU(dtype=dtype, name="stem_relu")(x)
    if stem == "imagenet":  # what comes out of ReLU is never below the zeros that it is padded with
        x = layers.ZeroPadding2D(1, "channels_last", dtype=dtype, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, data_format="channels_last", dtype=dtype, name="stem_pool")(x)
    maps = []
    for stage, count in enumerate(blocks):
        for i in range(count):
            x = _block(x, width * 2**stage, 2 if stage and not i else 1, dtype, f"stage_{stage}_block_{i}")
        maps.append(x)
    model = Model(images, _features(maps, grids, dtype), name=name)
    model.preprocessing = preprocessing
    return model


def with_cells(encoder, cells):
    """The same trained `ResNet`, sharing its weights, with features from the maps of all its stages.

    Args:
        encoder: A `ResNet` whose features are of its last stage.
        cells: A number for each stage, as `ResNet` takes them; the last one the encoder's own, so that its features
            stay the first of the new ones.

    Raises:
        ValueError: for another encoder, or other numbers.
    """
    ends = {}
    for layer in encoder.layers:
        if match := re.fullmatch(r"stage_(\d+)_block_\d+_relu_2", layer.name):
            ends[int(match[1])] = layer
    last = encoder.layers[-1]
    if not ends or last.name != "pool":
        raise ValueError(
            f"encoder={encoder.name!r}: expected a ResNet whose features are of its last stage alone"
        )
    own, grids = getattr(last, "cells", 1), _numbers(cells)
    if len(grids) != len(ends) or min(grids) < 0 or grids[-1] != own:
        raise ValueError(
            f"cells={cells}: expected {len(ends)} whole numbers of at least 0, one for each stage, and the last of "
            f"them {own}, as the encoder has it"
        )
    maps = [ends[stage].output for stage in range(len(ends))]
    wider = Model(encoder.input, _features(maps, grids, last.dtype_policy), name=encoder.name)
    wider.preprocessing = getattr(encoder, "preprocessing", None)
    return wider
