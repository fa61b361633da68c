"""Protocols beside scikit-learn and cases worked by hand, and what they refuse."""

import itertools

import numpy as np
import pytest
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from memssl_keras.evaluate.protocols import neighbours
from memssl_keras.evaluate.protocols.clustering import agreement, cluster
from memssl_keras.evaluate.protocols.intervals import paired_bootstrap, student_interval
from memssl_keras.evaluate.protocols.knn import knn_predict, knn_predictions
from memssl_keras.evaluate.protocols.lowshot import classify, draw_rows, low_shot
from memssl_keras.evaluate.protocols.probe import linear_probe
from memssl_keras.evaluate.protocols.retrieval import RECALL_LEVELS, retrieve


def clusters(count, classes=4, dim=6, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (np.eye(dim)[labels] + rng.normal(0, spread, (count, dim))).astype("float32"), labels


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.mark.parametrize("with_faiss", [True, False])
@pytest.mark.parametrize("k", [1, 7, 300])
def test_search_is_exact(with_faiss, k, monkeypatch):
    assert neighbours.faiss is not None
    if not with_faiss:
        monkeypatch.setattr(neighbours, "faiss", None)
    (stored, _), (queries, _) = clusters(300), clusters(50, seed=1)
    similarities, rows = neighbours.nearest(stored, queries, k, chunk=13)
    expected = np.argsort(-(queries @ stored.T), axis=1, kind="stable")[:, :k]
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(queries @ stored.T, expected, 1), atol=1e-5)


def test_several_k_are_those_of_each():
    (train, labels), (queries, _) = clusters(90), clusters(41, seed=1)
    together = knn_predictions(train, labels, queries, (1, 5, 90), chunk=16)
    assert list(together) == [1, 5, 90]
    for k, predicted in together.items():
        assert np.array_equal(predicted, knn_predict(train, labels, queries, k))


def test_average_precision_is_sklearns_where_nothing_ties():
    (queries, query_labels), (gallery, labels) = clusters(30), clusters(70, seed=1)
    found = retrieve(queries, query_labels, gallery, labels, ks=(1, 5), chunk=7)
    similarities = unit(queries) @ unit(gallery).T
    relevant = labels == query_labels[:, None]
    expected = [metrics.average_precision_score(r, s) for r, s in zip(relevant, similarities, strict=True)]
    np.testing.assert_allclose(found.average_precision, expected, atol=1e-6)
    for levels, row in zip(found.curve[None], [0], strict=True):
        curves = [metrics.precision_recall_curve(r, s) for r, s in zip(relevant, similarities, strict=True)]
        best = [[p[r >= level - 1e-9].max() for level in RECALL_LEVELS[1:]] for p, r, _ in curves]
        # At recall 0 sklearn adds a point of precision 1 that no ranking has.
        np.testing.assert_allclose(levels[1:], np.mean(best, axis=0), atol=1e-6)
        assert row == 0


def test_retrieval_by_hand():
    gallery = unit(np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [0, 1]]))
    found = retrieve([[1, 0], [0, 1]], ["a", "none"], gallery, ["b", "a", "b", "a", "c"], ks=(1, 2, 4))
    # Ranking of the first query: b a b a c. The second has no positive.
    assert found.skipped == 1 and found.answered.tolist() == [True, False]
    assert found.scores == pytest.approx(
        {
            "recall@1": 0,
            "recall@2": 1,
            "recall@4": 1,
            "precision@1": 0,
            "precision@2": 0.5,
            "precision@4": 0.5,
        }
        | {"mAP": (1 / 2 + 2 / 4) / 2}
    )
    assert found.nearest.tolist() == [[0, 1, 2, 3, 4]]
    assert found.place.tolist() == [2] and found.positives.tolist() == [2]


def test_a_query_is_not_found_by_itself():
    features, labels = np.eye(4)[[0, 0, 1, 2]], np.array([0, 0, 1, 2])
    found = retrieve(features, labels, features, labels, ks=(1,), same=True)
    assert found.skipped == 2 and found.scores["recall@1"] == 1 and found.scores["mAP"] == 1
    assert found.nearest[:, 0].tolist() == [1, 0]


def test_equal_similarities_keep_the_order_of_the_gallery():
    found = retrieve([[1.0]], [1], [[1.0]] * 3, [0, 1, 0], ks=(1, 2))
    assert found.nearest.tolist() == [[0, 1, 2]] and found.scores["mAP"] == 0.5


