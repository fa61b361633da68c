"""How a run is scored: the pictures, the measure and the encoders it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras

from memssl_keras.annotations import PathLike
from memssl_keras.data.classes import Labelled
from memssl_keras.data.held_out import held_out_count, hold_out
from memssl_keras.data.huggingface import Stream
from memssl_keras.encoders.copies import fresh_copy
from memssl_keras.evaluate.measures import LabelledKNN, ViewRetrieval
from memssl_keras.training.callbacks.judge import Judge
from memssl_keras.words import counted

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder
    from memssl_keras.evaluate.embedders import Embedder
    from memssl_keras.training.recipe import Recipe

MEASUREMENTS = 10  # of a run without labels


def keep_apart(images: Any, count: int | None, labelled: bool) -> tuple[Any, Any]:
    """Images to train on, and those held out for the verdict; None where none are.

    Args:
        images: A sequence of images, or a `Stream`.
        count: How many to hold out. By default `held_out_count`, or 0 if labelled pictures score the run.
        labelled: Whether labelled pictures score the run.

    Raises:
        ValueError: where `images` is a stream, of which none can be held out, or `count` is too large.
    """
    if isinstance(images, Stream):
        if count:
            raise ValueError(
                f"held_out={count}: expected 0 with streaming; use --labelled to score a run on a stream"
            )
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
        images: The training images. They score the run if nothing is held out; the measure's name then says so.
        held_out: Images held out from training, as `keep_apart` returns them.
        labelled: Labelled pictures, as `open_classes` returns them.
        k: Number of neighbours in k-NN.
        every: Epochs between two measurements with labels. Without labels there are about ten in a run.
        init: The encoder that the run starts from.
        init_name: Its name in the verdict.
        teacher: The frozen encoder that is distilled.
        folder: Folder of the run.
        seed: Seed of the run, from which the untrained encoder gets the run's initial weights.
        say: Called with each line of text.

    Returns:
        None, with a line that says why, if no pictures can score the run: a stream without labels, or fewer than two
        readable pictures.
    """
    measure: LabelledKNN | ViewRetrieval
    if labelled:
        measure = LabelledKNN(labelled, k)
    elif isinstance(images, Stream):
        say(
            "no verdict at the end: no pictures can be held out from a stream; expected --labelled to score it"
        )
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
            say(f"skipped in the verdict: {counted(measure.skipped, 'unreadable picture')}")
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
