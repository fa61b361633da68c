"""Which epoch begins, for the loader of views."""

from __future__ import annotations

import warnings
from typing import Any

import keras


class EpochOrder(keras.callbacks.Callback):
    """Tells the loader which epoch begins, and leaves out what was trained on before.

    Args:
        loader: What `view_loader` returned.
        initial_batch: Batches of the first epoch that were trained on before. They are skipped, and the
            metrics continue from the values that the model holds.
    """

    def __init__(self, loader: Any, initial_batch: int = 0):
        super().__init__()
        self.loader, self.initial_batch = loader, initial_batch

    def on_train_begin(self, logs: dict | None = None) -> None:
        variables = [v for metric in self.model.metrics for v in metric.variables]
        self.carried = [(v, v.numpy().copy()) for v in variables] if self.initial_batch else []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.loader.set_epoch(epoch, self.initial_batch)
        for variable, value in self.carried:  # Keras has just reset them
            variable.assign(value)
        self.initial_batch, self.carried = 0, []

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if news := self.loader.news():
            warnings.warn(news, stacklevel=2)
