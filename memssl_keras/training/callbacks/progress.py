"""Progress of a run: a bar at a terminal, a plain line every so often in a log file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from memssl_keras.data.loader import seconds_waited

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

FIRST, EVERY = 10.0, 60.0  # seconds after which the first plain line comes, and then between two
_FIGURES = ("loss", "teacher_entropy", "spread")


class RunProgress(keras.callbacks.Callback):
    """How far a run is, how long it still takes, and the figures that show whether it learns.

    At a terminal that is one bar over the whole run. In a pipe or a log file it is a line after ten seconds and then
    one a minute. Each epoch ends with a line of its own, with the share of its time that training waited for data. That
    share is no metric, because it differs from run to run.

    Args:
        console: A `rich.console.Console`; where it is no terminal, lines are printed.
        say: Called with each line.
    """

    def __init__(self, console: Console, say: Callable[[str], object] = print):
        super().__init__()
        self.console, self.say = console, say
        self.progress: Progress | None = None
        self.began: tuple[float, int] | None = None

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return self.params["epochs"] * self.params["steps"]

    def _data_share(self):
        """In words, from the beginning of the epoch to its last step."""
        seconds, waited = (end - start for end, start in zip(self.now, self.epoch_began, strict=True))
        return f"data {waited / max(seconds, 1e-9):.0%} of the time"

    def on_train_begin(self, logs: Any = None) -> None:
        self.began, self.announced = None, False
        self.next = time.perf_counter() + FIRST
        if not self.console.is_terminal:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [BarColumn(bar_width=16), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn()]
        columns.append(TextColumn("{task.fields[figures]}", markup=False))
        self.progress = bar = Progress(*columns, console=self.console)
        self.task = bar.add_task("", total=self.total, completed=self.model.step, figures="")
        bar.start()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        self.now = self.epoch_began = time.perf_counter(), seconds_waited()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        step, now = self.model.step, time.perf_counter()
        self.now = now, seconds_waited()
        if self.began is None:  # the first step is slower than all others
            self.began = now, step
        if self.progress:
            self.progress.update(self.task, completed=step, figures=f"loss {float(logs['loss']):.3f}")
        if now < self.next or step == self.began[1]:
            return
        self.next = now + EVERY
        pace = (now - self.began[0]) / (step - self.began[1])
        left = _words((self.total - step) * pace)
        if not self.announced:
            self.announced = True
            self.say(f"about {left} to the end, at the pace of the first steps")
        if not self.progress:
            figures = ", ".join(f"{name.replace('_', ' ')} {float(logs[name]):.3f}" for name in _FIGURES)
            where = f"epoch {self.epoch + 1}, step {step:,} of {self.total:,}"
            self.say(f"{where}: {figures}, {1 / pace:.2f} steps/s, {self._data_share()}, {left} left")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        # What is not measured after every epoch is NaN after the others.
        known = {name: float(value) for name, value in logs.items() if not math.isnan(float(value))}
        figures = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in known.items())
        self.say(f"epoch {epoch + 1}: {figures}, {self._data_share()}")

    def stop(self) -> None:
        """End the display; also where training ended by an error."""
        if self.progress:
            self.progress.stop()

    def on_train_end(self, logs: Any = None) -> None:
        self.stop()


def _words(seconds):
    """Hours and minutes, or minutes, or seconds."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{round(seconds)} s"
