"""Curves for TensorBoard, read back by TensorBoard's own reader; also after an interruption."""

import builtins

import keras
import pytest
from tiny_run import RECIPE, pictures

from memssl_keras.training.callbacks.tensorboard import TensorBoard
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.report import read_metrics

pytestmark = pytest.mark.slow

event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def curves(folder):
    """{name: [(step, value)]}, as TensorBoard shows them."""
    events = event_accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def run(folder, *callbacks, **options):
    observers = [TensorBoard(folder / "tensorboard", every=2), *callbacks]
    pretrain(RECIPE, pictures(24), folder, callbacks=observers, say=lambda line: None, **options)


class Crash(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        if self.model.step == 7:
            raise KeyboardInterrupt


def test_every_point_is_there_once_after_an_interruption_too(tmp_path):
    run(tmp_path / "alone")
    expected = curves(tmp_path / "alone" / "tensorboard")
    assert [step for step, _ in expected["step/loss"]] == [2, 4, 6, 8, 10, 12]
    assert [step for step, _ in expected["epoch/loss"]] == [4, 8, 12]
    table = read_metrics(tmp_path / "alone" / "metrics.csv")
    assert {f"epoch/{name}" for name in table if name != "epoch"} <= expected.keys()
    assert [value for _, value in expected["epoch/loss"]] == pytest.approx(table["loss"].tolist())

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Crash(), checkpoint_every=5)  # steps 6 and 7 are done twice
    run(tmp_path / "broken")
    assert curves(tmp_path / "broken" / "tensorboard") == expected


def test_a_run_from_the_start_replaces_the_curves_of_another(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Crash(), checkpoint_every=100)
    for path in (tmp_path / "checkpoints").glob("step-*"):
        path.rename(tmp_path / path.name)
    run(tmp_path)
    assert [step for step, _ in curves(tmp_path / "tensorboard")["epoch/loss"]] == [4, 8, 12]


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    import sys

    load = builtins.__import__

    def without(name, *rest):
        if name.split(".")[0] == "tensorboard":
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return load(name, *rest)

    for name in [name for name in sys.modules if name.startswith(("torch.utils.tensorboard", "tensorboard"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ValueError, match=r"No module named 'tensorboard'.*pip install memssl-keras\[tensorboard\]"
    ):
        TensorBoard(tmp_path)
    with pytest.raises(ValueError, match="every=0: expected 1 step or more"):
        TensorBoard(tmp_path, every=0)
