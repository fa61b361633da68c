"""k-NN beside brute force and scikit-learn, and the features it is measured on."""

import numpy as np
import pytest
from knn_speed import WAYS, measure
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from small_models import pictures

from memssl_keras.evaluate.embedders import pixels
from memssl_keras.evaluate.protocols import neighbours
from memssl_keras.evaluate.protocols.knn import knn_accuracy, knn_predict


def clusters(count, classes=4, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    return np.eye(dim)[labels] + rng.normal(0, 0.5, (count, dim)), labels


@pytest.mark.parametrize("k", [1, 5, 20, 60])
@pytest.mark.parametrize("temperature", [0.001, 0.07, 1.0])
def test_votes_are_those_of_brute_force(k, temperature):
    (train, labels), (queries, _) = clusters(60), clusters(33, seed=1)
    predicted = knn_predict(train, labels, queries, k, temperature, chunk=7)
    for query, ours in zip(queries, predicted, strict=True):
        cosine = train @ query / np.linalg.norm(train, axis=1) / np.linalg.norm(query)
        votes = np.zeros(4)
        for i in np.argsort(-cosine)[:k]:
            votes[labels[i]] += np.exp((cosine[i] - cosine.max()) / temperature)
        assert ours == votes.argmax()


def test_it_is_sklearns_where_all_neighbours_count_alike():
    (train, labels), (queries, truth) = clusters(80), clusters(50, seed=1)
    theirs = KNeighborsClassifier(7, metric="cosine").fit(train, labels)
    assert np.mean(knn_predict(train, labels, queries, 7, 1e6) == theirs.predict(queries)) == 1
    assert knn_accuracy(train, labels, queries, truth, 7, 1e6) == theirs.score(queries, truth) > 0.5


def test_length_of_features_does_not_count():
    (train, labels), (queries, _) = clusters(60), clusters(30, seed=1)
    scaled = train * np.random.default_rng(2).uniform(0.1, 10, (60, 1))
    assert np.array_equal(knn_predict(train, labels, queries), knn_predict(scaled, labels, 3 * queries))


def test_a_low_temperature_does_not_overflow():
    train, labels = clusters(40)
    assert np.array_equal(knn_predict(train, labels, train, k=20, temperature=1e-4), labels)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"k": 0}, "k=0: expected 1 … 40"),
        ({"k": 41}, "k=41: expected 1 … 40"),
        ({"temperature": 0}, "temperature=0: expected a positive number"),
        ({"train_labels": np.zeros(39, int)}, "39 labels .* do not fit together"),
        ({"queries": np.zeros((3, 5))}, r"queries \(3, 5\) do not fit together"),
        ({"queries": np.zeros(6)}, r"queries has shape \(6,\): expected finite features"),
        ({"train": np.full((40, 6), np.nan)}, "train has shape .* expected finite features"),
    ],
)
def test_bad_arguments_are_named(change, words):
    train, labels = clusters(40)
    arguments = {"train": train, "train_labels": labels, "queries": train, **change}
    with pytest.raises(ValueError, match=words):
        knn_predict(**arguments)


def test_raw_pixels_are_centred_rows_of_the_resized_image():
    images = pictures(3)
    rows = pixels(list(images), 8, centred=True)
    expected = np.asarray(Image.fromarray(images[1]).resize((8, 8), Image.Resampling.BICUBIC), float).ravel()
    assert rows.shape == (3, 192)
    np.testing.assert_allclose(rows[1], expected - expected.mean(), atol=1e-3)


def test_the_benchmark_measures_both_ways(monkeypatch):
    monkeypatch.setattr(neighbours, "faiss", neighbours.faiss)  # the measurement without it takes it away
    got = [measure(way, train=400, queries=50, dim=64, classes=4, repeats=1) for way in WAYS]
    assert neighbours.faiss is None and got[0]["accuracy"] == got[1]["accuracy"] > 0.5
    assert all(one["seconds"] > 0 and one["peak"] > 400 * 64 * 4 for one in got)
