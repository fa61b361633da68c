"""Random draws inside the model that follow from seed and step alone."""

from __future__ import annotations

import keras
import numpy as np
import torch


class CountedDraws(keras.callbacks.Callback):
    """Seeds drop path, and whatever else draws at random in the student, anew before every step.

    Keras saves the counters of its generators with no model, and torch's generator belongs to the process. Draws
    that depend on seed, step and rank alone need no history, as those of views and blocks: a run that was
    interrupted draws what it would have drawn.

    Args:
        seed: Seed of the run.
        rank: Number of the process: each has other images, and drops other ones of them.
    """

    def __init__(self, seed: int, rank: int = 0):
        super().__init__()
        self.seed, self.rank = seed, rank

    def on_train_begin(self, logs: dict | None = None) -> None:
        layers = self.model.student._flatten_layers()
        self.generators = [g for layer in layers for g in getattr(layer, "_seed_generators", ())]

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        bits = np.random.Philox(key=[self.seed, self.model.step], counter=[0, 0, 0, self.rank + 1])
        first, *others = np.random.Generator(bits).integers(2**31, size=1 + len(self.generators)).tolist()
        torch.manual_seed(first)
        for generator, seed in zip(self.generators, others, strict=True):
            generator.state.assign([seed, 0])
