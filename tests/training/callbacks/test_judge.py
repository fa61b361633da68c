"""Runs that are judged: what is measured when, what is written, and what is said."""

import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from commands import run
from PIL import Image
from small_models import pictures, same_weights, small_crops, small_recipe, varied

from memssl_keras import from_pretrained
from memssl_keras.data.held_out import hold_out
from memssl_keras.evaluate.measures import ViewRetrieval
from memssl_keras.training import recipes
from memssl_keras.training.callbacks.judge import Judge
from memssl_keras.training.judging import judge_of, keep_apart
from memssl_keras.training.pretrain import pretrain

TINY = small_recipe("tiny_test")


class Toy:
    """An encoder whose features are true for a share of the pictures and noise for the others."""

    def __init__(self, share):
        self.share, self.rng = share, np.random.default_rng(0)

    def embed(self, views):
        features = self.rng.normal(size=(len(views), 64))
        known = int(self.share * len(views))
        features[:known] = 9 * np.eye(64)[:known]
        return features


class Training:
    """The model of a run, as the callback sees it: each epoch another encoder."""

    def __init__(self, shares, start=None, every=1):
        self.said, self.step = [], 0
        measure = ViewRetrieval(pictures(40), small_crops())
        settings = {
            "folder": None,
            "start": start,
            "start_name": "glyphs",
            "every": every,
            "say": self.said.append,
        }
        self.judge = Judge(measure, Toy(0.1), **settings)
        self.judge.set_model(self)
        self.judge.set_params({"epochs": len(shares)})
        self.logs = []
        self.judge.on_train_begin()
        for epoch, share in enumerate(shares):
            self.encoder, logs = Toy(share), {}
            self.judge.on_epoch_end(epoch, logs)
            self.logs.append(logs["view_retrieval"])
        self.judge.on_train_end()


def test_a_run_that_learns_is_told_from_one_that_does_not():
    assert Training([0.3, 0.6, 1.0]).judge.verdict.outcome == "learnt"
    training = Training([0.1, 0.1, 0.1])
    assert training.judge.verdict.outcome == "nothing"
    assert any(line.startswith("verdict: NOTHING LEARNT") for line in training.said)
    assert any(line.startswith("at the start, retrieval of 40 pictures") for line in training.said)


def test_a_run_is_compared_with_its_start():
    assert Training([0.9], start=Toy(0.5)).judge.verdict.outcome == "learnt"
    worse = Training([0.5], start=Toy(1.0))
    assert worse.judge.verdict.outcome == "worse than the start"
    assert any("WORSE than what it started from, glyphs" in line for line in worse.said)


def test_it_measures_now_and_then_and_at_the_end():
    logs = Training([0.2, 0.4, 0.6, 0.8, 1.0], every=2).logs
    assert np.isfinite(logs).tolist() == [False, True, False, True, True]
    assert logs[1] < logs[3] < logs[4]
    with pytest.raises(ValueError, match="every=0: expected 1 epoch or more"):
        Judge(ViewRetrieval(pictures(4), small_crops()), Toy(0), every=0)


def test_the_best_epoch_is_said_where_it_is_not_the_last():
    said = " ".join(Training([0.2, 1.0, 0.5]).said)
    assert "best epoch 2: 100.0%" in said
    assert "best epoch" not in " ".join(Training([0.2, 0.5, 1.0]).said)


def no_learning(monkeypatch, **changes):
    """The tiny recipe under a name, with a learning rate that changes nothing."""
    recipe = dataclasses.replace(TINY, learning_rate=1e-12, final_learning_rate=0.0, **changes)
    monkeypatch.setitem(recipes.RECIPES, "tiny_test", recipe)
    return recipe


def write_pictures(folder, count, seed=0):
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures(count, seed=seed)):
        Image.fromarray(picture).save(folder / f"{number:02d}.png")


@pytest.mark.slow
def test_a_run_that_learnt_nothing_says_so_everywhere(tmp_path, monkeypatch):
    no_learning(monkeypatch)
    write_pictures(tmp_path / "photos", 24)
    said = run(
        "pretrain", tmp_path / "photos", "--recipe", "tiny_test", "--workers", 0, "--out", tmp_path / "run"
    )
    assert "verdict: NOTHING LEARNT" in said and "24 pictures that it was trained on" in said
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    assert verdict["outcome"] == "nothing" and {one["kind"] for one in verdict["references"]} == {
        "untrained",
        "pixels",
    }
    assert "**Verdict: NOTHING LEARNT" in (tmp_path / "run" / "report.md").read_text()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["view_retrieval"]) == verdict["score"]
    assert from_pretrained(tmp_path / "run" / "best").embed_dim == 24


@pytest.mark.slow
def test_a_run_that_starts_from_a_model_is_compared_with_it(tmp_path, monkeypatch):
    no_learning(monkeypatch)
    write_pictures(tmp_path / "photos", 24)
    varied(TINY.build_encoder()).save_pretrained(tmp_path / "model")
    command = [
        "pretrain",
        tmp_path / "photos",
        "--recipe",
        "tiny_test",
        "--workers",
        0,
        "--init",
        tmp_path / "model",
    ]
    said = run(*command, "--out", tmp_path / "run")
    assert f"{tmp_path / 'model'}: " in said and "verdict: the encoder has learnt" not in said
    verdict = json.loads((tmp_path / "run" / "verdict.json").read_text())
    start = next(one for one in verdict["references"] if one["kind"] == "start")
    assert start["score"] == pytest.approx(verdict["score"], abs=0.01) and start["name"] == str(
        tmp_path / "model"
    )


