"""Low-shot classification: how far a few labelled images per class go.

References:
    Snell et al., Prototypical Networks, NeurIPS 2017 (arXiv 1703.05175), for the nearest class mean; Assran et al.,
    Masked Siamese Networks, ECCV 2022 (arXiv 2204.07141), for 1, 2, 5 images per class and 1 % of the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.intervals import student_interval
from memssl_keras.evaluate.protocols.knn import knn_predict
from memssl_keras.evaluate.protocols.probe import fit

SHOTS = (1, 2, 5, 10, "1%", "10%")
CLASSIFIERS = ("logistic", "class mean", "k-NN")


def draw_rows(labels: np.ndarray, shot: Any, rng: np.random.Generator) -> np.ndarray:
    """Rows of a draw: `shot` of each class, or for a text such as `"1%"` that share of all, at least one of a class.

    Raises:
        ValueError: where a class has fewer rows, or `shot` is neither.
    """
    values, counts = np.unique(labels, return_counts=True)
    if isinstance(shot, str):
        share = float(shot.rstrip("%")) / 100 if shot.endswith("%") else -1
        if not 0 < share <= 1:
            raise ValueError(f"shot={shot!r}: expected a number of images per class, or a share such as '1%'")
        wanted = np.maximum(np.rint(share * counts).astype(int), 1)
    else:
        if shot < 1 or shot > counts.min():
            few = values[counts.argmin()]
            raise ValueError(f"shot={shot}: expected 1 … {counts.min()}, the images of class {few}")
        wanted = np.full(len(values), shot)
    return np.concatenate(
        [
            rng.choice(np.flatnonzero(labels == value), count, replace=False)
            for value, count in zip(values, wanted, strict=True)
        ]
    )


def classify(name: str, train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Predicted labels of unit-length test features by one of `CLASSIFIERS`, taught few unit-length features.

    `"logistic"`: with C = 10 on mean-centred features, scaled to unit variance in the mean over dimensions; nothing
    is left to choose a C on. `"class mean"`: the most similar mean of a class. `"k-NN"`: k = 20, or all there are,
    T = 0.07.
    """
    if name == "k-NN":
        return knn_predict(train, labels, test, k=min(20, len(train)))
    if name == "class mean":
        values, index = np.unique(labels, return_inverse=True)
        means = np.zeros((len(values), train.shape[1]), "float32")
        np.add.at(means, index, train)
        return values[(test @ unit(means, "means").T).argmax(1)]
    if name == "logistic":
        from sklearn.linear_model import LogisticRegression

        middle = train.mean(0)
        scale = max(float((train - middle).std()), 1e-6)
        model = LogisticRegression(C=10.0 / train.shape[1], max_iter=200, tol=1e-3)
        fit(model, (train - middle) / scale, labels)
        return model.predict((test - middle) / scale)
    raise ValueError(f"classifier={name!r}: expected {', '.join(CLASSIFIERS)}")


def low_shot(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    shots: Sequence = SHOTS,
    draws: int = 5,
    classifiers: Sequence[str] = CLASSIFIERS,
    seed: int = 0,
    track: Callable = iter,
) -> tuple[dict[Any, dict[str, Any]], list[Any]]:
    """Accuracy on the test features after learning from a few training features, over several draws of them.

    Every classifier, and every model with the same seed, sees the same draws.

    Args:
        train: Features `(N, D)`.
        train_labels: Labels `(N,)`, two classes or more.
        test: Features `(M, D)`.
        test_labels: Labels `(M,)`.
        shots: Images per class, or shares as text such as `"1%"`; those beyond the smallest class are left out.
        draws: Two or more.
        classifiers: Some of `CLASSIFIERS`.
        seed: Of the draws.
        track: Wraps the shots, for a progress bar.

    Returns:
        shot → classifier → dict of `mean`, `interval` (half the width of the 95 % interval over draws), `draws` (the
        figures, a list) and `images` (that were labelled); and the shots left out.

    Raises:
        ValueError: for one class only, fewer than two draws, or features that do not fit together or are not finite.
    """
    train, test = unit(train, "train"), unit(test, "test")
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if train.shape[1] != test.shape[1] or len(train) != len(train_labels) or len(test) != len(test_labels):
        raise ValueError(
            f"train {train.shape} with {len(train_labels)} labels and test {test.shape} with {len(test_labels)} labels "
            "do not fit together"
        )
    counts = np.unique(train_labels, return_counts=True)[1]
    if len(counts) < 2:
        raise ValueError("train_labels: one class only; expected two or more to tell apart")
    if draws < 2:
        raise ValueError(f"draws={draws}: expected 2 or more, or there is no interval")
    possible = [shot for shot in shots if isinstance(shot, str) or shot <= counts.min()]
    results: dict[Any, dict[str, Any]] = {}
    for shot in track(possible):
        accuracies: dict[str, list[float]] = {name: [] for name in classifiers}
        for draw in range(draws):
            rows = draw_rows(train_labels, shot, np.random.default_rng([seed, draw]))
            for name in classifiers:
                predicted = classify(name, train[rows], train_labels[rows], test)
                accuracies[name].append(float(np.mean(predicted == test_labels)))
        results[shot] = {}
        for name, values in accuracies.items():
            mean, half = student_interval(values)
            results[shot][name] = {"mean": mean, "interval": half, "draws": values, "images": len(rows)}
    return results, [shot for shot in shots if shot not in possible]
