"""Copies of an encoder: with random weights, or without its whitening."""

from __future__ import annotations

from typing import Any


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
