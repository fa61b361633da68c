"""`memssl pretrain`."""

import contextlib
import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import Column, Threads, app, errors_in_words, example
from memssl_keras.cli.output import console, progress, say

Data = Annotated[
    str,
    typer.Argument(
        help="Folder of images, Parquet file, WebDataset shard (.tar), folder of Parquet files or shards, or data set "
        "on the Hub: NAME, OWNER/NAME, OWNER/NAME:CONFIG."
    ),
]
Out = Annotated[pathlib.Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="Name of the settings (memssl models lists them); by default chosen from the pictures, the hardware and "
        "--init."
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Read only the Parquet files whose name starts with this, or this subfolder; on the Hub this split, "
        "train by default."
    ),
]
Streaming = Annotated[
    bool,
    typer.Option("--streaming", help="Read images while training, for data that does not fit on the disk."),
]
ImagesPerEpoch = Annotated[
    int | None,
    typer.Option(min=1, help="With --streaming, required: number of images in an epoch."),
]
ShuffleBuffer = Annotated[
    int, typer.Option(min=1, help="With --streaming: size of the shuffle buffer, in images.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Number of epochs; by default the recipe's.")]
BatchSize = Annotated[
    int | None,
    typer.Option(min=2, help="Images per step, of all processes together; by default the recipe's."),
]
Accumulate = Annotated[
    int | None, typer.Option(min=1, help="Process a step's images in this many parts, to save memory.")
]
Precision = Annotated[str | None, typer.Option(help="float32, or on a GPU mixed_bfloat16 or mixed_float16.")]
HalfMemory = Annotated[bool, typer.Option("--half-memory", help="Store the memory in float16.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of weights, memory, image order and views.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that make views; with 0, this process makes them.")
]
Labelled = Annotated[
    str | None,
    typer.Option(
        help="Labelled images to score the encoder by k-NN: folder with train-*.parquet and test-*.parquet, or with "
        "train/CLASS/ and test/CLASS/."
    ),
]
Label = Annotated[str, typer.Option(help="Column of labels in the Parquet files of --labelled.")]
KnnEvery = Annotated[int, typer.Option(min=1, help="With --labelled: epochs between two k-NN measurements.")]
KnnK = Annotated[int, typer.Option(min=1, help="With --labelled: number of neighbours in k-NN.")]
HeldOut = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Without --labelled: number of pictures held out from training to score the encoder. By default a tenth "
        "of the pictures, at most 300; none if there are fewer than 1,000.",
    ),
]
CheckpointEvery = Annotated[
    int, typer.Option(min=1, help="Steps between two checkpoints; the end of an epoch makes one too.")
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column that says which pictures show the same thing, a weak label: they may be views of each other."
    ),
]
Pairs = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="With --group: probability that views come from another picture of the group."
    ),
]
PAIRS = 0.5
Init = Annotated[
    str | None,
    typer.Option(
        help="Trained encoder to start from: a bundled model, a repository on the Hub, a folder or a checkpoint. "
        "With --recipe it must have the recipe's architecture."
    ),
]
InitSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="With --init: side in pixels of the square that the encoder sees, of a ViT a multiple of its patch; by "
        "default its own. Views have this size, and the new encoder keeps it.",
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="Frozen encoder to distil into the recipe's encoder; it replaces the momentum teacher. Any MODEL that "
        "memssl evaluate takes; MODEL@VARIANT for an ONNX variant."
    ),
]
MaxUnreadable = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="End the run if a larger share of the images is unreadable; unreadable.csv lists them. By default a "
        "twentieth; of few pictures up to ten of them.",
    ),
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Write curves for TensorBoard into the run's folder too.")
]
AllowChanged = Annotated[
    bool, typer.Option("--allow-changed", help="Resume a run even if settings have changed.")
]


