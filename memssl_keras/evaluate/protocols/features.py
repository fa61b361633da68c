"""Features to evaluate: their form, and how those of many images are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

CHUNK = 500  # images that are held at once


def unit(features: np.ndarray, name: str) -> np.ndarray:
    """Features `(N, D)` as float32 rows of unit length; a row of zeros stays one.

    Raises:
        ValueError: naming them, where they have another shape or are not finite.
    """
    features = np.asarray(features, "float32")
    if features.ndim != 2:
        raise ValueError(f"{name} has shape {features.shape}: expected finite features (N, D)")
    if bad := int((~np.isfinite(features).all(axis=1)).sum()):
        raise ValueError(
            f"{name} has shape {features.shape}: expected finite features (N, D), {bad} rows hold NaN or infinity"
        )
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def collapsed(features: np.ndarray, name: str) -> str | None:
    """What makes scores of features `(N, D)` meaningless, in words: zeros, or all alike; None where neither is so."""
    if zeros := int((~features.any(axis=1)).sum()):
        return f"{name}: features of {zeros} of {len(features)} images are all zero: they are like nothing"
    if len(features) > 1 and float(np.ptp(features, axis=0).max()) <= 1e-6 * float(np.abs(features).max()):
        return f"{name}: all {len(features)} images have the same features: they tell nothing apart"
    return None


def extract(extractor: Callable[[list], np.ndarray], images: Sequence) -> np.ndarray:
    """Features of a whole sequence, 500 images at a time."""
    starts = range(0, len(images), CHUNK)
    parts = [extractor([images[i] for i in range(s, min(s + CHUNK, len(images)))]) for s in starts]
    return np.concatenate(parts)
