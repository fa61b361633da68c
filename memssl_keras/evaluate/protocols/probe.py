"""Linear probe: how much of the classes a linear classifier reads from frozen features."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memssl_keras.evaluate.protocols.features import unit

STRENGTHS = tuple(10.0**e for e in range(-5, 1))


def fit(classifier: Any, features: np.ndarray, labels: np.ndarray) -> Any:
    """Fit a classifier of scikit-learn on one thread, without its warnings; returns whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # L-BFGS takes many short steps: where another process has a core, two threads were 16 times slower than one.
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        classifier.fit(features, labels)
    return not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def linear_probe(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    selection: int = 12000,
    iterations: int = 200,
    seed: int = 0,
    track: Callable = iter,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Classes of test features by logistic regression, its regularisation chosen on a part of train.

    Features are brought to unit length and standardised by the training features. The inverse regularisation C that
    classifies the held-out part best is taken, the smallest of equals, and fitted again on all of train. Test
    features take no part in it.

    Args:
        train: Features `(N, D)`.
        train_labels: Labels `(N,)`, two classes or more.
        test: Features `(M, D)`.
        strengths: C's to choose from.
        held_out: Share of train to choose on, between 0 and 1.
        selection: Training images that take part in the choice, at most; the rest only joins the last fit.
        iterations: Of L-BFGS, at most.
        seed: Of what is held out.
        track: Wraps the strengths, for a progress bar.

    Returns:
        Predicted labels `(M,)`, and a dict of `C`, `held_out` (accuracy there) and `converged`.

    Raises:
        ValueError: for one class only, unequal widths, features that are not finite, or a C or share out of range.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.protocols.probe import linear_probe
        >>> features, labels = np.repeat(np.eye(2), 10, axis=0), np.repeat([0, 1], 10)
        >>> linear_probe(features, labels, np.eye(2))[0]
        array([0, 1])
    """
    from sklearn.linear_model import LogisticRegression

    train, test, train_labels = unit(train, "train"), unit(test, "test"), np.asarray(train_labels)
    if train.shape[1] != test.shape[1] or len(train) != len(train_labels):
        raise ValueError(
            f"train {train.shape}, its {len(train_labels)} labels and test {test.shape} do not fit together"
        )
    if len(np.unique(train_labels)) < 2:
        raise ValueError("train_labels: one class only; expected two or more to tell apart")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out={held_out}: expected a number between 0 and 1")
    if not strengths or not min(strengths) > 0:
        raise ValueError(f"strengths={strengths}: expected positive numbers")
    rows = np.random.default_rng(seed).permutation(len(train))[:selection]
    cut = max(round(held_out * len(rows)), 1)
    judged, taught = rows[:cut], rows[cut:]
    if len(np.unique(train_labels[taught])) < 2:
        raise ValueError(f"train: {len(train)} features are too few to hold out a share of {held_out}")
    mean, scale = train.mean(0), train.std(0)
    scale[scale < 1e-6] = 1  # a constant dimension tells nothing, and is not blown up
    train, test, strengths = (train - mean) / scale, (test - mean) / scale, sorted(strengths)
    # Each fit starts from the one before, which is a little more regularised: several times fewer iterations.
    classifier, scores = LogisticRegression(max_iter=iterations, tol=1e-3, warm_start=True), []
    for strength in track(strengths):
        fit(classifier.set_params(C=strength), train[taught], train_labels[taught])
        scores.append(classifier.score(train[judged], train_labels[judged]))
    chosen = strengths[int(np.argmax(scores))]
    classifier = LogisticRegression(C=chosen, max_iter=iterations, tol=1e-3)
    converged = fit(classifier, train, train_labels)
    about = {"C": chosen, "held_out": float(max(scores)), "converged": converged}
    return classifier.predict(test), about
