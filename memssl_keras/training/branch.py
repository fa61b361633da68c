"""Encoder and projection head together: what student and teacher are."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import keras
import torch
from keras import layers

from memssl_keras.annotations import Tensor


@keras.saving.register_keras_serializable("memssl_keras")
class Branch(keras.Model):
    """Encoder and projection head: views → unit vectors.

    All views of one size go through the encoder in one batch, view-major, and all features through the head
    in one: a list of V arrays `(B, H, W, 3)` becomes `(V · B, D)`.

    Attributes:
        frozen: The encoder takes no gradient, and gives what it gives outside training.
        fixed_statistics: In training too, the encoder's batch norm uses its running means and variances, which stay.
    """

    frozen = False
    fixed_statistics = False

    def __init__(self, encoder: keras.Model, head: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.encoder, self.head = encoder, head
        self.build((None, None, None, 3))

    def build(self, input_shape: Any) -> None:
        self.built = True  # as its parts are

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Of the embeddings, for `summary`."""
        return (None, self.head.output_dim)

    def call(self, views: Sequence[Tensor], training: bool | None = None) -> Tensor:
        groups = [
            list(group) for _, group in itertools.groupby(views, key=lambda view: tuple(view.shape[1:]))
        ]
        learning = training and not (self.frozen or self.fixed_statistics)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = [self.encoder(torch.cat(group), training=learning) for group in groups]
        return self.head(torch.cat(features), training=training)

    def copy(self, name: str | None = None) -> Branch:
        """The same weights in an encoder and a head of their own, without drop path or any other dropout.

        Args:
            name: What summaries call it.
        """
        parts = []
        for part in (self.encoder, self.head):
            twin = type(part).from_config(part.get_config())
            if not twin.built:
                twin.build((None, self.encoder.output_shape[-1]))
            twin.set_weights(part.get_weights())
            parts.append(twin)
        twin = Branch(*parts, dtype=self.dtype_policy, name=name)
        for layer in twin._flatten_layers():
            if isinstance(layer, layers.Dropout):
                layer.rate = 0
        return twin
