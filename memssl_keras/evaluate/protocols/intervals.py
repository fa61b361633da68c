"""How sure a figure is: Student's interval over draws, and the paired bootstrap over test images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def student_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Mean of independent draws, and half the width of its confidence interval by Student's t distribution.

    Args:
        values: One figure per draw, `(R,)`, two or more.
        level: Of the interval, between 0 and 1.

    Raises:
        ValueError: for fewer than two draws, or a level out of range.

    Example:
        >>> from memssl_keras.evaluate.protocols.intervals import student_interval
        >>> mean, half = student_interval([0.4, 0.5, 0.6])
        >>> round(mean, 3), round(half, 3)
        (0.5, 0.248)
    """
    from scipy.stats import t

    found = np.asarray(values, float)
    if found.ndim != 1 or len(found) < 2:
        raise ValueError(f"values: got {found.size} draws; expected 2 or more, or there is no interval")
    if not 0 < level < 1:
        raise ValueError(f"level={level}: expected a number between 0 and 1")
    error = found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(t.ppf((1 + level) / 2, len(found) - 1) * error)


def paired_bootstrap(
    ours: np.ndarray, theirs: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Difference of two models' mean scores on the same test images, and its percentile interval.

    Both are resampled together: that a test image is hard for both does not widen the interval.

    Args:
        ours, theirs: Score of each test image, `(M,)`, such as right (1) or wrong (0).
        level: Of the interval, between 0 and 1.
        resamples: Drawn with replacement.
        seed: Of the draws.

    Returns:
        Difference `ours - theirs`, lower and upper end.

    Raises:
        ValueError: where the two are of unequal length, or empty.

    References:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16.
    """
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    if ours.shape != theirs.shape or ours.ndim != 1 or not len(ours):
        raise ValueError(f"scores {ours.shape} and {theirs.shape}: expected as many of one as of the other")
    difference, rng = ours - theirs, np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
