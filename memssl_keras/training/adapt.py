"""The recipe that adapts a trained encoder to other pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from memssl_keras.data.views import MultiCrop
from memssl_keras.training.recipe import Recipe

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder

FEWEST = 16  # pictures that a recipe for few is made for
PICTURES_SEEN = 100_000  # by a run over few pictures
PURPOSE = "a trained encoder (--init), 16 pictures or more; adapts it to them"
STATISTICS = 32  # pictures of a batch from which on batch norm learns its statistics anew


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
    """Epochs, batch size, memory size and block size for a number of pictures, as fields of a `Recipe`.

    Raises:
        ValueError: for fewer than 16 pictures, whose memory would have blocks of a single vector.
    """
    if images < FEWEST:
        raise ValueError(f"images: got {images}; expected {FEWEST} or more to train on")
    batch = min(64, 2 ** int(math.log2(images / 8)))
    memory = min(2 ** int(math.log2(max(images // 2, batch))), 16384)
    epochs = int(np.clip(round(PICTURES_SEEN / max(images, 1)), 5, 100))
    return {"epochs": epochs, "batch_size": batch, "memory_size": memory, "block_size": max(memory // 4, 1)}


def adapt_views(encoder: Encoder) -> MultiCrop:
    """Views of the encoder's image size, with weaker augmentations than for training from scratch."""
    preprocess, patch = encoder.preprocess, encoder.patch_size
    side = max(preprocess.image_size // patch, 1) * patch
    small = {"blur": (0.0, 0.0, 0.0), "solarize": 0.0} if side < 64 else {"blur": (0.5, 0.1, 0.3)}
    return MultiCrop(side, max(side // 2 // patch, 1) * patch, 0, global_scale=(0.3, 1.0), **small)
