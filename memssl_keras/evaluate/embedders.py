"""What can be evaluated, and the baselines that it has to beat."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from memssl_keras.images.read import read_image


@dataclasses.dataclass(frozen=True)
class Embedder:
    """Anything that turns images into features.

    Attributes:
        name: How it is called in tables.
        key: What its features depend on, as JSON holds it; features are kept under it.
        embed: From a list of images, as `read_image` takes them, to features `(N, D)`. What has to be loaded for it
            is loaded at the first call, so that kept features need no model.
        scaled: From images and a factor on the side of the encoder's input to features `(N, D)`; None where the
            input has no size that is known.
        blocks: From images, a number of last blocks, and whether patches are wanted, to features as `embed_blocks`
            has them; None for what is no ViT in Keras.
    """

    name: str
    key: dict
    embed: Callable[[list], np.ndarray]
    scaled: Callable | None = None
    blocks: Callable | None = None


def pixels(images: Sequence, size: int, centred: bool = False) -> np.ndarray:
    """Pixels as features, the baseline that an encoder has to beat: `(N, size · size · 3)` float32, 0 … 255.

    Args:
        images: What `read_image` takes.
        size: Side in pixels to which each image is resized.
        centred: Subtract each image's own mean. That takes brightness out, which raw pixels are mostly compared by,
            and makes the baseline much harder to beat.
    """
    rows = np.empty((len(images), size * size * 3), "float32")
    for row, image in zip(rows, images, strict=True):
        picture = Image.fromarray(read_image(image)).resize((size, size), Image.Resampling.BICUBIC)
        row[:] = np.asarray(picture).ravel()
    return rows - rows.mean(axis=1, keepdims=True) if centred else rows


def pixel_embedders(size: int) -> list[Embedder]:
    """Raw pixels at `size` px, and mean-centred ones."""
    return [_of_pixels("raw pixels", size, False), _of_pixels("mean-centred pixels", size, True)]


def _of_pixels(words, size, centred):
    settings = {"size": size, "centred": centred}
    embed = functools.partial(pixels, **settings)
    return Embedder(f"{words}, {size} px", {"kind": "pixels", **settings}, embed)


def last_blocks(embedder: Embedder, count: int, patches: bool) -> Embedder:
    """An `Embedder` of the last blocks of a ViT, not of unit length; as `embed_blocks` takes them."""
    if embedder.blocks is None:
        raise ValueError(f"{embedder.name}: has no blocks; expected a ViT in Keras")
    return dataclasses.replace(
        embedder,
        key={**embedder.key, "blocks": count, "patches": patches},
        embed=functools.partial(embedder.blocks, count=count, patches=patches),
        scaled=None,
        blocks=None,
    )
