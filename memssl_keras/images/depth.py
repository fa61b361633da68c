"""Pictures of more than eight bits brought to eight."""

from __future__ import annotations

import os
import warnings

import numpy as np


def to_8_bits(wide: np.ndarray, name: str) -> np.ndarray:
    """Greyscale or colours of up to 16 bits scaled to uint8.

    As many bits are used as `MEMSSL_BIT_DEPTH` says, else 12 or 14 where no value needs more, with a warning.

    Args:
        wide: Whole numbers of any shape.
        name: Of the picture, for the warning.

    Raises:
        ValueError: where `MEMSSL_BIT_DEPTH` is no number from 8 to 16.
    """
    largest = (1 << _bits_used(wide, name)) - 1
    return ((wide.astype(np.uint32) * 255 + largest // 2) // largest).clip(0, 255).astype(np.uint8)


def _bits_used(wide: np.ndarray, name: str) -> int:
    """Bits of a 16-bit picture that its values use: cameras and scanners store 12 or 14 bits unscaled."""
    if chosen := chosen_bits():
        return chosen
    top = int(wide.max())
    bits = next(bits for bits in (12, 14, 16) if top < 1 << bits)
    if top and bits < 16:
        warnings.warn(
            f"{name}: a 16-bit picture whose largest value is {top} is read as one of {bits} bits; "
            "MEMSSL_BIT_DEPTH=16 reads such pictures as they are",
            stacklevel=2,
        )
    return bits


def chosen_bits() -> int | None:
    """What `MEMSSL_BIT_DEPTH` says; None where it says nothing.

    Raises:
        ValueError: where it is no number from 8 to 16.
    """
    chosen = os.environ.get("MEMSSL_BIT_DEPTH")
    if not chosen:
        return None
    if not chosen.isdigit() or not 8 <= int(chosen) <= 16:
        raise ValueError(f"MEMSSL_BIT_DEPTH={chosen!r}: expected a number of bits from 8 to 16")
    return int(chosen)
