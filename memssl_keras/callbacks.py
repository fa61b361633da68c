"""Callbacks of a run that is left alone: checkpoints and a progress line."""

import pathlib

import keras

from memssl_keras.pretrained import replace_file


class Checkpoint(keras.callbacks.Callback):
    """After every epoch, writes the whole training state and the encoder into a folder.

    `checkpoint.keras` holds student, teacher, memory and optimiser; `config.json` and `model.safetensors` are
    the teacher's encoder, as `from_pretrained` reads it. Each file is replaced as a whole: whatever
    interrupts a run, the last complete state is there.
    """

    FILE = "checkpoint.keras"

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)

    @property
    def path(self):
        return self.folder / self.FILE

    def on_epoch_end(self, epoch, logs=None):
        def write(path):
            named = path.with_suffix(".part.keras")  # Keras chooses the format by the suffix
            try:
                self.model.save(named)
                named.replace(path)
            finally:
                named.unlink(missing_ok=True)

        replace_file(self.path, write)
        self.model.encoder.save_pretrained(self.folder)


class RichProgress(keras.callbacks.Callback):
    """One progress bar over the whole run: step, time left, and the figures that show whether it learns."""

    def __init__(self, console=None):
        super().__init__()
        self.console = console

    def on_train_begin(self, logs=None):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = [
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}"),
        ]
        total = self.params["epochs"] * self.params["steps"]
        self.progress = Progress(*columns, console=self.console)
        done = self.model.step
        self.task = self.progress.add_task("", total=total, completed=done, epoch=1, figures="")
        self.progress.start()

    def on_epoch_begin(self, epoch, logs=None):
        self.progress.update(self.task, epoch=epoch + 1)

    def on_train_batch_end(self, batch, logs=None):
        if batch % 10 == 0:
            figures = {name: float(logs[name]) for name in ("loss", "teacher_entropy", "spread")}
            text = "  ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in figures.items())
            self.progress.update(self.task, figures=text)
        self.progress.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        figures = "  ".join(f"{name.replace('_', ' ')} {float(value):.3f}" for name, value in logs.items())
        self.progress.console.print(f"epoch {epoch + 1}: {figures}")

    def stop(self):
        """End the display; also where training ended by an error."""
        if hasattr(self, "progress"):
            self.progress.stop()

    def on_train_end(self, logs=None):
        self.stop()