def test_agreement_is_sklearns_and_clusters_are_found():
    rng = np.random.default_rng(0)
    ours, theirs = rng.integers(0, 5, 200), rng.integers(0, 7, 200)
    assert agreement(ours, theirs) == pytest.approx(
        {
            "NMI": metrics.normalized_mutual_info_score(ours, theirs),
            "AMI": metrics.adjusted_mutual_info_score(ours, theirs),
            "ARI": metrics.adjusted_rand_score(ours, theirs),
        }
    )
    features, labels = clusters(120, spread=0.05)
    assert agreement(labels, cluster(features, 4)) == pytest.approx({"NMI": 1, "AMI": 1, "ARI": 1})
    assert np.array_equal(
        cluster(3 * features, 4), KMeans(4, n_init=5, random_state=0).fit_predict(unit(features))
    )


def test_linear_probe_learns_and_chooses_on_train_alone():
    (train, labels), (test, truth) = clusters(400), clusters(100, seed=1)
    predicted, about = linear_probe(train, labels, test)
    assert np.mean(predicted == truth) > 0.7 and 0.5 < about["held_out"] <= 1 and about["converged"]
    # Whatever the test set holds, the same classifier judges it.
    alone, same = linear_probe(train, labels, test[:7])
    assert np.array_equal(alone, predicted[:7]) and same == about


def test_linear_probe_takes_the_better_regularisation():
    train, labels = clusters(200, dim=40, spread=1.0)
    chosen = linear_probe(train, labels, train, strengths=(1e-6, 1e-1))[1]
    each = [linear_probe(train, labels, train, strengths=(c,))[1]["held_out"] for c in (1e-6, 1e-1)]
    assert chosen["held_out"] == max(each) and chosen["C"] == (1e-6, 1e-1)[int(np.argmax(each))]


def test_draws_hold_as_many_of_each_class():
    labels = np.repeat([0, 1, 2], [40, 50, 200])
    rng = np.random.default_rng(0)
    for shot, wanted in ((2, [2, 2, 2]), ("10%", [4, 5, 20]), ("1%", [1, 1, 2])):
        rows = draw_rows(labels, shot, rng)
        assert np.bincount(labels[rows]).tolist() == wanted and len(set(rows.tolist())) == len(rows)


def test_low_shot_is_the_mean_of_its_draws():
    (train, labels), (test, truth) = clusters(120), clusters(60, seed=1)
    results, left_out = low_shot(train, labels, test, truth, shots=(1, 10, 31, "10%"), draws=3)
    assert list(results) == [1, 10, "10%"] and left_out == [31]
    for shot, name in itertools.product(results, ("logistic", "class mean", "k-NN")):
        cell = results[shot][name]
        assert cell["mean"] == pytest.approx(np.mean(cell["draws"])) and len(cell["draws"]) == 3
        assert cell["interval"] == pytest.approx(student_interval(cell["draws"])[1])
    assert results[10]["logistic"]["mean"] > results[1]["logistic"]["mean"] > 0.3
    assert results["10%"]["k-NN"]["images"] == 12
    again, _ = low_shot(train, labels, test, truth, shots=(1,), draws=3)
    assert again[1] == results[1]


def test_draws_differ_and_follow_the_seed():
    (train, labels), (test, truth) = clusters(120), clusters(60, seed=1)
    first, same, other = (
        low_shot(train, labels, test, truth, shots=(1,), draws=6, seed=seed)[0][1] for seed in (0, 0, 1)
    )
    for name in ("logistic", "class mean", "k-NN"):
        assert len(set(first[name]["draws"])) > 2 and first[name]["draws"] == same[name]["draws"]
        assert first[name]["draws"] != other[name]["draws"]


def test_logistic_regression_of_few_sees_both_sides_scaled_alike():
    (train, labels), (test, _) = clusters(40), clusters(60, seed=1)
    train, test = unit(train + 3), unit(test + 3)
    middle, scale = train.mean(0), (train - train.mean(0)).std()
    reference = LogisticRegression(C=10 / train.shape[1], max_iter=1000).fit((train - middle) / scale, labels)
    agreed = classify("logistic", train, labels, test) == reference.predict((test - middle) / scale)
    assert agreed.mean() >= 0.95  # the two stop at other tolerances


def test_linear_probe_is_fitted_to_all_training_features_in_the_end():
    (train, labels), (test, _) = clusters(60, spread=1.0), clusters(300, seed=1, spread=1.0)
    predicted, about = linear_probe(train, labels, test, strengths=(1e-2,), held_out=0.5)
    train, test = unit(train), unit(test)
    mean, scale = train.mean(0), train.std(0)
    reference = LogisticRegression(C=about["C"], max_iter=1000).fit((train - mean) / scale, labels)
    assert (predicted == reference.predict((test - mean) / scale)).mean() >= 0.98


def test_a_query_is_left_out_in_every_chunk():
    features, labels = clusters(40)
    whole, parts = (
        retrieve(features, labels, features, labels, ks=(1, 5), same=True, chunk=chunk) for chunk in (256, 7)
    )
    assert whole.scores == parts.scores
    np.testing.assert_array_equal(whole.nearest, parts.nearest)


def test_nearest_class_mean_by_hand():
    train = np.array([[1, 0], [0.6, 0.8], [0, 1]], "float32")
    predicted = classify(
        "class mean", train, np.array([5, 5, 9]), np.array([[0.9, 0.436], [0.3, 0.954]], "float32")
    )
    assert predicted.tolist() == [5, 9]


def test_intervals():
    from scipy import stats

    values = [0.3, 0.35, 0.5, 0.41]
    mean, half = student_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((low, high))
    rng = np.random.default_rng(0)
    ours = (rng.random(2000) < 0.6).astype(float)
    difference, low, high = paired_bootstrap(ours, 1 - ours)
    error = 1.96 * (2 * ours - 1).std() / np.sqrt(2000)
    assert difference == pytest.approx(np.mean(2 * ours - 1))
    assert (low, high) == pytest.approx((difference - error, difference + error), abs=0.005)
    assert paired_bootstrap(ours, ours) == (0, 0, 0)


EYE, THREE = np.eye(3), np.array([0, 1, 1])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: neighbours.nearest(EYE, EYE, 4), "k=4: expected 1 … 3"),
        (lambda: neighbours.nearest(EYE, np.eye(2), 1), "one width expected"),
        (lambda: retrieve(EYE, THREE, EYE, THREE, ks=(3,), same=True), "expected numbers in 1 … 2"),
        (lambda: retrieve(EYE, THREE, np.eye(2), [0, 1]), "expected one width"),
        (lambda: retrieve(EYE, [1], EYE, THREE), "query_groups: 1 for 3 features"),
        (lambda: retrieve(EYE, [7, 8, 9], EYE, THREE, ks=(1,)), "no group of the queries is in the gallery"),
        (lambda: retrieve(EYE * np.nan, THREE, EYE, THREE), "3 rows hold NaN or infinity"),
        (lambda: cluster(EYE, 4), "clusters=4: expected 2 … 3"),
        (lambda: agreement([1, 1], [0, 1]), "one class only"),
        (lambda: agreement([1, 2], [0]), "2 labels and 1 clusters"),
        (lambda: linear_probe(EYE, [1, 1, 1], EYE), "one class only"),
        (lambda: linear_probe(EYE, THREE, np.eye(2)), "do not fit together"),
        (lambda: linear_probe(EYE, THREE, EYE, strengths=(0,)), "strengths=.* expected positive"),
        (lambda: linear_probe(EYE, THREE, EYE, held_out=1), "held_out=1: expected"),
        (lambda: linear_probe(EYE + np.inf, THREE, EYE), "train has shape .* NaN or infinity"),
        (lambda: low_shot(EYE, [1, 1, 1], EYE, THREE), "one class only"),
        (lambda: low_shot(EYE, THREE, EYE, THREE, draws=1), "draws=1: expected 2 or more"),
        (lambda: low_shot(EYE, THREE, EYE, [0]), "do not fit together"),
        (lambda: draw_rows(THREE, "0%", None), "shot='0%': expected"),
        (lambda: draw_rows(THREE, 2, None), "shot=2: expected 1 … 1, the images of class 0"),
        (lambda: classify("tree", EYE, THREE, EYE), "classifier='tree': expected logistic"),
        (lambda: student_interval([1.0]), "got 1 draws; expected 2"),
        (lambda: paired_bootstrap([1], [1, 2]), "as many of one as of the other"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
