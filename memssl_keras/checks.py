"""Arguments that are checked in several places."""

from __future__ import annotations

from typing import Any

import numpy as np


def check_at_least_1(name: str, value: Any) -> None:
    """Raise ValueError where an argument is no whole number of at least 1.

    Example:
        >>> from memssl_keras.checks import check_at_least_1
        >>> check_at_least_1("batch_size", 0)
        Traceback (most recent call last):
        ValueError: batch_size: got 0; expected a whole number of at least 1
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}: got {value!r}; expected a whole number of at least 1")
