"""Curves of a run in TensorBoard."""

from __future__ import annotations

import math
from typing import Any

import keras

from memssl_keras.annotations import PathLike


class TensorBoard(keras.callbacks.Callback):
    """Writes figures for TensorBoard: running means every so many steps, and the epoch's metrics at its end.

    Steps are those of the optimiser. A resumed training replaces what an interrupted one had written behind
    the step that it starts at. List it behind the callbacks that add metrics. It takes torch's writer, because
    that of Keras needs TensorFlow.

    Args:
        folder: Gets the event files; `tensorboard --logdir FOLDER` shows them.
        every: Steps between two points of the running means.

    Raises:
        ValueError: where `every` is below 1, or the `tensorboard` package is missing.

    Example:
        >>> import tempfile
        >>> from memssl_keras.training.callbacks.tensorboard import TensorBoard
        >>> curves = TensorBoard(tempfile.mkdtemp(), every=20)  # model.fit(…, callbacks=[curves])
    """

    def __init__(self, folder: PathLike, every: int = 50):
        super().__init__()
        if every < 1:
            raise ValueError(f"every={every}: expected 1 step or more")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                f"TensorBoard curves need a package that is missing ({error}): pip install memssl-keras[tensorboard]"
            ) from None
        self.folder, self.every, self._make_writer = str(folder), every, SummaryWriter
        self.writer: Any = None

    def _write(self, prefix, logs):
        for name, value in (logs or {}).items():
            if not math.isnan(value := float(value)):
                self.writer.add_scalar(f"{prefix}/{name}", value, self.model.step)

    def on_train_begin(self, logs: dict | None = None) -> None:
        # TensorBoard forgets the points from this step on that files before this one hold.
        self.writer = self._make_writer(self.folder, purge_step=self.model.step + 1)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.model.step % self.every == 0:
            self._write("step", logs)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._write("epoch", logs)
        self._write("epoch", {"learning_rate": self.model.optimizer.learning_rate})
        self.writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        self.writer.close()
