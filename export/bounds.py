"""How far a file may be from the Keras encoder, and what was measured of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import onnxruntime
import torch

# Variant → (largest difference, lowest mean cosine); int8's difference to float32 is large where it does no harm.
TOLERANCES = {
    "fp32": (1e-4, 0.9999),
    "fp16": (5e-3, 0.999),
    "int8": (None, 0.99),
    "int8-static": (None, 0.99),
}
MOST_POINTS_LOST = 0.5
FEW = 2  # images that may be lost all the same: of some hundred images, one is more than half a point


class ParityError(ArithmeticError):
    """An exported graph does not give what the Keras encoder gives; `written` are the files that do."""

    def __init__(self, message: str, written: Any = ()):
        super().__init__(message)
        self.written = dict(written)


@dataclass(frozen=True)
class Verification:
    """How a file compares with the float32 Keras encoder; `verify.json` beside it holds the same.

    Attributes:
        file: Its name.
        variant: `"fp32"`, `"fp16"`, `"int8"` or `"int8-static"`.
        bytes: Its size.
        sha256: Of its content.
        largest_difference: Over all outputs and inputs, as a share of the largest value where that is above 1.
        mean_cosine: Mean cosine similarity of the embeddings.
        lowest_cosine: The lowest of one image.
        inputs: The shapes `(N, H, W)` that were compared.
        images: What was measured on the user's images, see `on_images`; empty without any.
        raw_pixels: Whether it takes raw pixels; the difference is then one of unit vectors, whose resizing may round
            a value the other way, and the cosine alone counts.
        speedup: Of int8, how many times as fast as float32 it was on one thread of this machine; None for others.
    """

    file: str
    variant: str
    bytes: int
    sha256: str
    largest_difference: float
    mean_cosine: float
    lowest_cosine: float
    inputs: list
    images: dict = field(default_factory=dict)
    raw_pixels: bool = False
    speedup: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the versions of what was run."""
        versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__.split("+")[0]}
        return {**asdict(self), "versions": versions}


def problem(verification: Verification, tolerance: float | None = None) -> str | None:
    """In what a file differs more than its variant may, in words; None where it does not.

    Args:
        verification: A `Verification`.
        tolerance: Largest difference, in place of the variant's.
    """
    difference, cosine = TOLERANCES[verification.variant]
    difference = difference if tolerance is None else tolerance
    v, images = verification, verification.images
    if difference is not None and not v.raw_pixels and not v.largest_difference <= difference:
        return f"differs from the Keras encoder by {v.largest_difference:.1e}, more than {difference:.0e}"
    if not v.mean_cosine >= cosine:
        return f"has a mean cosine of {v.mean_cosine:.4f} to the Keras encoder, below {cosine}"
    if not images:
        return None
    count = images["images"]
    most = max(MOST_POINTS_LOST / 100, FEW / count)
    if images["recall@1"] < 1 - most:
        return f"has a recall@1 of {images['recall@1']:.2%} on {count} images, below {1 - most:.2%}"
    asked = max(count // 2, 1)
    most = max(MOST_POINTS_LOST / 100, FEW / asked)
    lost = images.get("reference_knn", 0) - images.get("knn", 0)
    if lost > most:
        return f"loses {100 * lost:.2f} points of k-NN on {asked} images, more than {100 * most:.2f}"
    return None


def check(verification: Verification, tolerance: float | None = None) -> None:
    """Raises ParityError where there is a `problem`."""
    if found := problem(verification, tolerance):
        raise ParityError(f"{verification.file} ({verification.variant}) {found}; it was not written")
