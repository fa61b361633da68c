"""The progress line says what share of the time went into waiting for data; on a clock that the test turns."""

import io
import types

import keras
import pytest
from rich.console import Console
from small_models import pictures, small_crops, small_massl

from memssl_keras.data.loader import seconds_waited
from memssl_keras.training.callbacks.run import MetricsTable, RichProgress


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
    for module in ("data", "callbacks"):
        monkeypatch.setattr(f"memssl_keras.{module}.time", time)
    return clock


def test_the_share_of_data_is_shown_and_is_no_metric(clock, tmp_path):
    crops = small_crops()

    def views(image, rng):
        clock.now += 0.75  # 3 s a batch
        return crops(image, rng)

    console = Console(file=io.StringIO(), width=200)
    progress, lines = RichProgress(console), []
    line = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: lines.append(progress.progress.tasks[0].fields["figures"])
    )
    callbacks = [
        Takes(clock, before=1, epoch=40),
        progress,
        Takes(clock, after=4, epoch=50),
        line,
        MetricsTable(tmp_path / "metrics.csv"),
    ]
    before = seconds_waited()
    small_massl().fit(pictures(8), views=views, batch_size=4, epochs=2, callbacks=callbacks, verbose=0)
    assert seconds_waited() - before == 4 * 3  # what callbacks take is not waiting for data
    # The last of the steps ends after 3 + 1 + 4 + 3 + 1 s, of which 6 s are data's.
    said = [text for text in console.file.getvalue().splitlines() if text.startswith("epoch ")]
    assert [text.split("  ")[-1].strip() for text in said if ": " in text] == ["data 50% of the time"] * 2
    assert all(text.endswith("data 75% of the time") for text in lines) and len(lines) == 4
    assert "data" not in (tmp_path / "metrics.csv").read_text()
