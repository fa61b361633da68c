"""A new run that starts from the weights of a trained encoder."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from memssl_keras.encoders.whitening import Whitening

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder


def fingerprint(encoder: Encoder) -> dict[str, Any]:
    """What identifies an encoder's weights in the record of a run: its architecture in words and a checksum."""
    checksum = 0
    for part in [layer.get_weights() for layer in encoder.layers] + [_own(encoder).values()]:
        for weight in part:
            checksum = zlib.crc32(np.asarray(weight).tobytes(), checksum)
    return {"encoder": encoder.describe(), "crc32": checksum}


def _own(encoder):
    """Name → array of the weights that are in no layer of the encoder: the tokens and positions of a ViT."""
    inside = {id(weight) for layer in encoder.layers for weight in layer.weights}
    return {w.name: ops.convert_to_numpy(w.value) for w in encoder.weights if id(w) not in inside}


def start_from(encoder: Encoder, source: Encoder) -> Encoder:
    """Copy every weight of `encoder` from the layer of the same name in `source`, and from `source` itself.

    A PCA whitening layer and the pooling of earlier stages in `source` are not copied.

    Args:
        encoder: A `ResNet`, a `ViT` or a functional Keras model.
        source: An encoder of the same architecture.

    Returns:
        `encoder`.

    Raises:
        ValueError: where a layer or weight is missing or has another shape; it is named.

    Example:
        >>> from memssl_keras import ResNet
        >>> from memssl_keras.training.start import start_from
        >>> small = dict(blocks=(1, 1), width=4, stem="half")
        >>> encoder = start_from(ResNet(**small), ResNet(**small, pooling_grid=2))
    """
    there = {layer.name: layer.get_weights() for layer in source.layers}
    names = {layer.name for layer in encoder.layers}
    more = [one for one in source.layers if one.weights and one.name not in names]
    if extra := [one.name for one in more if not isinstance(one, Whitening)]:
        raise ValueError(
            f"init={source.name!r}: it has {', '.join(extra[:3])}, which the recipe's encoder has not; expected the "
            "same architecture"
        )
    for layer in encoder.layers:
        shapes = [tuple(weight.shape) for weight in layer.get_weights()]
        found = [tuple(weight.shape) for weight in there.get(layer.name, [])]
        if shapes != found:
            raise ValueError(
                f"init={source.name!r}: its layer {layer.name} has {found or 'no'} weights; expected {shapes}, as the "
                "recipe's encoder has them"
            )
        if shapes:
            layer.set_weights(there[layer.name])
    ours, theirs = _own(encoder), _own(source)
    for name, array in ours.items():
        if name not in theirs or theirs[name].shape != array.shape:
            other = theirs[name].shape if name in theirs else "none"
            raise ValueError(
                f"init={source.name!r}: its {name} is {other}; expected {array.shape}, as the recipe's encoder has it"
            )
    for weight in encoder.weights:
        if weight.name in ours and not any(weight is w for layer in encoder.layers for w in layer.weights):
            weight.assign(theirs[weight.name])
    return encoder
