"""Per-step schedules of learning rate, weight decay, teacher momentum, teacher temperature and encoder rate.

References:
    Silva et al., Learning from Memory, ICML 2024 (arXiv 2407.17486).
    Loshchilov and Hutter, SGDR, ICLR 2017 (arXiv 1608.03983), for the cosine.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np


def cosine_schedule(
    base: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: float = 0, start: float = 0.0
) -> np.ndarray:
    """Linear warm-up from `start` to `base`, then half a cosine from `base` to `final`, one value per step.

    Args:
        base: Value at the end of the warm-up.
        final: Value that the cosine ends at (its last step stops one short of it).
        epochs: Length of the run in epochs.
        steps_per_epoch: Steps in an epoch.
        warmup_epochs: Length of the warm-up in epochs; one longer than the run is cut off with the run.
        start: First value of the warm-up.

    Returns:
        float64 array `(epochs · steps_per_epoch,)`.

    Raises:
        ValueError: where a length is negative or the run has no step.

    Example:
        >>> from memssl_keras import cosine_schedule
        >>> cosine_schedule(1.0, 0.0, epochs=2, steps_per_epoch=2).round(3).tolist()
        [1.0, 0.854, 0.5, 0.146]
    """
    total, warmup = round(epochs * steps_per_epoch), round(warmup_epochs * steps_per_epoch)
    if total < 1 or warmup < 0:
        raise ValueError(
            f"epochs={epochs}, steps_per_epoch={steps_per_epoch}, warmup_epochs={warmup_epochs}: "
            "expected at least one step and no negative length"
        )
    rest = max(total - warmup, 0)
    cosine = final + 0.5 * (base - final) * (1 + np.cos(np.pi * np.arange(rest) / max(rest, 1)))
    return np.concatenate([np.linspace(start, base, warmup), cosine])[:total]


@dataclasses.dataclass(frozen=True)
class CosineSchedule:
    """`cosine_schedule` whose run length is filled in when training starts."""

    base: float
    final: float
    warmup_epochs: float = 0
    start: float = 0.0

    def values(self, epochs: int, steps_per_epoch: int) -> np.ndarray:
        return cosine_schedule(self.base, self.final, epochs, steps_per_epoch, self.warmup_epochs, self.start)


@dataclasses.dataclass(frozen=True)
class Thaw:
    """0 while the encoder is frozen, then a linear rise to `rate`, then constant; lengths in epochs.

    Example:
        >>> from memssl_keras.training.schedules import Thaw
        >>> Thaw(1.0, frozen_epochs=1, warmup_epochs=1).values(epochs=3, steps_per_epoch=2).tolist()
        [0.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    """

    rate: float
    frozen_epochs: float = 0
    warmup_epochs: float = 0

    def values(self, epochs: int, steps_per_epoch: int) -> np.ndarray:
        total, frozen = epochs * steps_per_epoch, round(self.frozen_epochs * steps_per_epoch)
        warmup = max(round(self.warmup_epochs * steps_per_epoch), 1)
        return self.rate * np.clip((np.arange(total) + 1 - frozen) / warmup, 0, 1)


class Schedules(keras.callbacks.Callback):
    """Sets learning rate, weight decay, teacher momentum, teacher temperature and encoder rate before every step.

    Each is a `CosineSchedule`, for the encoder rate a `Thaw`, an array of values per step, or None to leave it as it
    is. The step is the optimiser's own count, so that a resumed run continues where it was; past the end the last value
    holds. An `offset` is added to that count: for steps that overflowed in float16, which the optimiser leaves out,
    and where a run is resumed with another number of steps per epoch.

    Example:
        >>> from memssl_keras.training.schedules import CosineSchedule, Schedules
        >>> schedules = Schedules(
        ...     learning_rate=CosineSchedule(5e-4, 1e-6, warmup_epochs=10),
        ...     teacher_momentum=CosineSchedule(0.996, 1.0),
        ... )  # model.fit(images, callbacks=[schedules])
    """

    def __init__(
        self,
        learning_rate: Any = None,
        weight_decay: Any = None,
        teacher_momentum: Any = None,
        teacher_temperature: Any = None,
        encoder_rate: Any = None,
    ):
        super().__init__()
        self.schedules = {
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "teacher_momentum": teacher_momentum,
            "teacher_temperature": teacher_temperature,
            "encoder_rate": encoder_rate,
        }
        self.values: dict[str, np.ndarray] = {}
        self.offset = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        for name, schedule in self.schedules.items():
            if isinstance(schedule, (CosineSchedule, Thaw)):
                if not self.params.get("steps"):
                    raise ValueError(
                        f"{name}: a {type(schedule).__name__} needs data of known length; give one value per step "
                        "instead"
                    )
                schedule = schedule.values(self.params["epochs"], self.params["steps"])
            if schedule is not None:
                self.values[name] = np.asarray(schedule, "float64")
        if "encoder_rate" in self.values:
            self.model.frozen_steps = int(np.count_nonzero(self.values["encoder_rate"] == 0))

    def at(self, step: int) -> dict[str, float]:
        """The scheduled values of `step`, by name."""
        return {
            name: float(values[min(max(step, 0), len(values) - 1)]) for name, values in self.values.items()
        }

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.before = self.model.step
        # Loss scaling wraps the optimiser, whose settings these are.
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        for name, value in self.at(self.model.step + self.offset).items():
            owner = optimizer if name in ("learning_rate", "weight_decay") else self.model
            setattr(owner, name, value)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.offset += self.model.step == self.before
