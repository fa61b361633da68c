"""An encoder's preprocessing as a Keras layer, for models that are built and trained in Keras."""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from memssl_keras.annotations import Shape, Tensor
from memssl_keras.images.preprocess import Preprocessing


def _cubic(x):
    """Keys' filter with a = -0.5, as Pillow has it; `ops.image.resize` has another."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


_FILTERS = {"bicubic": _cubic, "bilinear": lambda x: np.maximum(1 - x, 0.0)}


@functools.lru_cache(maxsize=256)
def _matrix(length, resized, size, interpolation):
    """Weights `(size, length)` that resize one axis to `resized` pixels, antialiased, and keep the middle `size`."""
    scale, left = length / resized, round((resized - size) / 2)
    centres = (left + np.arange(size) + 0.5) * scale
    distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
    weights = _FILTERS[interpolation](distance)
    return (weights / weights.sum(1, keepdims=True)).astype("float32")


@keras.saving.register_keras_serializable("memssl_keras")
class PreprocessingLayer(layers.Layer):
    """Pictures of any size to an encoder's input: `(B, H, W, 3)` → `(B, size, size, 3)` float32, normalised.

    Resizes with Pillow's antialiased filter, cuts the centre and normalises, as `Preprocessing` does one by one; a
    value may be rounded to the next of 256 levels. It has no weights. Height and width of a batch have to be known
    when it is called, which they always are on torch.

    Args:
        preprocessing: A `Preprocessing`, or one as a dict.

    Raises:
        ValueError: for preprocessing that cuts margins away (`trim`), which differ from picture to picture; when
            called, for pictures that are no `(B, H, W, 3)`, or floats of 0 … 1 in place of 0 … 255.

    Example:
        >>> import keras, numpy as np
        >>> from memssl_keras import from_pretrained
        >>> encoder = from_pretrained("massl_vitn4.cifar10")
        >>> pictures = keras.Input((None, None, 3))  # uint8, or floats of 0 … 255
        >>> features = encoder(encoder.preprocessing_layer()(pictures))
        >>> model = keras.Model(pictures, keras.layers.Dense(2, activation="softmax")(features))
        >>> model.predict(np.zeros((3, 50, 40, 3), "uint8"), verbose=0).shape
        (3, 2)
    """

    def __init__(self, preprocessing: Preprocessing | dict, **kwargs: Any) -> None:
        # Half precision would round the pixels.
        super().__init__(**{"trainable": False, "autocast": False, "dtype": "float32", **kwargs})
        if not isinstance(preprocessing, Preprocessing):
            preprocessing = Preprocessing.from_dict(preprocessing)
        if preprocessing.trim is not None:
            raise ValueError(
                f"preprocessing.trim={preprocessing.trim}: the margins of drawings differ, a layer cannot cut them "
                "away; expected pictures through encoder.preprocess.batch instead"
            )
        self.preprocessing = preprocessing

    def build(self, input_shape: Shape) -> None:
        self.compute_output_shape(input_shape)
        self.built = True

    def call(self, images: Tensor) -> Tensor:
        shape = tuple(ops.shape(images))
        self.compute_output_shape(shape)
        if not all(isinstance(side, int) for side in shape[1:3]):
            raise ValueError("images: height and width are not known; expected batches of a size that is")
        if keras.backend.is_float_dtype(images.dtype):
            self._check_range(images)
        rows, columns = self._matrices(*shape[1:3])
        pixels = ops.cast(images, "float32")
        # Rounded between the two as Pillow does.
        pixels = self._levels(ops.einsum("xw,bhwc->bhxc", columns, pixels))
        pixels = self._levels(ops.einsum("yh,bhxc->byxc", rows, pixels))
        mean, std = (
            np.asarray(part, np.float32) for part in (self.preprocessing.mean, self.preprocessing.std)
        )
        return (pixels / 255 - mean) / std

    def _matrices(self, height, width):
        settings, size = self.preprocessing, self.preprocessing.image_size
        if settings.squash:
            resized = size, size
        else:
            shortest = min(height, width)
            resized = tuple(side * settings.resize_size // shortest for side in (height, width))
        return [
            ops.convert_to_tensor(_matrix(length, to, size, settings.interpolation))
            for length, to in zip((height, width), resized, strict=True)
        ]

    @staticmethod
    def _levels(pixels):
        return ops.clip(ops.floor(pixels + 0.5), 0, 255)

    @staticmethod
    def _check_range(images):
        try:
            lowest, highest = float(ops.min(images)), float(ops.max(images))
        except Exception:  # while a graph is traced, there are no values yet
            return
        if lowest < highest <= 1:  # Keras tries layers out with ones
            raise ValueError(
                f"images: floats of at most {highest:.3g}; expected 0 … 255 or uint8, so multiply those of 0 … 1 by 255"
            )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 4 or input_shape[-1] != 3:
            raise ValueError(f"images: got shape {tuple(input_shape)}; expected (B, H, W, 3)")
        size = self.preprocessing.image_size
        return (input_shape[0], size, size, 3)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "preprocessing": self.preprocessing.to_dict()}
