"""The progress line says what share of the time went into waiting for data; on a clock that the test turns."""

import io
import re
import types

import keras
import pytest
from rich.console import Console
from small_models import pictures, small_crops, small_massl

from memssl_keras.data.loader import seconds_waited
from memssl_keras.training.callbacks.progress import EVERY, RunProgress
from memssl_keras.training.callbacks.run import MetricsTable


class Takes(keras.callbacks.Callback):
    """Takes its seconds before and after each step, and after each epoch."""

    def __init__(self, clock, before=0, after=0, epoch=0):
        super().__init__()
        self.clock, self.before, self.after, self.epoch = clock, before, after, epoch

    def on_train_batch_begin(self, batch, logs=None):
        self.clock.now += self.before

    def on_train_batch_end(self, batch, logs=None):
        self.clock.now += self.after

    def on_epoch_end(self, epoch, logs=None):
        self.clock.now += self.epoch


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=100.0)
    time = types.SimpleNamespace(perf_counter=lambda: clock.now)
    for module in ("data.loader", "training.callbacks.progress"):
        monkeypatch.setattr(f"memssl_keras.{module}.time", time)
    return clock


def test_the_share_of_data_is_shown_and_is_no_metric(clock, tmp_path):
    crops = small_crops()

    def views(image, rng):
        clock.now += 0.75  # 3 s a batch
        return crops(image, rng)

    said = []
    progress = RunProgress(Console(file=io.StringIO(), width=200), said.append)
    callbacks = [
        Takes(clock, before=1, epoch=40),
        progress,
        Takes(clock, after=4, epoch=50),
        MetricsTable(tmp_path / "metrics.csv"),
    ]
    before = seconds_waited()
    small_massl().fit(pictures(8), views=views, batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
    assert seconds_waited() - before == 4 * 3  # what callbacks take is not waiting for data
    # The last of the steps ends after 3 + 1 + 4 + 3 + 1 s, of which 6 s are data's.
    epochs = [text for text in said if re.match(r"epoch \d+: ", text)]
    assert [text.rpartition(", ")[2] for text in epochs] == ["data 50% of the time"] * 2
    assert "data" not in (tmp_path / "metrics.csv").read_text()


def test_a_log_file_gets_a_line_every_so_often_with_the_time_left(clock):
    said = []
    progress = RunProgress(Console(file=io.StringIO(), width=80), said.append)
    callbacks = [Takes(clock, before=30), progress]
    small_massl().fit(
        pictures(16), views=small_crops(), batch_size=4, epochs=2, callbacks=callbacks, verbose=0
    )
    assert said[0] == "about 3 min to the end, at the pace of the first steps"  # six steps of 30 s
    steps = [line for line in said if ", step " in line]
    assert [line.partition(":")[0] for line in steps] == [
        "epoch 1, step 2 of 8",
        "epoch 1, step 4 of 8",
        "epoch 2, step 6 of 8",
        "epoch 2, step 8 of 8",
    ]
    assert steps[0].endswith("0.03 steps/s, data 0% of the time, 3 min left") and "loss " in steps[0]
    assert EVERY == 60


def test_a_terminal_of_80_columns_shows_bar_and_time_left():
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    progress = RunProgress(console, console.print)
    small_massl().fit(
        pictures(8), views=small_crops(), batch_size=4, epochs=2, callbacks=[progress], verbose=0
    )
    shown = console.file.getvalue()
    assert "4/4" in shown and "left" in shown and "━" in shown and "…" not in shown
