"""Choosing a recipe when none is named."""

from __future__ import annotations

import dataclasses
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from memssl_keras.images import ImageError, read_image
from memssl_keras.training.adapt import adapt_recipe, sizes_for
from memssl_keras.training.recipes import get_recipe

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder
    from memssl_keras.training.recipe import Recipe

LOOKED_AT = 20  # pictures whose size is looked at
SMALL = 64  # px below which pictures are small
MANY = 200_000  # pictures from which the published recipe is worth its days


def choose_recipe(
    images: Any, name: str | None = None, init: Encoder | None = None, **changes: Any
) -> tuple[Recipe, list[str]]:
    """The recipe of a run, and lines of text that explain the choice.

    With a trained encoder (`init`) it is `adapt_recipe`. Otherwise it depends on the size and number of the pictures
    and on whether there is a GPU. For the recipes for a processor core, epochs, batch size and
    memory size then follow from the number of pictures.

    Args:
        images: The training images, a sequence or a `Stream`.
        name: Name of a recipe, which is then used.
        init: A trained encoder to start from.
        **changes: Fields of the `Recipe` that override the chosen ones.

    Raises:
        ValueError: for an unknown name, or too few pictures.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.training.choose import choose_recipe
        >>> recipe, words = choose_recipe(np.zeros((800, 32, 32, 3), "uint8"))
        >>> recipe.memory_size
        256
    """
    if name and (name != "adapt" or init is None):
        return dataclasses.replace(get_recipe(name), **changes), []
    if init is not None:
        recipe = adapt_recipe(init, len(images), **changes)
        return recipe, [_described(recipe, len(images), f"starting from {init.describe()}")]
    side = _side(images)
    gpu = torch.cuda.is_available()
    if side >= SMALL and len(images) >= MANY and gpu:
        recipe = get_recipe("vits16_in1k")
    elif side >= SMALL:
        recipe = dataclasses.replace(get_recipe("resnet14_photos"), **sizes_for(len(images)))
    elif gpu:
        recipe = get_recipe("resnet14_cifar10")
    else:
        recipe = dataclasses.replace(get_recipe("resnet12_cifar10"), **sizes_for(len(images)))
    recipe = dataclasses.replace(recipe, **changes)
    why = f"pictures of about {side} px, {'a GPU' if gpu else 'no GPU'}"
    words = [_described(recipe, len(images), why)]
    if len(images) < MANY:
        words.append(
            f"with {len(images):,} pictures, try starting from a trained encoder first: --init MODEL, such as "
            f"{'facebook/dinov2-small' if side >= SMALL else 'massl_resnet14.cifar10'}"
        )
    return recipe, words


def _side(images):
    """The median of the shorter sides of some pictures, in pixels."""
    sides = []
    for row in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)):
        try:
            sides.append(min(read_image(images[int(row)]).shape[:2]))
        except (ImageError, TypeError):  # training lists what it cannot read; a stream has no places
            continue
    return round(statistics.median(sides)) if sides else 224


def _described(recipe, images, why):
    return (
        f"recipe {recipe.name}, chosen for {images:,} pictures, {why}: {recipe.epochs} epochs, batch size "
        f"{recipe.batch_size}, memory of {recipe.memory_size:,} in blocks of {recipe.block_size:,}"
    )
