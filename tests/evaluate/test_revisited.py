"""The revisited protocol on cases worked by hand, and beside the benchmark's own arithmetic."""

import json
import pickle

import numpy as np
import pytest
from scipy.integrate import trapezoid

from memssl_keras.evaluate.protocols.revisited import (
    read_ground_truth,
    revisited,
    trapezoidal_average_precision,
)


def ranked(order):
    """A query and a gallery whose ranking is `order`."""
    angles = np.empty(len(order))
    angles[list(order)] = np.linspace(0, 1.2, len(order))
    return np.array([[1.0, 0.0]]), np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_case_by_hand():
    # Ranking:      junk 5, easy 0, wrong 3, hard 1, wrong 4, easy 2
    query, gallery = ranked([5, 0, 3, 1, 4, 2])
    scores = revisited(query, gallery, [{"easy": [0, 2], "hard": [1], "junk": [5]}], ks=(1, 5))
    # Easy: 5 and 1 are passed over, positives at 0 and 3: (1 + 1)/2 and (1/3 + 2/4)/2, over 2.
    assert scores["easy"]["mAP"] == pytest.approx((1 + (1 / 3 + 2 / 4) / 2) / 2)
    # Precision at 5 stops at the last positive, place 4: 2 of 4.
    assert scores["easy"]["mP@1"] == 1 and scores["easy"]["mP@5"] == 0.5
    # Medium: only 5 is, positives at 0, 2, 4.
    medium = (1 + (1 / 2 + 2 / 3) / 2 + (2 / 4 + 3 / 5) / 2) / 3
    assert scores["medium"]["mAP"] == pytest.approx(medium) and scores["medium"]["mP@5"] == pytest.approx(
        3 / 5
    )
    # Hard: 5, 0 and 2 are, the positive stands at 1 behind a wrong one.
    assert scores["hard"]["mAP"] == pytest.approx((0 + 1 / 2) / 2) and scores["hard"]["mP@1"] == 0
    assert scores["hard"]["queries"] == 1 and scores["hard"]["skipped"] == 0


def test_junk_changes_nothing_wherever_it_stands():
    truth = [{"easy": [0], "hard": [1], "junk": [4, 5]}]
    scores = [
        revisited(*ranked(o), truth) for o in ([4, 5, 0, 2, 1, 3], [0, 2, 5, 1, 3, 4], [0, 4, 2, 5, 1, 3])
    ]
    assert scores[0] == scores[1] == scores[2]


def test_queries_without_a_positive_are_skipped_and_counted():
    query, gallery = ranked([0, 1, 2])
    truth = [{"easy": [0], "hard": [], "junk": []}, {"easy": [], "hard": [], "junk": [1]}]
    scores = revisited(np.repeat(query, 2, axis=0), gallery, truth)
    assert [(scores[d]["queries"], scores[d]["skipped"]) for d in scores] == [(1, 1), (1, 1), (0, 2)]
    assert scores["easy"]["mAP"] == 1 and scores["hard"]["mAP"] is None and scores["hard"]["mP@1"] is None


def test_average_precision_is_the_trapezium_rule_over_the_whole_ranking():
    rng = np.random.default_rng(0)
    for _ in range(20):
        flags = rng.random(30) < 0.3
        flags[rng.integers(30)] = True
        precision = np.concatenate([[1], np.cumsum(flags) / np.arange(1, 31)])
        recall = np.concatenate([[0], np.cumsum(flags) / flags.sum()])
        expected = trapezoid(precision, recall)
        ours = trapezoidal_average_precision(np.flatnonzero(flags), flags.sum())
        assert ours == pytest.approx(expected)


def ground_truth(**changes):
    truth = {"easy": [0], "hard": [], "junk": [1], "bbx": [1.0, 2.0, 30.0, 40.0]}
    return {"imlist": ["a", "b"], "qimlist": ["a"], "gnd": [truth]} | changes


def test_ground_truth_is_read_from_json(tmp_path):
    (tmp_path / "gnd.json").write_text(json.dumps(ground_truth()))
    read = read_ground_truth(tmp_path / "gnd.json")
    assert read.images == ["a", "b"] and read.queries == ["a"] and read.relevant[0]["bbx"] == [1, 2, 30, 40]
    assert revisited([[1, 0]], [[1, 0.1], [1, 0]], read.relevant)["easy"]["mAP"] == 1


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


@pytest.mark.parametrize("name", ["gnd_roxford5k.pkl", "renamed.json"])
def test_pickles_are_refused(name, tmp_path):
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="pickles are not read|not text"):
        read_ground_truth(tmp_path / name)


@pytest.mark.parametrize(
    "content, words",
    [
        ("{", "not JSON"),
        ("[]", "expected an object with imlist, qimlist and gnd"),
        (json.dumps(ground_truth(qimlist=[])), "0 queries in qimlist and 1 in gnd"),
        (json.dumps(ground_truth(gnd=[{"ok": [0]}])), "query 'a' has no list 'easy'; it has ok"),
        (json.dumps(ground_truth(imlist=["a"])), "junk of query 'a' names rows outside 0 … 0"),
    ],
)
def test_bad_ground_truth_is_named(content, words, tmp_path):
    (tmp_path / "gnd.json").write_text(content)
    with pytest.raises(ValueError, match=words):
        read_ground_truth(tmp_path / "gnd.json")


def test_bad_arguments_are_named():
    truth = [{"easy": [0], "hard": [], "junk": []}]
    with pytest.raises(ValueError, match="do not fit together"):
        revisited(np.eye(2), np.eye(2), truth)
    with pytest.raises(ValueError, match=r"ks=\(0,\): expected numbers of 1 or more"):
        revisited(np.eye(2)[:1], np.eye(2), truth, ks=(0,))
    with pytest.raises(ValueError, match="queries has shape .* NaN"):
        revisited([[np.nan, 1]], np.eye(2), truth)
    with pytest.raises(ValueError, match="positives=0"):
        trapezoidal_average_precision([], 0)