@app.command(epilog=example("memssl pretrain photos/ --init facebook/dinov2-small --out runs/photos"))
def pretrain(
    data: Data,
    out: Out,
    recipe: Recipe = None,
    split: Split = None,
    column: Column = None,
    streaming: Streaming = False,
    images_per_epoch: ImagesPerEpoch = None,
    shuffle_buffer: ShuffleBuffer = 5000,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    precision: Precision = None,
    half_memory: HalfMemory = False,
    seed: Seed = 0,
    workers: Workers = 1,
    threads: Threads = None,
    labelled: Labelled = None,
    label: Label = "label",
    knn_every: KnnEvery = 1,
    knn_k: KnnK = 20,
    held_out: HeldOut = None,
    checkpoint_every: CheckpointEvery = 500,
    group: Group = None,
    pairs: Pairs = PAIRS,
    init: Init = None,
    image_size: InitSize = None,
    teacher: Teacher = None,
    max_unreadable: MaxUnreadable = None,
    tensorboard: Tensorboard = False,
    allow_changed: AllowChanged = False,
) -> None:
    """Train an encoder on images without labels.

    Training starts from scratch, or from a trained encoder (--init). With
    --teacher it distils a frozen encoder into a smaller one.

    The folder --out holds the encoder, the last three checkpoints, the settings,
    metrics.csv and, at the end, report.md. The same command resumes an
    interrupted run.

    The run ends with a verdict: is the encoder better than the untrained one,
    than plain pixels, and than the encoder it started from? The measure is k-NN
    on --labelled, or else retrieval of held-out pictures by another view of
    themselves. best/ holds the encoder of the best epoch.

    In several processes: torchrun --nproc-per-node 4 -m memssl_keras pretrain …
    """
    from memssl_keras.training import distributed
    from memssl_keras.training.choose import choose_recipe
    from memssl_keras.training.recipes import get_recipe
    from memssl_keras.training.run import described, open_run, pretrain_judged

    with errors_in_words():
        given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
        given |= {"precision": precision, "memory_storage": "float16" if half_memory else None}
        changes = {name: value for name, value in given.items() if value is not None}
        _check(recipe, init, image_size, teacher, group, pairs, streaming, out)
        if recipe and recipe != "adapt":
            get_recipe(recipe)  # an unknown one is said before anything is read
        opened = open_run(
            data,
            out,
            split=split,
            column=column,
            streaming=streaming,
            images_per_epoch=images_per_epoch,
            shuffle_buffer=shuffle_buffer,
            held_out=held_out,
            labelled=labelled,
            label=label,
            group=group,
            pairs=pairs,
        )
        start = _opened(init, image_size)
        settings, words = choose_recipe(opened.images, recipe, start, **changes)
        if threads:
            import torch

            torch.set_num_threads(threads)
        distributed.join()
        console.quiet = not distributed.is_main()
        for line in [*words, *described(settings, opened)]:
            say(line)
        with _ending(out) as progress:
            pretrain_judged(
                settings,
                opened,
                out,
                init=start,
                init_name=f"{init} at {image_size} px" if image_size else init or "start",
                teacher=_teacher(teacher, threads),
                track=lambda starts: _tracked(starts, teacher),
                knn_k=knn_k,
                knn_every=knn_every,
                seed=seed,
                workers=workers,
                checkpoint_every=checkpoint_every,
                max_unreadable=max_unreadable,
                allow_changed=allow_changed,
                tensorboard=tensorboard,
                callbacks=[progress],
                say=say,
            )
    say(f"The encoder is in {out}, the report in {out / 'report.md'}. Next: memssl export {out}")


def _check(recipe, init, image_size, teacher, group, pairs, streaming, out):
    """Refuse what makes no sense together, before anything is read."""
    from memssl_keras.weights.config import split_variant

    if teacher and (group or streaming):
        raise ValueError(
            f"--teacher={teacher}: embeds each picture once; expected neither --group nor --streaming with it"
        )
    if group and streaming:
        raise ValueError(
            f"--group={group}: takes partners from anywhere in the data; expected no --streaming with it"
        )
    if pairs != PAIRS and not group:
        raise ValueError(f"--pairs={pairs}: is of pictures in groups; expected --group COLUMN with it")
    if teacher and teacher == init:
        raise ValueError(f"--teacher={teacher}: is the student too (--init); expected another encoder")
    for option, name in (("--init", init), ("--teacher", teacher)):
        place = pathlib.Path(split_variant(name)[0]) if name else None
        if place and place.exists() and place.resolve() == out.resolve():
            raise ValueError(
                f"--out={out}: is the folder of {option}, which would be overwritten; expected another one"
            )
    if image_size and (not init or recipe not in (None, "adapt")):
        expected = "--init MODEL with it" if not init else "no --recipe, which sets the size itself"
        raise ValueError(f"--image-size={image_size}: is of the encoder to adapt; expected {expected}")
    if recipe == "adapt" and not init:
        raise ValueError("--recipe=adapt: starts from a trained encoder; expected --init MODEL")


def _opened(name, image_size=None):
    from memssl_keras.pretrained import from_pretrained

    return from_pretrained(name, image_size=image_size) if name else None


def _teacher(name, threads):
    from memssl_keras.models import open_embedder

    return open_embedder(name, threads) if name else None


def _tracked(starts, name):
    with progress("chunks of 1,000 pictures") as steps:
        yield from steps.track(starts, f"{name} embeds the pictures")


@contextlib.contextmanager
def _ending(out):
    """Shows progress, and says how a run ended that did not reach its end."""
    from memssl_keras.training.callbacks.progress import RunProgress
    from memssl_keras.training.callbacks.run import Terminated
    from memssl_keras.training.checkpoints import Checkpoints

    progress = RunProgress(console, say)
    try:
        yield progress
    except Terminated as end:
        say(end)
        raise
    except KeyboardInterrupt:  # pressed twice, or before the first step
        kept = Checkpoints(out / "checkpoints").paths()
        say(
            f"interrupted; the last checkpoint is {kept[-1]}"
            if kept
            else "interrupted before the first checkpoint"
        )
        raise typer.Exit(130) from None
    finally:
        progress.stop()
