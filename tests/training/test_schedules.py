"""Schedules: their values, and that every step of a run, a resumed one too, gets its own."""

import math

import keras
import numpy as np
import pytest
import torch
from small_models import pictures, small_crops, small_massl

from memssl_keras import cosine_schedule
from memssl_keras.training.schedules import CosineSchedule, Schedules


def by_hand(base, final, warmup, total, start):
    values = []
    for step in range(total):
        if step < warmup:
            values.append(start + (base - start) * (step / (warmup - 1) if warmup > 1 else 0))
        else:
            share = (step - warmup) / (total - warmup)
            values.append(final + (base - final) * (1 + math.cos(math.pi * share)) / 2)
    return values


@pytest.mark.parametrize("warmup", [0, 1, 2, 5])
@pytest.mark.parametrize("base, final", [(1.0, 0.0), (0.04, 0.4), (0.07, 0.07)])
def test_values_are_those_of_the_formula(base, final, warmup):
    ours = cosine_schedule(base, final, epochs=6, steps_per_epoch=3, warmup_epochs=warmup, start=0.01)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, by_hand(base, final, 3 * warmup, 18, 0.01), rtol=0, atol=1e-14)


def test_a_warmup_longer_than_the_run_is_cut_off_with_it():
    ours = cosine_schedule(1.0, 0.0, epochs=2, steps_per_epoch=4, warmup_epochs=5)
    np.testing.assert_allclose(ours, np.linspace(0, 1, 20)[:8], atol=1e-15)


def test_lengths_may_be_parts_of_an_epoch():
    ours = cosine_schedule(1.0, 0.0, epochs=0.5, steps_per_epoch=10, warmup_epochs=0.3)
    np.testing.assert_allclose(ours, by_hand(1.0, 0.0, 3, 5, 0.0), atol=1e-14)


@pytest.mark.parametrize("lengths", [(0, 5, 0), (5, 0, 0), (2, 3, -1), (-1, 3, 0)])
def test_a_run_without_steps_is_refused(lengths):
    epochs, steps, warmup = lengths
    with pytest.raises(ValueError, match=f"epochs={epochs}, steps_per_epoch={steps}, warmup_epochs={warmup}"):
        cosine_schedule(1.0, 0.0, epochs, steps, warmup)


class Noted(keras.callbacks.Callback):
    """Notes at every step what the model trained with."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_train_batch_end(self, batch, logs=None):
        model = self.model
        optimizer = (float(model.optimizer.learning_rate.numpy()), model.optimizer.weight_decay)
        self.rows.append((*optimizer, model.teacher_momentum, model.teacher_temperature))


def all_four():
    return Schedules(
        learning_rate=CosineSchedule(1e-3, 1e-5, warmup_epochs=1),
        weight_decay=CosineSchedule(0.04, 0.4),
        teacher_momentum=CosineSchedule(0.9, 1.0),
        teacher_temperature=CosineSchedule(0.07, 0.07, warmup_epochs=2, start=0.04),
    )


def test_every_step_gets_its_values_and_a_resumed_run_goes_on():
    expected = np.stack(
        [
            cosine_schedule(1e-3, 1e-5, 4, 2, 1),
            cosine_schedule(0.04, 0.4, 4, 2),
            cosine_schedule(0.9, 1.0, 4, 2),
            cosine_schedule(0.07, 0.07, 4, 2, 2, 0.04),
        ],
        axis=1,
    )
    model, noted = small_massl(), Noted()
    run = {"views": small_crops(), "batch_size": 4, "verbose": 0}
    for first, last in ((0, 4), (3, 4)):
        if first:  # a new callback on a model that has done six steps, as after loading a checkpoint
            model.optimizer.iterations.assign(6)
        callbacks = [all_four(), noted]
        model.fit(pictures(), epochs=last, initial_epoch=first, callbacks=callbacks, **run)
    np.testing.assert_allclose(noted.rows[:8], expected, rtol=1e-6)
    np.testing.assert_allclose(noted.rows[8:], expected[6:], rtol=1e-6)


def test_arrays_and_their_last_value():
    schedules = Schedules(teacher_momentum=[0.5, 0.6])
    schedules.params = {"epochs": 1, "steps": None}
    schedules.on_train_begin()
    assert [schedules.at(step)["teacher_momentum"] for step in range(4)] == [0.5, 0.6, 0.6, 0.6]
    assert list(schedules.at(0)) == ["teacher_momentum"]


def test_what_has_no_schedule_stays():
    model, noted = small_massl(teacher_momentum=0.77), Noted()
    callbacks = [Schedules(learning_rate=[1e-4]), noted]
    model.fit(pictures(4), views=small_crops(), batch_size=4, verbose=0, callbacks=callbacks)
    assert noted.rows[0] == pytest.approx((1e-4, 0.04, 0.77, 0.04), rel=1e-6)


def test_a_cosine_needs_data_of_known_length():
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield torch.from_numpy(pictures(4))

    loader = torch.utils.data.DataLoader(Endless(), batch_size=None)
    with pytest.raises(ValueError, match="learning_rate: a CosineSchedule needs data of known length"):
        small_massl().fit(loader, views=small_crops(), verbose=0, callbacks=[all_four()])
