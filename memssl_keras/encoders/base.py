"""What every image encoder can do, whatever its architecture."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

import memssl_keras
from memssl_keras.annotations import PathLike, Shape, Tensor
from memssl_keras.checks import check_at_least_1
from memssl_keras.encoders.preprocessing import PreprocessingLayer
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.images.listing import as_images
from memssl_keras.images.preprocess import Preprocessing, check_image_size


class Encoder:
    """Base class of image encoders, mixed into a Keras model that maps `(B, H, W, 3)` to `(B, D)`.

    Attributes:
        preprocessing: Preprocessing of pictures, as a dict (see `memssl_keras.images.Preprocessing`), or None for
            ImageNet's mean and standard deviation at the encoder's image size.
        gives_tokens: Whether the encoder has a method `tokens` that returns patch tokens.
        patch_size: Height and width of an image are a multiple of this number of pixels.
    """

    preprocessing: dict | None = None
    gives_tokens = False
    patch_size = 1
    # What every Keras model has.
    name: str
    trainable: bool
    input_shape: Any
    output_shape: Any
    predict_on_batch: Callable[..., Any]
    weights: list[Any]
    layers: list[Any]
    get_config: Callable[..., dict[str, Any]]
    save: Callable[..., None]
    _flatten_layers: Callable[..., Any]

    @staticmethod
    def wrap(model: keras.Model, preprocessing: dict | None = None) -> Encoder:
        """Make an `Encoder` of a Keras model that maps `(B, H, W, 3)` to `(B, D)`; an `Encoder` stays as it is.

        Args:
            model: A functional or sequential one, such as one of `keras.applications` with `pooling="avg"`, or any that
                has an `output_shape`.
            preprocessing: Preprocessing of pictures for the model, all fields as a dict, as
                `Preprocessing(…).to_dict()` gives it.

        Raises:
            ValueError: where the model is not built, has another output shape, or the preprocessing is not complete.

        Example:
            >>> import keras
            >>> from memssl_keras import Encoder
            >>> inputs = keras.Input((32, 32, 3))
            >>> model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
            >>> Encoder.wrap(model).embed_dim
            3
        """
        return model if isinstance(model, Encoder) else WrappedEncoder(model, preprocessing)

    @property
    def embed_dim(self) -> int:
        """Width D of the embedding."""
        return self.output_shape[-1]

    def describe(self) -> str:
        """What kind of encoder it is, in words.

        Example:
            >>> from memssl_keras import ResNet
            >>> ResNet((1, 1), 8, "cifar").describe()
            'a ResNet of width 16'
        """
        return f"a {type(self).__name__} of width {self.embed_dim}"

    @property
    def preprocess(self) -> Preprocessing:
        """The encoder's preprocessing: `encoder.preprocess(picture)` is `(H, W, 3)` float32.

        By default, below 128 px pictures are resized without cropping.
        """
        if self.preprocessing:
            return Preprocessing.from_dict(self.preprocessing)
        size = self._own_size() or 224
        return Preprocessing(image_size=size, resize_size=round(size * 256 / 224) if size >= 128 else size)

    def preprocessing_layer(self) -> PreprocessingLayer:
        """The encoder's preprocessing as a Keras layer without weights; see `PreprocessingLayer`.

        It takes batches `(B, H, W, 3)` of any size, uint8 or floats of 0 … 255.

        Raises:
            ValueError: where the encoder's preprocessing cuts margins away.
        """
        return PreprocessingLayer(self.preprocess)

    def _own_size(self):
        """Side of the square images that the encoder is made for; None where it does not say."""
        return self.input_shape[1]

    def embed(
        self, images: Iterable, batch_size: int = 32, preprocessing: Preprocessing | None = None
    ) -> np.ndarray:
        """Unit vectors `(N, D)` float32 of images, preprocessed as the encoder's configuration says.

        Args:
            images: One image or several, as `memssl_keras.images.read_image` takes them: paths, bytes of image files,
                PIL images or arrays. `(N, H, W, 3)` are N, and a folder stands for the images in it and below. Large
                JPEGs of paths and bytes are decoded at a fraction of their size; see `Preprocessing`.
            batch_size: Images per forward pass.
            preprocessing: A `Preprocessing` in place of the encoder's own.

        Raises:
            ImageError: where an image cannot be read.
            ValueError: where `batch_size` is not at least 1.
        """
        preprocess = preprocessing or self.preprocess
        check_at_least_1("batch_size", batch_size)
        remaining = iter(as_images(images))
        batches = iter(lambda: list(itertools.islice(remaining, batch_size)), [])
        vectors = [self.predict_on_batch(preprocess.batch(batch)) for batch in batches]
        if not vectors:
            return np.zeros((0, self.embed_dim), "float32")
        vectors = ops.convert_to_numpy(np.concatenate(vectors)).astype("float32")
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)

    # What is trained and what is not, which Keras would keep for a functional model and loses for a class of its own.

    def _freeze(self, trainable, frozen):
        if not trainable:
            self.trainable = False
        for layer in self.layers:
            if layer.name in frozen:
                layer.trainable = False

    def _frozen_config(self):
        layers = [layer for layer in self.layers if layer.weights and not isinstance(layer, Whitening)]
        frozen = [layer.name for layer in layers if not layer.trainable] if self.trainable else []
        return {"trainable": self.trainable, **({"frozen": frozen} if frozen else {})}

    # What stands above encoders is found by its public name, so that no module here imports upwards.

    def save_pretrained(self, folder: PathLike, **options: Any) -> None:
        """Write `config.json`, `model.safetensors` and more into `folder`; see `memssl_keras.save_pretrained`."""
        memssl_keras.save_pretrained(self, folder, **options)

    def push_to_hub(self, repo_id: str, **options) -> str:
        """Publish the encoder with a model card; see `memssl_keras.push_to_hub`."""
        return memssl_keras.push_to_hub(self, repo_id, **options)

    def extended(self, whitening: dict | None = None, pooling_grid: Sequence[int] | None = None) -> Encoder:
        """A copy with the same weights and other features.

        Args:
            whitening: Arguments of a `Whitening` layer to add behind the features.
            pooling_grid: For a `ResNet`: one number for each stage. The last number must be the encoder's own, so that
                the new features begin with the old ones.

        Raises:
            ValueError: where the encoder cannot be extended in this way.
        """
        raise ValueError(
            f"encoder={self.name}: a {type(self).__name__} cannot be extended; expected a ResNet, or a functional "
            "Keras model"
        )

    # What an export has to know.

    def sample_sizes(self) -> list[tuple[int, int]]:
        """Image sizes (height, width) at which an exported graph is verified."""
        height, width = self.input_shape[1:3]
        return [(height, width)] if height and width else [(64, 64), (96, 96), (64, 128)]

    def check_image_size(self, image_size: int) -> None:
        """Raise ValueError for the side of square images that the encoder does not take."""
        check_image_size(image_size, self.patch_size)
        only = self.input_shape[1:3]
        if only[0] and tuple(only) != (image_size, image_size):
            raise ValueError(f"image_size={image_size}: this encoder takes {only[0]} × {only[1]} px alone")


def feature_width(model: keras.Model) -> int:
    """Width D of the features that a Keras model gives.

    Raises:
        ValueError: where it is not built, or does not map images `(B, H, W, 3)` to `(B, D)`.
    """
    shape = getattr(model, "output_shape", None)
    if not model.built or not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None:
        raise ValueError(
            f"encoder={model.name}: expected a built Keras model, functional or sequential, that maps images "
            f"(B, H, W, 3) to (B, D), and this one gives {shape if model.built else 'nothing before it is built'}"
        )
    return shape[1]


@keras.saving.register_keras_serializable("memssl_keras")
class WrappedEncoder(Encoder, keras.Model):
    """Another Keras model as an `Encoder`; `Encoder.wrap` makes one.

    Args:
        model: A built Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        preprocessing: Preprocessing of pictures for the model, as a dict; see `Encoder`.

    Raises:
        ValueError: where the model is not built or has another output shape.
    """

    def __init__(self, model: keras.Model, preprocessing: dict | None = None, **kwargs: Any):
        super().__init__(**{"name": model.name, **kwargs})
        feature_width(model)
        if preprocessing:
            Preprocessing.from_dict(preprocessing)
        self.model = model
        self.preprocessing = preprocessing or getattr(model, "preprocessing", None)
        self.built = True

    @property
    def input_shape(self) -> Shape:
        return self.model.input_shape

    @property
    def output_shape(self) -> Shape:
        return self.model.output_shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.embed_dim)

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        return self.model(images, training=training)

    def extended(self, whitening: dict | None = None, pooling_grid: Sequence[int] | None = None) -> Encoder:
        if not hasattr(self.model, "operations") or pooling_grid is not None:
            return super().extended(whitening, pooling_grid)
        if any(isinstance(layer, Whitening) for layer in self.model.layers):
            raise ValueError(f"encoder={self.name}: its features are whitened already")
        copy = type(self.model).from_config(self.model.get_config())
        copy.set_weights(self.model.get_weights())
        if whitening is not None:
            whitened = Whitening(**whitening, name="whitening", dtype="float32")(copy.output)
            copy = keras.Model(copy.input, whitened, name=copy.name)
        return WrappedEncoder(copy, self.preprocessing)

    def get_config(self) -> dict[str, Any]:
        config = {
            "model": keras.saving.serialize_keras_object(self.model),
            "preprocessing": self.preprocessing,
        }
        return {"name": self.name, "trainable": self.trainable, **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WrappedEncoder:
        model = keras.saving.deserialize_keras_object(config["model"])
        return cls(**(config | {"model": model}))
