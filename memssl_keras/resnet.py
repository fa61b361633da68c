"""Residual networks of basic blocks, as a plain functional Keras model.

References:
    He et al., Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv 1512.03385).
"""

from keras import Input, Model, initializers, layers


def _convolution(x, width, size, stride, dtype, name):
    """Convolution padded alike on both sides, as torch does, without bias; then batch norm."""
    if size > 1:
        x = layers.ZeroPadding2D(size // 2, "channels_last", dtype=dtype, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        width,
        size,
        strides=stride,
        use_bias=False,
        data_format="channels_last",
        kernel_initializer=initializers.VarianceScaling(2.0, "fan_out"),
        dtype=dtype,
        name=name,
    )(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype, name=f"{name}_norm")(x)


def _block(x, width, stride, dtype, name):
    residual = x
    if stride > 1 or x.shape[-1] != width:
        residual = _convolution(x, width, 1, stride, dtype, f"{name}_shortcut")
    x = _convolution(x, width, 3, stride, dtype, f"{name}_conv_1")
    x = layers.ReLU(dtype=dtype, name=f"{name}_relu_1")(x)
    x = _convolution(x, width, 3, 1, dtype, f"{name}_conv_2")
    x = layers.Add(dtype=dtype, name=f"{name}_add")([x, residual])
    return layers.ReLU(dtype=dtype, name=f"{name}_relu_2")(x)


def ResNet(
    blocks=(2, 2, 2, 2), width=64, stem="imagenet", preprocessing=None, dtype="float32", name="resnet"
):
    """A residual network that maps normalised images `(B, H, W, 3)` of any size to `(B, D)`.

    With the defaults it is a ResNet-18, D = 512, 11.2 M parameters.

    Args:
        blocks: Basic blocks per stage. Each stage after the first halves height and width and doubles the channels.
        width: Channels of the first stage; D is `width · 2 ** (len(blocks) - 1)`.
        stem: `"imagenet"` (7×7 of stride 2, then max pool of stride 2), `"cifar"` (3×3 of stride 1, for images of
            about 32 px) or `"half"` (3×3 of stride 2, for about 64 px).
        preprocessing: What turns a picture into this encoder's input, as a dict; see
            `memssl_keras.export.Preprocessing`.
        dtype: Keras dtype policy of all layers.
        name: Of the model.

    Raises:
        ValueError: for an unknown stem, or a count below 1.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import ResNet
        >>> encoder = ResNet(stem="cifar")
        >>> encoder.predict(np.zeros((2, 32, 32, 3), "float32"), verbose=0).shape
        (2, 512)
    """
    if stem not in ("imagenet", "cifar", "half"):
        raise ValueError(f"stem={stem!r}: expected 'imagenet', 'cifar' or 'half'")
    if not blocks or min(*blocks, width, width) < 1:
        raise ValueError(f"blocks={blocks}, width={width}: expected numbers of at least 1")
    images = Input((None, None, 3), name="images")
    size, stride = {"imagenet": (7, 2), "cifar": (3, 1), "half": (3, 2)}[stem]
    x = _convolution(images, width, size, stride, dtype, "stem")
    x = layers.ReLU(dtype=dtype, name="stem_relu")(x)
    if stem == "imagenet":
        x = layers.ZeroPadding2D(1, "channels_last", dtype=dtype, name="stem_pool_pad")(x)
        x = layers.MaxPooling2D(3, 2, data_format="channels_last", dtype=dtype, name="stem_pool")(x)
    for stage, count in enumerate(blocks):
        for i in range(count):
            x = _block(x, width * 2**stage, 2 if stage and not i else 1, dtype, f"stage_{stage}_block_{i}")
    x = layers.GlobalAveragePooling2D("channels_last", dtype=dtype, name="pool")(x)
    model = Model(images, x, name=name)
    model.preprocessing = preprocessing
    return model
