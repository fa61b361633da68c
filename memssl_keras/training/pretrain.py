"""A pretraining run in a folder: settings, metrics, checkpoints, and resuming after an interruption."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import keras
import torch

from memssl_keras.annotations import PathLike
from memssl_keras.data.huggingface import Stream
from memssl_keras.data.loader import image_sequence
from memssl_keras.data.targets import WithTargets
from memssl_keras.data.unreadable import usual_share
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.files import lock, read_json, write_json
from memssl_keras.training import distributed
from memssl_keras.training.adapt import FEWEST, sizes_for
from memssl_keras.training.callbacks.observe import MemoryHealth
from memssl_keras.training.callbacks.run import Checkpoint, MetricsTable, environment
from memssl_keras.training.distilled import TEACHER, DistilledMaSSL, with_targets
from memssl_keras.training.refit import RefitWhitening
from memssl_keras.training.settings import RUN, SettingsChanged, settings_of, what_changed
from memssl_keras.training.start import fingerprint, start_from
from memssl_keras.training.whiten import whitening_of

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder
    from memssl_keras.evaluate.embedders import Embedder
    from memssl_keras.training.massl import MaSSL
    from memssl_keras.training.recipe import Recipe


def warnings_before(recipe: Recipe, images: int) -> list[str]:
    """Warnings before a run starts: settings that do not fit the number of images or the hardware."""
    found, steps = [], images // recipe.batch_size
    if recipe.memory_size > images:
        found.append(
            f"the memory has {recipe.memory_size:,} slots and there are {images:,} pictures: it would hold "
            "some pictures more than once. Take a recipe with a smaller memory (memssl models lists them)"
        )
    if 0 < steps < 10 and recipe.batch_size > sizes_for(max(images, FEWEST))["batch_size"]:
        found.append(
            f"an epoch of {images:,} pictures has only {steps} steps; take a smaller batch (--batch-size)"
        )
    if "GPU" in recipe.purpose and not torch.cuda.is_available():
        found.append(f"{recipe.name} is for {recipe.purpose}, and there is no GPU here")
    return found


def _find_run(checkpoint, settings, allow_changed, say):
    """The newest checkpoint in the folder, if any, and the settings that are not those of its run, in words."""
    folder = checkpoint.folder
    folder.mkdir(parents=True, exist_ok=True)
    newest = checkpoint.store.newest(say)
    if not newest or not (folder / RUN).exists():
        return newest, []
    changes = what_changed(read_json(folder / RUN), settings)
    if changes and not allow_changed:
        raise SettingsChanged(
            f"{folder} holds a run with other settings: {'; '.join(changes)}. Choose another folder, or resume "
            "with the new ones: --allow-changed, in Python allow_changed=True"
        )
    return newest, changes


def _restore(checkpoint, path, model, changes):
    try:
        return checkpoint.load(path, model)
    except ValueError as error:
        raise SettingsChanged(
            f"{checkpoint.folder}: the weights in {path.name} do not fit these settings ({'; '.join(changes)}): "
            "settings that change the model's shapes cannot change within a run"
        ) from error


def _resume(checkpoint, newest, model, schedules, recipe, images, changes, say):
    """Load a checkpoint into the model; epoch and step within it at which training resumes."""
    state = distributed.from_main(lambda: _restore(checkpoint, newest, model, changes))
    steps = images // recipe.batch_size
    # With another number of steps per epoch, the place within the epoch is kept as a share of it.
    epoch, batch = state["epoch"], state["batch"] * steps // (state["steps_per_epoch"] or steps)
    schedules.offset = epoch * steps + batch - state["step"]
    where = f"resumed at epoch {epoch + 1}, step {batch} of {steps}"
    if epoch >= recipe.epochs:
        if others := [change for change in changes if not change.startswith("epochs was")]:
            raise SettingsChanged(
                f"all {recipe.epochs} epochs are done: nothing would be trained with the new settings ("
                f"{'; '.join(others)}). Take more epochs, or choose another folder"
            )
        where = f"all {recipe.epochs} epochs are done" if recipe.epochs > 1 else "its epoch is done"
    say(where + "".join(f"; {c}" for c in changes))
    differs = [f"{k} {state[k]}, now {v}" for k, v in environment().items() if state.get(k) != v]
    if differs:
        say(f"the result will not have the same bits as an uninterrupted run, which had {', '.join(differs)}")
    return epoch, batch


def pretrain(
    recipe: Recipe,
    images: Any,
    folder: PathLike,
    *,
    init: Encoder | None = None,
    teacher: Embedder | None = None,
    seed: int = 0,
    workers: int = 0,
    checkpoint_every: int = 500,
    max_unreadable: float | None = None,
    allow_changed: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Callable[[str], object] = print,
    track: Callable[[Iterable], Iterable] = iter,
) -> MaSSL:
    """Train a recipe's encoder on images, writing into a folder.

    If the folder holds an unfinished run with the same settings, it is resumed at its last checkpoint. On a CPU, with
    the same number of threads and processes, the result has the same bits as an uninterrupted run. Started by
    `torchrun`, several processes share the work; see `MaSSL.fit`.

    Args:
        recipe: A `Recipe`.
        images: What `MaSSL.fit` takes as images.
        folder: Gets `run.json` (settings), `metrics.csv`, `checkpoints/` and the encoder, see `Checkpoint`, and
            `unreadable.csv` where images could not be read.
        init: A trained encoder to start from. A recipe of the family "init" trains a copy of it without its whitening
            layer, and fits a new whitening layer after every epoch. Any other recipe copies its weights into the
            recipe's encoder. An interrupted run is still resumed from its checkpoint.
        teacher: A frozen encoder to distil; it replaces the momentum teacher. See `DistilledMaSSL`. Its embeddings are
            cached in the subfolder `teacher/`.
        seed: Seed of weights, memory, order, views and drop path.
        workers: Processes that make views.
        checkpoint_every: Steps between two checkpoints; the end of an epoch makes one too.
        max_unreadable: Share of the images that may be unreadable, which are listed in `unreadable.csv`; by default
            `usual_share` of them.
        allow_changed: Resume a run with changed settings; the model's shapes must stay the same.
        callbacks: More Keras callbacks.
        say: Called with each line of text.
        track: Wraps the chunks of images that the teacher embeds, for a progress bar.

    Returns:
        The trained `MaSSL`.

    Raises:
        ValueError: for a recipe that needs `init` and gets none, or for a teacher with `Paired` images or a stream.
        SettingsChanged: where the folder holds a run with other settings.
        TooManyUnreadable: where more images are unreadable than may be.
        CheckpointError: where a checkpoint cannot be written, or all of them are damaged.
        NonFiniteLoss: where the loss stops being finite; the last checkpoint stays.
        ProcessLost: where another process of the run has died; the last checkpoint stays.
        Terminated: after SIGTERM or Ctrl-C, when the step has ended and is saved; it is a `SystemExit`.
        Locked: where another process trains in that folder.
    """
    options = {
        "seed": seed,
        "workers": workers,
        "checkpoint_every": checkpoint_every,
        "max_unreadable": max_unreadable,
        "allow_changed": allow_changed,
        "callbacks": callbacks,
        "say": say,
        "init": init,
        "teacher": teacher,
        "track": track,
    }
    distributed.join()
    images = image_sequence(images)
    folder = pathlib.Path(folder)
    if not distributed.is_main():  # the main process holds the folder
        return _pretrain(recipe, images, folder, **options)
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder / ".lock"):
        return _pretrain(recipe, images, folder, **options)


def _encoder_of(recipe, init, resumed):
    """The encoder that a run trains; None for a new one of the recipe."""
    if init is None:
        return None  # a recipe that needs one says so
    if recipe.family == "init":
        return without_whitening(init)
    return None if resumed else start_from(recipe.build_encoder(), init)


def _refit(recipe, init, images):
    """The callback that fits a whitening anew, where the encoder that a run starts from has one."""
    whitening = whitening_of(init) if init and recipe.family == "init" else None
    if whitening and isinstance(images, Stream):
        raise ValueError(
            f"init={init.name}: its whitening is refitted to the pictures, and a stream cannot be looked at twice; "
            "expected pictures that are there, or an encoder without whitening"
        )
    return [RefitWhitening(images, whitening, recipe.views)] if whitening else []


def _pretrain(
    recipe,
    images,
    folder,
    *,
    seed,
    workers,
    checkpoint_every,
    max_unreadable,
    allow_changed,
    callbacks,
    say,
    init,
    teacher,
    track,
):
    main = distributed.is_main()
    say = say if main else lambda line: None
    checkpoint = Checkpoint(folder, checkpoint_every)
    if teacher:
        targets = distributed.from_main(
            lambda: with_targets(teacher, images, folder / TEACHER, track).targets
        )
        images = WithTargets(images, targets)
        # The memory holds the teacher's embeddings from the beginning: there is nothing to fill it with.
        recipe = dataclasses.replace(recipe, output_dim=targets.shape[1], fill_memory=False)
    settings = settings_of(recipe, images, seed)
    settings |= {"init": fingerprint(init)} if init else {}
    settings |= {"teacher": {"name": teacher.name, **teacher.key}} if teacher else {}
    distributed.check_same("settings", settings)
    # The main process alone reads and writes the folder; the others need not see it.
    newest, changes = distributed.from_main(lambda: _find_run(checkpoint, settings, allow_changed, say))

    keras.utils.set_random_seed(seed)
    kind = DistilledMaSSL if teacher else None
    model = recipe.build(_encoder_of(recipe, init, resumed=bool(newest)), seed=seed, kind=kind)
    schedules = recipe.schedules()
    if teacher and not newest:
        model.fill(images.targets)
    epoch = batch = 0
    if newest:
        epoch, batch = _resume(checkpoint, newest, model, schedules, recipe, len(images), changes, say)
    checkpoint.start_at(epoch, batch)
    folder.mkdir(parents=True, exist_ok=True)  # where the others list what they could not read
    observers = [MemoryHealth(), *_refit(recipe, init, images), *callbacks]
    if main:
        write_json(folder / RUN, settings)
        if not newest:  # the rows of an older run; those behind a checkpoint are gone from the file by now
            for path in (checkpoint.metrics, *folder.glob("unreadable*.csv")):
                path.unlink(missing_ok=True)
        observers.append(MetricsTable(checkpoint.metrics))  # behind those that add metrics
    with checkpoint.watching():
        model.fit(
            images,
            views=recipe.views,
            batch_size=recipe.batch_size,
            accumulate=recipe.accumulate,
            epochs=recipe.epochs,
            initial_epoch=epoch,
            initial_batch=batch,
            workers=workers,
            seed=seed,
            max_unreadable=usual_share(len(images)) if max_unreadable is None else max_unreadable,
            unreadable_csv=folder / "unreadable.csv",
            verbose=0,
            callbacks=[schedules, *observers, checkpoint],
        )
    return model