@pytest.mark.slow
def test_pictures_are_held_out_on_request_and_by_labels_none(tmp_path, monkeypatch):
    no_learning(monkeypatch, epochs=1)
    write_pictures(tmp_path / "photos", 24)
    command = ["pretrain", tmp_path / "photos", "--recipe", "tiny_test", "--workers", 0]
    said = run(*command, "--held-out", 8, "--out", tmp_path / "run")
    assert "tiny_test: 16 images" in said and "8 held-out pictures" in said
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (settings["images"], settings["held_out"]) == (16, 8)
    for part in ("train", "test"):
        for seed, kind in enumerate(("mug", "pen")):
            write_pictures(tmp_path / "labelled" / part / kind, 4, seed=seed)
    options = ["--labelled", tmp_path / "labelled", "--knn-k", 1]
    said = run(*command, *options, "--out", tmp_path / "judged")
    assert "tiny_test: 24 images" in said and "k-NN accuracy (k = 1) on 8 labelled pictures" in said
    with (tmp_path / "judged" / "metrics.csv").open() as file:
        assert np.isfinite(float(next(csv.DictReader(file))["knn"]))


class Interrupted(Exception):
    """What ends a run halfway."""


class StopAt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.step == 8:
            raise Interrupted


@pytest.mark.slow
def test_a_resumed_run_has_the_verdict_of_one_without_interruption(tmp_path):
    def train(name, *callbacks):
        judge = judge_of(TINY, pictures(12), folder=tmp_path / name, say=lambda line: None)
        return pretrain(
            TINY, pictures(12), tmp_path / name, callbacks=[judge, *callbacks], say=lambda line: None
        )

    train("straight")
    with pytest.raises(Interrupted):
        train("broken", StopAt())
    assert not (tmp_path / "broken" / "verdict.json").exists()
    train("broken")
    verdicts = [json.loads((tmp_path / name / "verdict.json").read_text()) for name in ("straight", "broken")]
    assert verdicts[0] == verdicts[1]
    best = [from_pretrained(tmp_path / name / "best") for name in ("straight", "broken")]
    assert same_weights(*best)
    train("broken")  # all done before: judged again, and the best stays
    assert json.loads((tmp_path / "broken" / "verdict.json").read_text()) == verdicts[0]


@pytest.mark.slow
def test_memory_is_shipped_of_a_run_with_held_out_pictures(tmp_path):
    from memssl_keras.zoo.run_memory import memory_of_run

    images = pictures(24)
    kept, _ = keep_apart(images, 8, labelled=False)
    pretrain(dataclasses.replace(TINY, epochs=1), kept, tmp_path)
    found = memory_of_run(tmp_path, images)
    assert len(found.images) == 16
    expected = hold_out(images, 8)[0]
    np.testing.assert_array_equal(found.images[3], expected[3])


def test_a_stream_without_labels_has_no_verdict_and_says_so():
    import datasets

    from memssl_keras.data.huggingface import Stream

    features = datasets.Features({"image": datasets.Image()})
    data = datasets.Dataset.from_dict({"image": list(pictures(4))}, features).to_iterable_dataset()
    stream, said = Stream(data, images_per_epoch=4), []
    assert keep_apart(stream, None, labelled=False) == (stream, None)
    assert judge_of(TINY, stream, say=said.append) is None
    assert said == [
        "no verdict at the end: no pictures can be held out from a stream; expected --labelled to score it"
    ]
    with pytest.raises(ValueError, match="held_out=3: expected 0 with streaming"):
        keep_apart(stream, 3, labelled=False)


def test_the_untrained_encoder_is_the_one_that_the_run_begins_with():
    judge = judge_of(TINY, pictures(8), seed=5, say=lambda line: None)
    embed = next(embed for kind, _, embed in judge.rivals if kind == "untrained")
    keras.utils.set_random_seed(5)
    np.testing.assert_array_equal(embed(pictures(2)), TINY.build_encoder().embed(pictures(2)))


def test_a_table_of_metrics_gets_the_columns_of_a_run_that_is_resumed_otherwise(tmp_path):
    from memssl_keras.training.callbacks.run import MetricsTable
    from memssl_keras.training.report import read_metrics

    table = MetricsTable(tmp_path / "metrics.csv")
    table.on_epoch_end(0, {"loss": 2.0, "view_retrieval": 0.9})
    table.on_epoch_end(1, {"knn": 0.55, "loss": 1.0})
    found = read_metrics(tmp_path / "metrics.csv")
    assert found["loss"].tolist() == [2.0, 1.0] and found["epoch"].tolist() == [0, 1]
    assert found["view_retrieval"][0] == 0.9 and found["knn"][1] == 0.55
    assert np.isnan([found["view_retrieval"][1], found["knn"][0]]).all()
