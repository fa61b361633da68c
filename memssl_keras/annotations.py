"""Names for types that recur in annotations."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

PathLike: TypeAlias = str | os.PathLike[str]
Tensor: TypeAlias = Any  # an array of the backend that Keras runs on
Shape: TypeAlias = tuple[Any, ...]  # of an array; None where a size is not known
