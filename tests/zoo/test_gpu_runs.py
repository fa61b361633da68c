"""The runs that want a GPU, on the processor with tiny settings: from drawings to the folder of a model."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from demo_page import png

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
import gpu_train
from gpu_step import DeviceStep
from gpu_train import fit, schedules_of

from memssl_keras import from_pretrained, get_recipe

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "zoo" / "experiments"
pytestmark = pytest.mark.slow
TINY = ("epochs=1", "batch_size=8", "memory_size=32", "block_size=16", "warmup_epochs=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `gpu.sh` leaves of one run, twice called."""
    place = tmp_path_factory.mktemp("gpu")
    (place / "icons").mkdir()
    (place / "cifar10").mkdir()
    rows = [
        {
            "image": {"bytes": png((20 * i, 90, 255 - 20 * i)), "path": None},
            "group": "ab"[i % 2] if i < 8 else "",
            "set": "noto" if i < 2 else "tabler",
        }
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "icons" / "train.parquet")
    python = str(pathlib.Path(sys.executable).parent)
    environment = {"RUNS": "icons icons_emoji", "PROCESSES": "1", "PATH": f"{python}:{os.environ['PATH']}"}
    command = ["sh", str(EXPERIMENTS / "gpu.sh"), str(place), str(place / "out"), *TINY]
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return place, outputs


def test_a_run_leaves_its_encoder_its_settings_and_its_epochs(runs):
    place, (first, second) = runs
    folder = place / "out" / "icons"
    assert "12 pictures, 1 epochs of 1 steps" in first and second == ""  # the second call finds it done
    run = json.loads((folder / "run.json").read_text())
    assert (run["name"], run["images"], run["pairs"], run["epochs"]) == ("resnet14_icons", 12, 0.6, 1)
    heads = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"epoch", "loss", "seconds", "spread", "teacher_entropy"} <= set(heads)


def test_a_run_goes_on_from_another_with_more_emoji(runs):
    place, (first, _) = runs
    assert "icons_emoji: 12 pictures, 1 epochs of 3 steps" in first  # 10 drawings, and 2 emoji eight times
    run = json.loads((place / "out" / "icons_emoji" / "run.json").read_text())
    assert (run["images"], run["emoji"], run["views"]["global_size"]) == (26, 8, 64)
    assert run["init"] == str(place / "out" / "icons")


def test_an_encoder_is_float32_whatever_it_was_trained_in(runs):
    folder = runs[0] / "out" / "icons"
    assert json.loads((folder / "run.json").read_text())["precision"] == "mixed_bfloat16"
    encoder = from_pretrained(folder)
    assert {layer.compute_dtype for layer in (encoder, *encoder.layers)} == {"float32"}


def test_a_run_becomes_a_model_of_fewer_features(runs):
    place = runs[0]
    command = [sys.executable, str(EXPERIMENTS / "gpu_ship.py"), str(place / "out" / "icons")]
    command += [str(place / "icons" / "train.parquet"), str(place / "model"), "--rank", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert from_pretrained(place / "model").embed_dim == 4


SMALL = {"encoder": {"blocks": (1, 1), "width": 8, "stem": "cifar"}, "batch_size": 16, "hidden_dim": 32}
SMALL |= {"memory_size": 64, "block_size": 64, "precision": "float32", "epochs": 2, "encoder_rate": 0.3}


def small_recipe(**changes):
    return dataclasses.replace(get_recipe("resnet14_cifar10"), **SMALL, **changes)


def small_model(recipe):
    keras.utils.set_random_seed(0)
    model = recipe.build()
    model._let_teacher_learn(False)
    return model


def test_a_step_on_a_device_is_the_models_own():
    # Behind batch norm a bias has no gradient but rounding, which Adam would make steps of.
    recipe = small_recipe(warmup_epochs=1, thaw_epochs=1, batch_norm=False)
    steps, ours = 3, small_model(recipe)
    start, other = [v.numpy() for v in ours.student.trainable_variables], small_model(recipe)
    generator = torch.Generator().manual_seed(0)
    batches = torch.randint(0, 256, (2 * steps, 2, 16, 24, 24, 3), dtype=torch.uint8, generator=generator)
    values = schedules_of(recipe, steps)
    step = DeviceStep(other, lambda i: list(batches[i]), 2 * steps)
    step.begin_epoch(values)
    for i, (rate, decay, momentum, share) in enumerate(values.tolist()):
        ours.optimizer.learning_rate, ours.optimizer.weight_decay = rate, decay
        ours.teacher_momentum, ours.encoder_rate = momentum, share
        expected = ours.train_step((list(batches[i]),))
        step(i)
        for name, value in step.figures().items():
            assert value == pytest.approx(float(expected[name].detach()), abs=1e-3), name
        ours.reset_metrics()
    moved = [
        np.abs(v.numpy() - at).max() for v, at in zip(ours.student.trainable_variables, start, strict=True)
    ]
    assert min(moved) > 1e-5
    for a, b in zip(ours.weights, other.weights, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=3e-5, err_msg=a.path)


def test_a_run_takes_the_epochs_that_fit_in_its_time(monkeypatch):
    recipe = dataclasses.replace(small_recipe(warmup_epochs=0), epochs=20)
    clock, seen, rates = iter(range(1000)), [], []
    monkeypatch.setattr(gpu_train.time, "time", lambda: next(clock))  # a second passes with each look at it

    class Recorded:
        device = torch.device("cpu")
        figures = dict

        def begin_epoch(self, values):
            rates.append(values[:, 0])

        def __call__(self, index):
            pass

    assert fit(Recorded(), recipe, torch.arange(40), 0, lambda *told: seen.append(told[:2]), seconds=50) == 50
    assert seen == [(epoch, epoch == 50) for epoch in range(1, 51)]
    rates = np.concatenate(rates[2:])  # until then an epoch counts as one of the recipe's
    assert (np.diff(rates) <= 0).all() and rates[0] > 0.98 * recipe.peak_learning_rate
    assert rates[-1] < recipe.peak_learning_rate / 50


def test_what_one_graph_cannot_hold_is_refused(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "gpu_train.py"), "vitt4_cifar10", "nothing", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "vitt4_cifar10: drop_path=0.1: expected 0" in done.stderr
