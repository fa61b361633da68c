"""A new run that starts from the weights of a trained encoder."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder


def fingerprint(encoder: Encoder) -> dict[str, Any]:
    """What identifies an encoder's weights in the record of a run: its name and a checksum."""
    checksum = 0
    for layer in encoder.layers:
        for weight in layer.get_weights():
            checksum = zlib.crc32(weight.tobytes(), checksum)
    return {"name": encoder.name, "crc32": checksum}


def start_from(encoder: Encoder, source: Encoder) -> Encoder:
    """Copy the weights of every layer of `encoder` from the layer of the same name in `source`.

    Layers that `source` has besides, such as PCA whitening or poolings of earlier stages, are left where they are.

    Args:
        encoder: A functional Keras model, such as a `ResNet`.
        source: Another one, of the same widths.

    Returns:
        `encoder`.

    Raises:
        ValueError: naming the layer that is missing or has other shapes.

    Example:
        >>> from memssl_keras import ResNet
        >>> from memssl_keras.training.start import start_from
        >>> small = dict(blocks=(1, 1), width=4, stem="half")
        >>> encoder = start_from(ResNet(**small), ResNet(**small, pooling_grid=2))
    """
    there = {layer.name: layer.get_weights() for layer in source.layers}
    for layer in encoder.layers:
        shapes = [tuple(weight.shape) for weight in layer.get_weights()]
        found = [tuple(weight.shape) for weight in there.get(layer.name, [])]
        if shapes != found:
            raise ValueError(
                f"start={source.name!r}: its layer {layer.name} has {found or 'no'} weights; expected {shapes}, as the "
                "recipe's encoder has them"
            )
        if shapes:
            layer.set_weights(there[layer.name])
    return encoder
