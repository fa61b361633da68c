"""Adapting a trained encoder to other pictures: the recipe, and refitting its whitening."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from memssl_keras.data.views import MultiCrop
from memssl_keras.encoders import Encoder
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.training.recipe import Recipe
from memssl_keras.training.whiten import raw_features, whitening_of

PICTURES_SEEN = 100_000  # by a run over few pictures
PURPOSE = "a trained encoder (--init), 16 pictures or more; adapts it to them"
STATISTICS = 32  # pictures of a batch from which on batch norm learns its statistics anew
REFIT = 5000  # pictures that a whitening is fitted to, at most


def adapt_recipe(encoder: Encoder, images: int, **changes: Any) -> Recipe:
    """The recipe that adapts a trained encoder to a number of pictures.

    Epochs, memory size and block size follow from the number of pictures: a run shows about 100,000 pictures, in
    5 epochs or more and 100 or fewer, and the memory holds at most half of the pictures, in four blocks. Views have
    the encoder's image size.

    Args:
        encoder: The trained encoder.
        images: Number of training pictures.
        **changes: Fields of the `Recipe` that override the chosen ones.

    Raises:
        ValueError: for fewer than 16 pictures.

    Example:
        >>> from memssl_keras import ResNet
        >>> from memssl_keras.training.adapt import adapt_recipe
        >>> recipe = adapt_recipe(ResNet(stem="cifar"), images=800)
        >>> recipe.epochs, recipe.memory_size, recipe.block_size
        (100, 256, 64)
    """
    if images < 16:
        raise ValueError(f"images: got {images}; expected 16 or more to adapt to")
    sizes = sizes_for(images) | changes
    epochs = sizes["epochs"]
    settings: dict[str, Any] = {
        **sizes,
        "views": adapt_views(encoder),
        "learning_rate": 4e-3,
        "warmup_epochs": 0.02 * epochs,
        "weight_decay": (0.04, 0.04),
        "momentum": 0.99,
        "teacher_temperature": (0.04, 0.04),
        "temperature_warmup_epochs": 0,
        "hidden_dim": 512,
        "batch_norm": True,
        "fill_memory": True,
        "frozen_epochs": 0.2 * epochs,
        "thaw_epochs": 0.1 * epochs,
        "encoder_rate": 0.3,
        "fixed_statistics": sizes["batch_size"] < STATISTICS,
    }
    if "memory_size" in changes and "block_size" not in changes:
        settings["block_size"] = max(changes["memory_size"] // 4, 1)
    return Recipe("adapt", {}, family="init", purpose=PURPOSE, **{**settings, **changes})


def sizes_for(images: int) -> dict[str, Any]:
    """Epochs, batch size, memory size and block size for a number of pictures, as fields of a `Recipe`."""
    batch = min(64, 2 ** int(math.log2(max(images, 16) / 8)))
    memory = min(2 ** int(math.log2(max(images // 2, batch))), 16384)
    epochs = int(np.clip(round(PICTURES_SEEN / max(images, 1)), 5, 100))
    return {"epochs": epochs, "batch_size": batch, "memory_size": memory, "block_size": max(memory // 4, 1)}


def adapt_views(encoder: Encoder) -> MultiCrop:
    """Views of the encoder's image size, with weaker augmentations than for training from scratch."""
    preprocess, patch = encoder.preprocess, encoder.patch_size
    side = max(preprocess.image_size // patch, 1) * patch
    small = {"blur": (0.0, 0.0, 0.0), "solarize": 0.0} if side < 64 else {"blur": (0.5, 0.1, 0.3)}
    return MultiCrop(side, max(side // 2 // patch, 1) * patch, 0, global_scale=(0.3, 1.0), **small)


def fresh_copy(encoder: Any) -> Any:
    """An encoder of the same architecture with random weights and without whitening."""
    config = encoder.get_config()
    if "whitening" in config:
        config["whitening"] = None
    copy = type(encoder).from_config(config)
    if not copy.built:
        copy.build((None, None, None, 3))
    return copy


def without_whitening(encoder: Any) -> Any:
    """A copy with the same weights, without the whitening layer behind its features.

    A whitening layer inside another functional Keras model stays.
    """
    copy = fresh_copy(encoder)
    if len(copy.weights) == len(encoder.weights):
        copy.set_weights(encoder.get_weights())
        return copy
    for layer in copy.layers:
        layer.set_weights(encoder.get_layer(layer.name).get_weights())
    return copy


def refitted(
    encoder: Encoder, images: Iterable, like: Whitening, shrinkage: float = 0.1, power: float = 0.5
) -> Encoder:
    """A copy of an encoder with a whitening layer that is fitted to its features of `images`.

    With fewer images than axes, the weights of `like` are kept.

    Args:
        encoder: An encoder without whitening, such as `without_whitening` returns.
        images: What `read_image` takes; unreadable ones are skipped.
        like: The encoder's former whitening layer; the new one has the same `rank` and `reduce`.
        shrinkage: See `Whitening.fit`.
        power: See `Whitening.fit`.
    """
    copy: Any = encoder.extended(whitening={"rank": like.rank, "reduce": like.reduce})
    layer: Any = whitening_of(copy)
    features = raw_features(encoder, images)
    if len(features) < like.rank:
        layer.set_weights(like.get_weights())
    else:
        layer.fit(features, shrinkage, power)
    return copy


class RefitWhitening(keras.callbacks.Callback):
    """Fits a whitening layer to the teacher's features after every epoch; `model.encoder` is the encoder with it.

    Args:
        images: The training images; at most 5,000 of them are used, evenly spaced.
        like: The whitening layer of the encoder that the run started from; the new one has the same `rank` and
            `reduce`.
    """

    def __init__(self, images: Any, like: Whitening):
        super().__init__()
        rows = np.unique(np.linspace(0, len(images) - 1, min(REFIT, len(images))).astype(int))
        self.images, self.rows, self.like = images, rows.tolist(), like

    def on_train_begin(self, logs: Any = None) -> None:
        if self.model.step:  # resumed
            self._refit()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._refit()

    def _refit(self):
        images = (self.images[row] for row in self.rows)
        self.model.keep(refitted(self.model.teacher.encoder, images, self.like))
