"""A run in a folder: going on after an interruption, changed settings, and losses that are not finite."""

import dataclasses
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file
from small_models import pictures, same_weights, small_recipe

from memssl_keras import from_pretrained
from memssl_keras.files import lock
from memssl_keras.training.callbacks.run import Checkpoint
from memssl_keras.training.massl import MaSSL, NonFiniteLoss
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.settings import SettingsChanged

pytestmark = pytest.mark.slow

TINY = small_recipe("tiny_test", {"drop_path": 0.3})


class Interrupted(Exception):
    """What ends a run halfway."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.at = step

    def on_train_batch_end(self, batch, logs=None):
        if self.model.step == self.at:
            raise Interrupted


@pytest.mark.parametrize("step", [2, 3, 5])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, step):
    straight = pretrain(TINY, pictures(9), tmp_path / "straight")
    with pytest.raises(Interrupted):
        pretrain(TINY, pictures(9), tmp_path / "broken", callbacks=[StopAt(step)])
    resumed = pretrain(TINY, pictures(9), tmp_path / "broken")
    assert straight.step == resumed.step == 6
    assert same_weights(straight, resumed)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("straight", "broken")]
    assert all(np.array_equal(files[0][key], files[1][key]) for key in files[0])
    logs = [(tmp_path / name / "metrics.csv").read_text() for name in ("straight", "broken")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 4


def test_a_finished_run_is_left_as_it_is(tmp_path):
    model = pretrain(TINY, pictures(9), tmp_path)
    again = pretrain(TINY, pictures(9), tmp_path)
    assert again.step == 6 and same_weights(model, again)
    assert same_weights(from_pretrained(tmp_path), model.encoder)


@pytest.mark.parametrize("changes", [{"recipe": {"learning_rate": 1.0}}, {"seed": 1}, {"images": 10}])
def test_other_settings_are_refused(tmp_path, changes):
    pretrain(dataclasses.replace(TINY, epochs=1), pictures(9), tmp_path)
    recipe = dataclasses.replace(TINY, epochs=1, **changes.get("recipe", {}))
    name = next(iter(changes.get("recipe", changes)))
    with pytest.raises(
        SettingsChanged, match=rf"holds a run with other settings: {name}[a-z_.]* was .*, now "
    ):
        pretrain(recipe, pictures(changes.get("images", 9)), tmp_path, seed=changes.get("seed", 0))


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    update = MaSSL._update_student
    monkeypatch.setattr(
        MaSSL,
        "_update_student",
        lambda self, loss, *rest: update(self, loss * np.nan if self.step == 3 else loss, *rest),
    )
    with pytest.raises(NonFiniteLoss, match="at step 3"):
        pretrain(TINY, pictures(9), tmp_path)
    kept = keras.saving.load_model(Checkpoint(tmp_path).store.newest() / "model.keras")
    assert kept.step == 2 and same_weights(from_pretrained(tmp_path), kept.encoder)
    monkeypatch.undo()
    assert pretrain(TINY, pictures(9), tmp_path).step == 6


def test_a_checkpoint_holds_every_weight_once(tmp_path):
    model = pretrain(dataclasses.replace(TINY, epochs=1), pictures(9), tmp_path)
    with zipfile.ZipFile(Checkpoint(tmp_path).store.newest() / "model.keras") as file:
        size = file.getinfo("model.weights.h5").file_size
    values = sum(w.size for w in model.get_weights()) + sum(v.numpy().size for v in model.optimizer.variables)
    h5_overhead = 300_000
    assert 4 * values < size < 4 * values + h5_overhead
    assert not model._trainable_variables and not model._non_trainable_variables


def test_two_runs_in_one_folder_do_not_mix(tmp_path):
    with lock(tmp_path / ".lock"), pytest.raises(ValueError, match="has been writing there since"):
        pretrain(TINY, pictures(24), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []
