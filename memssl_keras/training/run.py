"""A whole run of `memssl pretrain`: open the pictures, train, score the encoder and write the report."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from memssl_keras.annotations import PathLike
from memssl_keras.data.classes import Labelled, open_classes
from memssl_keras.data.huggingface import open_data
from memssl_keras.data.pairs import Paired
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.data.splits import files_of
from memssl_keras.training import distributed
from memssl_keras.training.judging import judge_of, keep_apart
from memssl_keras.training.massl import NonFiniteLoss
from memssl_keras.training.pretrain import pretrain, warnings_before
from memssl_keras.training.report import write_report

if TYPE_CHECKING:
    import keras

    from memssl_keras.encoders import Encoder
    from memssl_keras.evaluate.embedders import Embedder
    from memssl_keras.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class RunData:
    """The pictures of a run.

    Args:
        images: The training images.
        held_out: Images that are held out to score the run; None where there are none.
        labelled: Labelled pictures that score the run instead; None where there are none.
        streaming: Whether `images` is a stream.
    """

    images: Any
    held_out: Any = None
    labelled: Labelled | None = None
    streaming: bool = False


def open_run(
    data: str,
    folder: PathLike,
    *,
    split: str | None = None,
    column: str | None = None,
    streaming: bool = False,
    images_per_epoch: int | None = None,
    shuffle_buffer: int = 5000,
    held_out: int | None = None,
    labelled: str | None = None,
    label: str = "label",
    group: str | None = None,
    pairs: float = 0.5,
) -> RunData:
    """Open the training images of a run and the images that score it.

    Args:
        data: See `open_data`, as split, column, streaming, images_per_epoch and shuffle_buffer.
        folder: Folder of the run; it must not be inside the folder of images.
        held_out: How many pictures to hold out from training to score the run; see `keep_apart`.
        labelled: Labelled pictures that score the run; see `open_classes`.
        label: Their column of labels.
        group: Column that says which pictures may be views of each other; see `Paired`.
        pairs: Probability that they are, 0 … 1.

    Raises:
        ValueError: where the data cannot be read or lacks a column or split, or `folder` is inside it.
    """
    _check_apart(data, pathlib.Path(folder))
    images = open_data(
        data,
        split=split,
        column=column,
        streaming=streaming,
        images_per_epoch=images_per_epoch,
        shuffle_buffer=shuffle_buffer,
    )
    images, judges = keep_apart(images, held_out, labelled is not None)
    if group:
        groups = column_of(open_source(data, split=split, column=column), group)
        images = Paired(images, groups if judges is None else groups[images.rows], pairs)
    return RunData(images, judges, open_classes(labelled, label) if labelled else None, streaming)


def _check_apart(data, folder):
    """Raises ValueError where the pictures that a run writes would be among those that it reads."""
    read = pathlib.Path(data)
    if not read.is_dir() or files_of(read, ".parquet") or files_of(read, ".tar"):
        return
    if folder.resolve().is_relative_to(read.resolve()):
        raise ValueError(
            f"--out={folder}: is inside {data}, so the run's own pictures would be read as training images; expected a "
            "folder outside it"
        )


def described(recipe: Recipe, data: RunData) -> list[str]:
    """Lines of text to show before a run: files that were not read, warnings, and the run's length."""
    images = data.images
    steps = len(images) // recipe.batch_size
    kind = "images of a stream" if data.streaming else "images"
    length = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
    return [
        *getattr(images, "notes", ()),
        *(f"warning: {line}" for line in warnings_before(recipe, len(images))),
        f"{recipe.name}: {len(images):,} {kind}, {length} of {steps} steps",
    ]


def pretrain_judged(
    recipe: Recipe,
    data: RunData,
    folder: PathLike,
    *,
    init: Encoder | None = None,
    init_name: str = "start",
    teacher: Embedder | None = None,
    knn_k: int = 20,
    knn_every: int = 1,
    seed: int = 0,
    tensorboard: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    say: Callable[[str], object] = print,
    **options: Any,
) -> None:
    """`pretrain`, with a verdict at the end and `report.md` in the folder.

    Args:
        recipe: The run's `Recipe`.
        data: The pictures, as `open_run` returns them.
        folder: Folder of the run.
        init: A trained encoder to start from; see `pretrain`.
        init_name: Its name in the verdict.
        teacher: A frozen encoder to distil; see `pretrain`.
        knn_k: Number of neighbours in k-NN on labelled pictures.
        knn_every: Epochs between two k-NN measurements.
        seed: Seed of weights, memory, image order and views.
        tensorboard: Write curves for TensorBoard into the folder too.
        callbacks: More Keras callbacks, for the main process only.
        say: Called with each line of text.
        **options: Other arguments of `pretrain`.

    Raises:
        The errors of `pretrain`; `NonFiniteLoss` and `ProcessLost` then name the folder of the last checkpoint.
    """
    distributed.join()
    folder, main = pathlib.Path(folder), distributed.is_main()
    say = say if main else _silence
    judge = judge_of(
        recipe,
        data.images,
        data.held_out,
        data.labelled,
        k=knn_k,
        every=knn_every,
        init=init,
        init_name=init_name,
        teacher=teacher,
        folder=folder,
        seed=seed,
        say=say,
    )
    observers: list[keras.callbacks.Callback] = [judge] if judge else []
    if tensorboard and main:
        from memssl_keras.training.callbacks.tensorboard import TensorBoard

        observers.append(TensorBoard(folder / "tensorboard"))
    if main:
        observers += callbacks
    with _naming_checkpoints(folder / "checkpoints"):
        pretrain(
            recipe,
            data.images,
            folder,
            init=init,
            teacher=teacher,
            seed=seed,
            callbacks=observers,
            say=say,
            **options,
        )
    distributed.leave()
    if main:
        write_report(folder, data.labelled.test if data.labelled else None)


def _silence(line):
    """Takes the lines of the processes beside the main one."""


@contextlib.contextmanager
def _naming_checkpoints(folder) -> Iterator[None]:
    """Adds to the errors that end a run where it can be resumed from."""
    try:
        yield
    except (NonFiniteLoss, distributed.ProcessLost) as error:
        raise type(error)(f"{error}. The last checkpoint is in {folder}") from None
