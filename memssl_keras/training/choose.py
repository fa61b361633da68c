"""Which recipe a run has where nobody named one, and why."""

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
    """The recipe of a run, and what a person should read about the choice.

    With a trained encoder to go on from it is `adapt_recipe`; else it follows from the size of the pictures, how many
    there are, and whether there is a GPU; epochs, batch and memory then follow from how many there are.

    Args:
        images: What is trained on, a sequence or a `Stream`.
        name: Of a recipe, which is then taken as it is.
        init: A trained encoder to go on from.
        **changes: Fields of the `Recipe` in place of those chosen.

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
        return recipe, [_described(recipe, len(images), f"going on from {init.describe()}")]
    side = _side(images)
    gpu = torch.cuda.is_available()
    if side >= SMALL and len(images) >= MANY and gpu:
        recipe = get_recipe("vits16_in1k")
    elif side >= SMALL:
        recipe = dataclasses.replace(get_recipe("resnet14_photos"), **sizes_for(len(images)))
    elif gpu:
        recipe = get_recipe("resnet18n_cifar10")
    else:
        recipe = dataclasses.replace(get_recipe("resnet12_cifar10"), **sizes_for(len(images)))
    recipe = dataclasses.replace(recipe, **changes)
    why = f"pictures of some {side} px, {'a GPU' if gpu else 'no GPU'}"
    words = [_described(recipe, len(images), why)]
    if len(images) < MANY:
        words.append(
            f"with {len(images):,} pictures a trained encoder is the better start: --init MODEL, such as "
            f"{'facebook/dinov2-small' if side >= SMALL else 'massl_resnet18n.cifar10'}"
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
        f"recipe {recipe.name}, chosen for {images:,} pictures, {why}: {recipe.epochs} epochs, batches of "
        f"{recipe.batch_size}, a memory of {recipe.memory_size:,} in blocks of {recipe.block_size:,}"
    )
