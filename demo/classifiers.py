"""Classifiers of few examples: the probability of each class, and what each example adds to it.

References:
    Snell et al., Prototypical Networks, NeurIPS 2017 (arXiv 1703.05175), for the nearest class mean; Wu et al., CVPR
    2018 (arXiv 1805.01978), for the vote of neighbours and its temperature; Yeh et al., Representer Point Selection,
    NeurIPS 2018 (arXiv 1811.09720), for the parts that examples have in a logistic regression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.lowshot import CLASSIFIERS
from memssl_keras.evaluate.protocols.probe import fit

TEMPERATURE = 0.07
MOST_VOTERS = 20


@dataclass(frozen=True)
class Linear:
    """softmax(`vectors @ weights + bias`).

    Attributes:
        weights: float32 `(D, C)`.
        bias: float32 `(C,)`.
        examples: `(N, D)`, as the classifier saw them: less `middle`, over `scale`.
        parts: `(N, C)`: a class's score is its bias and the sum over examples of its part times their product
            with the query.
    """

    weights: np.ndarray
    bias: np.ndarray
    examples: np.ndarray
    parts: np.ndarray
    middle: np.ndarray
    scale: float

    def probabilities(self, vectors) -> np.ndarray:
        """Of each class, `(M, C)`, for unit vectors `(M, D)`."""
        return _softmax(vectors @ self.weights + self.bias)

    def support(self, vector) -> np.ndarray:
        """What each example adds to the score of each class, `(N, C)`, for a unit vector `(D,)`."""
        return self.parts * (self.examples @ ((vector - self.middle) / self.scale))[:, None]


@dataclass(frozen=True)
class Neighbours:
    """The `k` most similar examples vote for their class with weight exp(similarity / T).

    Attributes:
        examples: float32 `(N, D)`, of unit length.
        votes: float32 `(N, C)`: 1 in the column of the example's class.
        k: how many vote.
    """

    examples: np.ndarray
    votes: np.ndarray
    k: int

    def probabilities(self, vectors) -> np.ndarray:
        """Of each class, `(M, C)`, for unit vectors `(M, D)`: the share of its votes."""
        return self._weights(vectors) @ self.votes

    def support(self, vector) -> np.ndarray:
        """What each example adds to the probability of each class, `(N, C)`, for a unit vector `(D,)`."""
        return self._weights(vector[None])[0][:, None] * self.votes

    def _weights(self, vectors):
        similarities = vectors @ self.examples.T / TEMPERATURE
        chosen = np.argsort(-similarities, axis=1, kind="stable")[:, : self.k]
        voting = np.full_like(similarities, -np.inf)
        np.put_along_axis(voting, chosen, np.take_along_axis(similarities, chosen, 1), 1)
        return _softmax(voting)


def teach(kind, vectors, labels):
    """Fit a classifier; the three are those of `memssl_keras.evaluate.protocols.lowshot`, with its settings.

    Args:
        kind: one of `CLASSIFIERS`: `"class mean"`, `"logistic"` or `"k-NN"`.
        vectors: float32 `(N, D)`, of unit length.
        labels: int `(N,)`, 0 … C - 1, each of them at least once.

    Returns:
        a `Linear` or a `Neighbours`.

    Raises:
        ValueError: the kind is unknown, or there are fewer than two classes.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.demo.classifiers import teach
        >>> classifier = teach("class mean", np.eye(2, dtype="float32"), np.array([0, 1]))
        >>> classifier.probabilities(np.array([[0.6, 0.8]], "float32")).argmax(1).tolist()
        [1]
    """
    if kind not in CLASSIFIERS:
        raise ValueError(f"classifier: got {kind!r}; expected {', '.join(CLASSIFIERS)}")
    votes = np.eye(int(labels.max(initial=-1)) + 1, dtype=np.float32)[labels]
    if votes.shape[1] < 2:
        raise ValueError("classes: fewer than two; expected two or more to tell apart")
    if kind == "k-NN":
        return Neighbours(vectors, votes, min(MOST_VOTERS, len(vectors)))
    if kind == "class mean":
        return _class_means(vectors, votes, labels)
    return _logistic(vectors, votes, labels)


def _class_means(vectors, votes, labels):
    sums = votes.T @ vectors
    lengths = np.maximum(np.linalg.norm(sums, axis=1), 1e-12)
    zeros = np.zeros(vectors.shape[1], np.float32)
    return Linear(
        unit(sums, "class means").T / TEMPERATURE,
        np.zeros(votes.shape[1], np.float32),
        vectors,
        votes / lengths / TEMPERATURE,
        zeros,
        1.0,
    )


def _logistic(vectors, votes, labels):
    from sklearn.linear_model import LogisticRegression

    middle = vectors.mean(0)
    scale = max(float((vectors - middle).std()), 1e-6)
    examples = (vectors - middle) / scale
    strength = 10.0 / vectors.shape[1]
    model = LogisticRegression(C=strength, max_iter=1000, tol=1e-6)
    fit(model, examples, labels)
    coefficients, intercept = model.coef_.T, model.intercept_
    missed = votes - model.predict_proba(examples)
    if votes.shape[1] == 2:  # one column, for the second class against the first
        coefficients = np.concatenate([0 * coefficients, coefficients], axis=1)
        intercept, missed = np.append(0.0, intercept), missed * [0, 1]
    weights = coefficients / scale
    bias = intercept - middle @ weights
    return Linear(
        weights.astype(np.float32), bias.astype(np.float32), examples, strength * missed, middle, scale
    )


def _softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
