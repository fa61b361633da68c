"""Tokens of a ViT's last blocks as features, which the published linear classifiers are taught on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from memssl_keras.annotations import Tensor
from memssl_keras.encoders.base import Encoder


class LastBlocks(keras.Model):
    """CLS tokens of a ViT's last blocks side by side, each after the final norm.

    Args:
        encoder: A `ViT`.
        count: Blocks, 1 … depth.
        patches: Put the mean patch token of the last block beside them.

    Raises:
        ValueError: for a count out of range.

    References:
        Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294),
        appendix F.2: four blocks for ViT-S, one and the patch tokens for ViT-B.
    """

    def __init__(self, encoder: Any, count: int, patches: bool):
        super().__init__()
        if not 1 <= count <= encoder.depth:
            raise ValueError(f"blocks={count}: expected 1 … {encoder.depth}, the blocks of the encoder")
        self.encoder, self.count, self.patches = encoder, count, patches

    def call(self, images: Tensor) -> Tensor:
        encoder, kept = self.encoder, []
        x = encoder._embed_patches(images)
        for number, block in enumerate(encoder.blocks, 1):
            x = block(x)
            if number > encoder.depth - self.count:
                kept.append(encoder.norm(x))
        parts = [tokens[:, 0] for tokens in kept]
        if self.patches:
            parts.append(ops.mean(kept[-1][:, 1 + encoder.register_tokens :], axis=1))
        return ops.concatenate(parts, axis=-1)


def embed_blocks(
    encoder: Any, images: Sequence, count: int, patches: bool, batch_size: int = 64
) -> np.ndarray:
    """Features `(N, count · D)`, with patches `(N, (count + 1) · D)`, float32 and not of unit length.

    Raises:
        ValueError: where the encoder is no ViT, or `LastBlocks` refuses.
    """
    encoder = Encoder.wrap(encoder)
    if not encoder.gives_tokens:
        raise ValueError(f"encoder: {type(encoder).__name__} has no blocks; expected a ViT")
    model, preprocess = LastBlocks(encoder, count, patches), encoder.preprocess
    starts = range(0, len(images), batch_size)
    return np.concatenate(
        [model.predict_on_batch(preprocess.batch(images[start : start + batch_size])) for start in starts]
    ).astype("float32")
