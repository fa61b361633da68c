"""Features of images at several scales, as retrieval benchmarks report them beside those at one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

from PIL import Image

from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.images.read import read_image


def scaled_preprocessing(preprocessing: Preprocessing, factor: float) -> Preprocessing:
    """A `Preprocessing` whose sides are multiplied by `factor`, rounded to whole pixels."""
    sides = {
        name: max(1, round(getattr(preprocessing, name) * factor)) for name in ("image_size", "resize_size")
    }
    return dataclasses.replace(preprocessing, **sides)


def at_scales(embedder: Any, scales: Sequence[float]) -> Any:
    """An `Embedder` of unit features: the mean of the unit features at each scale, brought to length 1.

    An encoder's input is made larger or smaller, which a ViT takes. A function of images gets the images themselves
    resized; where it resizes them to a size of its own, as pixels do, all that a smaller scale takes away is detail.

    Args:
        embedder: An `Embedder`.
        scales: Factors on the side, each above 0; the benchmarks take 1, 1 / √2 and 1 / 2.

    Raises:
        ValueError: for no scale, or one of 0 or less.

    References:
        Radenović et al., Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI 2018 (arXiv 1711.02512).
    """
    scales = tuple(scales)
    if not scales or not min(scales) > 0:
        raise ValueError(f"scales={scales}: expected positive numbers")
    if scales == (1,):
        return embedder
    at_scale = embedder.scaled or functools.partial(_resized, embedder.embed)

    def embed(images):
        return unit(sum(unit(at_scale(images, scale), "features") for scale in scales), "features")

    return dataclasses.replace(
        embedder, key={**embedder.key, "scales": scales}, embed=embed, scaled=None, blocks=None
    )


def _resized(embed, images, factor):
    pictures = [Image.fromarray(read_image(image)) for image in images]
    return embed(
        [
            picture.resize([max(1, round(side * factor)) for side in picture.size], Image.Resampling.BICUBIC)
            for picture in pictures
        ]
    )
