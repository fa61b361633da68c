"""What a run is judged by: the pictures, the measure and the encoders that it has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from memssl_keras.annotations import PathLike
from memssl_keras.data.classes import Labelled
from memssl_keras.data.held_out import held_out_count, hold_out
from memssl_keras.data.huggingface import Stream
from memssl_keras.evaluate.measures import LabelledKNN, ViewRetrieval
from memssl_keras.training.adapt import fresh_copy
from memssl_keras.training.callbacks.judge import Judge

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder
    from memssl_keras.evaluate.embedders import Embedder
    from memssl_keras.training.recipe import Recipe

MEASUREMENTS = 10  # of a run without labels


def keep_apart(images: Any, count: int | None, labelled: bool) -> tuple[Any, Any]:
    """Images to train on, and those held out for the verdict; None where none are.

    Args:
        images: A sequence of images, or a `Stream`.
        count: How many to hold out; None for `held_out_count`, or none where labelled pictures judge the run.
        labelled: Whether they do.

    Raises:
        ValueError: where pictures are to be held out of a stream, which shows its own in any order, or too many.
    """
    if isinstance(images, Stream):
        if count:
            raise ValueError(f"held_out={count}: expected 0 with streaming; --labelled judges a stream")
        return images, None
    if count is None:
        count = 0 if labelled else held_out_count(len(images))
    return hold_out(images, count) if count else (images, None)


def judge_of(
    recipe: Recipe,
    images: Any,
    held_out: Any = None,
    labelled: Labelled | None = None,
    *,
    k: int = 20,
    every: int = 1,
    init: Encoder | None = None,
    init_name: str = "start",
    teacher: Embedder | None = None,
    folder: PathLike | None = None,
    seed: int = 0,
    say: Callable = print,
) -> Judge | None:
    """The `Judge` of a run: k-NN where there are labels, else retrieval of pictures by another view of themselves.

    Args:
        recipe: The run's `Recipe`.
        images: What it is trained on; judged by where nothing is held out, which is then said.
        held_out: Images that it is not trained on, as `keep_apart` gives them.
        labelled: Of `open_classes`.
        k: Neighbours that vote.
        every: Epochs between two measurements with labels; without, there are ten in a run.
        init: The encoder that the run goes on from.
        init_name: What it is called.
        teacher: The frozen encoder that is distilled.
        folder: Folder of the run.
        seed: Of the run, whose first weights are those of the untrained encoder.
        say: Called with each line.

    Returns:
        None where there is nothing to judge by, which is said: a stream without labels, or no readable pictures.
    """
    measure: LabelledKNN | ViewRetrieval
    if labelled:
        measure = LabelledKNN(labelled, k)
    elif isinstance(images, Stream):
        say("no verdict at the end: a stream has no pictures that are held out; --labelled judges it")
        return None
    else:
        described = "pictures that it was trained on" if held_out is None else "held-out pictures"
        try:
            measure = ViewRetrieval(images if held_out is None else held_out, recipe.views, described)
        except ValueError as error:  # too few can be read, which training looks into
            say(f"no verdict at the end: {error}")
            return None
        every = max(1, recipe.epochs // MEASUREMENTS)
        if measure.skipped:
            say(f"{measure.skipped} pictures for the verdict cannot be read and are left out of it")
    keras.utils.set_random_seed(seed)
    untrained = fresh_copy(init) if recipe.family == "init" and init else recipe.build_encoder()
    return Judge(
        measure,
        untrained,
        start=init,
        start_name=init_name,
        teacher=teacher,
        folder=folder,
        every=every,
        say=say,
    )
