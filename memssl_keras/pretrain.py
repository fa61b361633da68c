"""A pretraining run in a folder: settings, metrics, checkpoints, and going on after an interruption."""

import dataclasses
import json
import pathlib

import keras

from memssl_keras.callbacks import Checkpoint
from memssl_keras.pretrained import replace_file


class SettingsChanged(ValueError):
    """The folder holds a run with other settings."""


def _settings(recipe, images, seed):
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return {**plain, "images": len(images), "seed": seed}


def _check_settings(path, settings):
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [k for k in settings.keys() | before.keys() if settings.get(k) != before.get(k)]
    if changed:
        list_of = "; ".join(f"{k} was {before.get(k)!r}, now {settings.get(k)!r}" for k in sorted(changed))
        raise SettingsChanged(
            f"{path.parent} holds a run with other settings: {list_of}. Choose another folder"
        )


def pretrain(recipe, images, folder, *, seed=0, workers=0, callbacks=()):
    """Train a recipe's encoder on images, writing into a folder after every epoch.

    A folder that holds an unfinished run with the same settings is gone on with at its last epoch.

    Args:
        recipe: A `Recipe`.
        images: What `MaSSL.fit` takes as images.
        folder: Gets `run.json` (settings), `metrics.csv`, `checkpoint.keras` and the encoder.
        seed: Seed of weights, memory, order and views.
        workers: Processes that make views.
        callbacks: More Keras callbacks.

    Returns:
        The trained `MaSSL`.

    Raises:
        SettingsChanged: where the folder holds a run with other settings.
        NonFiniteLoss: where the loss stops being finite; the last epoch's checkpoint stays.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings, run = _settings(recipe, images, seed), folder / "run.json"
    checkpoint = Checkpoint(folder)
    keras.utils.set_random_seed(seed)
    if checkpoint.path.exists():
        _check_settings(run, settings)
        model = keras.saving.load_model(checkpoint.path)
    else:
        model = recipe.build(seed=seed)
        text = json.dumps(settings, indent=2) + "\n"
        replace_file(run, lambda path: path.write_text(text, encoding="utf-8"))
    steps = len(images) // recipe.batch_size
    done = model.step // steps if steps else 0
    log = keras.callbacks.CSVLogger(str(folder / "metrics.csv"), append=done > 0)
    model.fit(
        images,
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        initial_epoch=done,
        workers=workers,
        seed=seed,
        verbose=0,
        callbacks=[recipe.schedules(), log, checkpoint, *callbacks],
    )
    return model
