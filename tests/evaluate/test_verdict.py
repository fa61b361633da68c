"""What shows that an encoder has learnt, and the words for it."""

import numpy as np
import pytest
from small_models import pictures, small_crops

from memssl_keras.evaluate.measures import LabelledKNN, ViewRetrieval
from memssl_keras.evaluate.verdict import Reference, judge

HALF = np.arange(200) % 2 == 0
MOST = np.arange(200) % 10 != 0
NONE = np.zeros(200, bool)


@pytest.mark.parametrize(
    "hits, untrained, pixels, start, outcome",
    [
        (MOST, NONE, HALF, None, "learnt"),
        (MOST, NONE, HALF, HALF, "learnt"),
        (HALF, NONE, MOST, None, "less than pixels"),
        (HALF, HALF, NONE, None, "nothing"),
        (NONE, HALF, NONE, None, "nothing"),
        (HALF, NONE, NONE, HALF, "no better than the start"),
        (HALF, NONE, NONE, MOST, "worse than the start"),
        (NONE, HALF, HALF, MOST, "worse than the start"),
        (MOST, NONE, MOST, HALF, "less than pixels"),
    ],
)
def test_the_outcome_follows_from_all_that_has_to_be_beaten(hits, untrained, pixels, start, outcome):
    rivals = [
        Reference("untrained", "the untrained encoder", untrained),
        Reference("pixels", "pixels", pixels),
    ]
    rivals += [] if start is None else [Reference("start", "glyphs", start)]
    verdict = judge(hits, rivals, "recall@1")
    assert verdict.outcome == outcome
    assert (verdict.lines()[0].startswith("verdict: the encoder has learnt")) is (outcome == "learnt")
    assert len(verdict.lines()) == 2 + len(rivals)


def test_a_lead_of_chance_is_none():
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(200) < 0.52, rng.random(200) < 0.5
    verdict = judge(ours, [Reference("untrained", "the untrained encoder", theirs)], "recall@1")
    assert verdict.outcome == "nothing" and "NOTHING LEARNT" in verdict.lines()[0]


def test_figures_are_those_of_the_pictures():
    verdict = judge(MOST, [Reference("untrained", "the untrained encoder", HALF)], "recall@1").to_dict()
    (one,) = verdict["references"]
    assert (verdict["score"], one["score"], one["difference"]) == (0.9, 0.5, pytest.approx(0.4))
    assert one["interval"][0] < 0.4 < one["interval"][1] and verdict["pictures"] == 200


def colours(images):
    """Mean colours of a 3 × 3 grid: features that views of one picture share."""
    cells = [
        [p for row in np.array_split(image, 3) for p in np.array_split(row, 3, axis=1)] for image in images
    ]
    return np.array([[cell.mean((0, 1)) - 128 for cell in row] for row in cells]).reshape(len(cells), -1)


def plain_views():
    return small_crops(
        jitter=0.0, grey=0.0, blur=(0.0, 0.0, 0.0), solarize=0.0, flip=0.0, global_scale=(0.8, 1.0)
    )


def test_views_of_a_picture_find_each_other():
    measure = ViewRetrieval(pictures(50), plain_views(), "held-out pictures")
    assert measure.hits(colours).mean() > 0.9
    noise = np.random.default_rng(0)
    assert measure.hits(lambda images: noise.normal(size=(len(images), 8))).mean() < 0.2
    assert measure.words == "retrieval of 50 held-out pictures by another view of themselves (recall@1)"


def test_features_that_are_all_alike_find_nothing():
    measure = ViewRetrieval(pictures(10), plain_views())
    assert not measure.hits(lambda images: np.ones((len(images), 4))).any()


def test_views_are_the_same_every_time_and_others_than_those_of_training():
    first, again = (ViewRetrieval(pictures(5), small_crops(), seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.gallery, again.gallery)
    assert not np.array_equal(first.gallery, ViewRetrieval(pictures(5), small_crops(), seed=4).gallery)


def test_unreadable_pictures_are_left_out_and_counted():
    measure = ViewRetrieval([*pictures(3), b"no picture"], small_crops())
    assert measure.skipped == 1 and len(measure.queries) == 3
    with pytest.raises(ValueError, match="images: 1 of 2 can be read; expected 2 or more"):
        ViewRetrieval([*pictures(1), b"no picture"], small_crops())


def test_labelled_pictures_are_hits_where_their_class_is_found():
    from types import SimpleNamespace

    of = SimpleNamespace(
        train=[0.0, 0.1, 5.0, 5.1],
        train_labels=np.array([0, 0, 1, 1]),
        test=[0.2, 4.9],
        test_labels=np.array([0, 0]),
    )
    measure = LabelledKNN(of, k=1)
    features = lambda items: np.array([[1, item] for item in items])  # noqa: E731
    assert list(measure.hits(features)) == [True, False]
    with pytest.raises(ValueError, match="k=5: expected 1 … 4"):
        LabelledKNN(of, k=5)
