"""Refitting the whitening of an encoder that is adapted to other pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from memssl_keras.data.held_out import Rows
from memssl_keras.data.view_pairs import spaced, view_pairs
from memssl_keras.data.views import MultiCrop
from memssl_keras.encoders import Encoder
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.training.whiten import raw_features, whitening_of

FITTED = 5000  # pictures that a whitening is fitted to, at most
VIEWED, FEW = 1000, 500  # pictures of which views are cut, at most; and up to which two pairs are cut of each


def refitted(
    encoder: Encoder,
    images: Any,
    like: Whitening,
    views: MultiCrop,
    shrinkage: float = 0.1,
    within: float = 0.75,
    power: float = 0.1,
) -> Encoder:
    """A copy of an encoder with a whitening layer that is fitted to its features of `images`.

    What differs between two views of a picture counts less; see `Whitening.fit_pairs`. A layer that does not reduce
    the features is fitted without views, with power 0.5. With fewer images than axes, the weights of `like` are kept.

    Args:
        encoder: An encoder without whitening, such as `without_whitening` returns.
        images: A sequence of what `read_image` takes; unreadable ones are skipped. Two views are cut of at most 1,000
            of them, evenly spaced; four of each where there are no more than 500.
        like: The encoder's former whitening layer; the new one has the same `rank` and `reduce`.
        views: The run's views, of which the two global ones are cut.
        shrinkage: See `Whitening.fit_pairs`.
        within: Likewise.
        power: Likewise.
    """
    copy: Any = encoder.extended(whitening={"rank": like.rank, "reduce": like.reduce})
    layer: Any = whitening_of(copy)
    features = raw_features(encoder, images)
    if len(features) < like.rank:
        layer.set_weights(like.get_weights())
    elif like.reduce:
        layer.fit_pairs(features, *_of_views(encoder, images, views), shrinkage, within, power)
    else:
        layer.fit(features, shrinkage, power=0.5)
    return copy


def _of_views(encoder, images, views):
    """Features of two views of each picture, `(N, D)` twice; views have the size that the encoder sees."""
    draws = 2 if len(images) <= FEW else 1
    first, second, _ = view_pairs(images, views, VIEWED, draws=draws)
    plain = dataclasses.replace(encoder.preprocess, resize_size=encoder.preprocess.image_size, trim=None)
    return raw_features(encoder, first, preprocess=plain), raw_features(encoder, second, preprocess=plain)


class RefitWhitening(keras.callbacks.Callback):
    """Fits a whitening layer to the teacher's features after every epoch; `model.encoder` is the encoder with it.

    Args:
        images: The training images; at most 5,000 of them are used, evenly spaced.
        like: The whitening layer of the encoder that the run started from; the new one has the same `rank` and
            `reduce`.
        views: The run's views.
    """

    def __init__(self, images: Any, like: Whitening, views: MultiCrop):
        super().__init__()
        self.images, self.rows, self.like, self.views = images, spaced(len(images), FITTED), like, views

    def on_train_begin(self, logs: Any = None) -> None:
        if self.model.step:  # resumed
            self._refit()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._refit()

    def _refit(self):
        encoder = self.model.teacher.encoder
        self.model.keep(refitted(encoder, Rows(self.images, self.rows), self.like, self.views))
