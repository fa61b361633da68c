"""Callbacks of a run that is left alone: checkpoints and the table of epochs."""

from __future__ import annotations

import contextlib
import csv
import json
import pathlib
import shutil
import signal
import threading
from typing import Any

import keras
import torch

from memssl_keras.annotations import PathLike
from memssl_keras.files import replace_file
from memssl_keras.training import distributed
from memssl_keras.training.checkpoints import Checkpoints
from memssl_keras.weights.folder import write_encoder


class Terminated(SystemExit):
    """The process was asked to end and has saved; its exit code is 143 for SIGTERM and 130 for Ctrl-C, as in shells."""

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(128 + number)
        self.message = message

    def __str__(self):
        return self.message


class Checkpoint(keras.callbacks.Callback):
    """Every so many steps and after every epoch, writes the whole training state; after epochs also the encoder.

    `checkpoints/step-…/` holds student, teacher, memory and optimiser (`model.keras`), the place in the data
    and the metrics of the epoch (`state.json`), and those of the epochs before (`metrics.csv`); see
    `memssl_keras.training.checkpoints`.
    `config.json` and `model.safetensors` are the teacher's encoder, as `from_pretrained` reads it.

    Of several processes the main one writes. Within `with checkpoint.watching():` SIGTERM and Ctrl-C let the step end,
    save, and raise `Terminated`; in all processes, whichever of them it reached. A second Ctrl-C ends
    at once.

    Args:
        folder: Folder of the run.
        every: Steps between two checkpoints.
        keep: Checkpoints that stay.
    """

    def __init__(self, folder: PathLike, every: int = 500, keep: int = 3):
        super().__init__()
        if every < 1:
            raise ValueError(f"checkpoint_every={every}: expected 1 step or more")
        self.folder, self.every = pathlib.Path(folder), every
        self.store = Checkpoints(self.folder / "checkpoints", keep)
        self.epoch = self.batch = 0
        self.saved = None
        self.asked_to_end = 0  # the signal's number

    @property
    def metrics(self) -> pathlib.Path:
        """The table of epochs, which is saved and goes back with the state."""
        return self.folder / "metrics.csv"

    def load(self, path: pathlib.Path, model: keras.Model) -> dict[str, Any]:
        """Put the state in the checkpoint folder `path` into a model of the same make; returns its `state.json`.

        Raises:
            ValueError: where the model has other weights than the one saved.
        """
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        model.load_weights(path / "model.keras")
        for metric in model.metrics:
            for variable, value in zip(metric.variables, state["metrics"].get(metric.name, ()), strict=False):
                variable.assign(value)
        self.metrics.unlink(missing_ok=True)
        if (path / self.metrics.name).exists():
            shutil.copyfile(path / self.metrics.name, self.metrics)
        return state

    def start_at(self, epoch: int, batch: int) -> None:
        """Where the first epoch starts."""
        self.epoch, self.batch = epoch, batch

    def watching(self) -> contextlib.AbstractContextManager:
        """Context in which SIGTERM and Ctrl-C end the training after a step, saved."""
        return _Watch(self)

    def _save(self):
        self.saved = self.model.step
        if not distributed.is_main():
            return
        steps = self.params["steps"]
        state = {"step": self.model.step, "epoch": self.epoch, "batch": self.batch, "steps_per_epoch": steps}
        # Keras leaves metrics out; as decimal numbers they lose nothing.
        state["metrics"] = {m.name: [float(v.numpy()) for v in m.variables] for m in self.model.metrics}
        state |= environment()

        def write(folder):
            self.model.save(folder / "model.keras")
            (folder / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            if self.metrics.exists():
                shutil.copyfile(self.metrics, folder / self.metrics.name)

        self.store.save(self.model.step, write)

    def _end(self):
        message = f"asked to end: saved at step {self.model.step}, the same command resumes there"
        raise Terminated(message, self.asked_to_end or signal.SIGTERM)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batch += 1
        if self.batch == self.params["steps"]:
            return  # the end of the epoch is saved instead, with its metrics
        ending = distributed.any_of(bool(self.asked_to_end))
        # Steps that overflow in float16 do not count, and would save the same step again.
        due = self.model.step % self.every == 0 and self.model.step != self.saved
        if ending or due:
            self._save()
        if ending:
            self._end()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.start_at(epoch + 1, 0)
        # The encoder first: whoever finds the checkpoint of an epoch finds its encoder.
        if distributed.is_main():
            write_encoder(self.model.encoder, self.folder)
        self._save()
        if distributed.any_of(bool(self.asked_to_end)) and self.epoch < self.params["epochs"]:
            self._end()


def environment() -> dict[str, Any]:
    """What else the bits of a result depend on."""
    return {
        "processes": distributed.world_size(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "keras": keras.__version__,
    }


class _Watch:
    """Context manager that turns SIGTERM and Ctrl-C into a wish that the checkpoint callback fulfils."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def __enter__(self):
        def ask(number, frame):
            if self.checkpoint.asked_to_end and number == signal.SIGINT:
                raise KeyboardInterrupt  # pressed twice: at once, unsaved
            self.checkpoint.asked_to_end = number

        # Python handles signals in its main thread alone.
        in_main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGTERM, signal.SIGINT) if in_main else ()
        self.before = {number: signal.signal(number, ask) for number in signals}

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)


class MetricsTable(keras.callbacks.Callback):
    """Adds a row of metrics per epoch to a CSV file; the epoch is counted from 0.

    Where a resumed run has other metrics, the table gets their columns, and cells are empty where one is unknown.
    """

    def __init__(self, path: PathLike):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        row = {"epoch": epoch, **{name: float(value) for name, value in sorted(logs.items())}}
        before = []
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                before = list(csv.DictReader(file))
        columns = list(before[0]) if before else []
        columns += [name for name in row if name not in columns]
        replace_file(self.path, lambda path: self._write(path, columns, [*before, row]))

    def _write(self, path, columns, rows):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            table.writerows(rows)
