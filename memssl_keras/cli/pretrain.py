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
        help="Folder of images, Parquet, WebDataset shards (.tar), each as a file or a folder of them, or a "
        "data set on the Hub: NAME, OWNER/NAME, OWNER/NAME:CONFIG."
    ),
]
Out = Annotated[pathlib.Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")]
Recipe = Annotated[
    str | None,
    typer.Option(help="Named settings (memssl models lists them); by default chosen by pictures and --init."),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Files of a folder whose name starts so, or its subfolder; on the Hub the split, train by default."
    ),
]
Streaming = Annotated[
    bool, typer.Option("--streaming", help="Read while training, for what does not fit on the disk.")
]
ImagesPerEpoch = Annotated[
    int | None,
    typer.Option(min=1, help="With --streaming: images of an epoch, which a stream cannot tell."),
]
ShuffleBuffer = Annotated[
    int, typer.Option(min=1, help="With --streaming: encoded images held in memory to be shuffled.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")]
BatchSize = Annotated[
    int | None, typer.Option(min=2, help="In place of the recipe's; of all processes together.")
]
Accumulate = Annotated[
    int | None, typer.Option(min=1, help="Parts in which a step's images are taken, for less memory.")
]
Precision = Annotated[str | None, typer.Option(help="float32, or on a GPU mixed_bfloat16 or mixed_float16.")]
HalfMemory = Annotated[bool, typer.Option("--half-memory", help="Store the memory in float16.")]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, memory, order and views.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that make views; 0 for none beside this one.")]
Labelled = Annotated[
    str | None,
    typer.Option(
        help="Folder with train-*.parquet and test-*.parquet, or with train/CLASS/ and test/CLASS/: k-NN while it "
        "trains, and in the report."
    ),
]
Label = Annotated[str, typer.Option(help="Label column of that Parquet.")]
KnnEvery = Annotated[int, typer.Option(min=1, help="Epochs between two k-NN measurements.")]
KnnK = Annotated[int, typer.Option(min=1, help="Neighbours that vote in it.")]
HeldOut = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Without --labelled: pictures that are not trained on but judge the run at its end; by default a "
        "tenth, at most 300, of 1,000 and more.",
    ),
]
CheckpointEvery = Annotated[
    int, typer.Option(min=1, help="Steps between two checkpoints; the end of an epoch makes one too.")
]
Group = Annotated[
    str | None,
    typer.Option(
        help="Column that says which pictures show one thing: they may be views of each other. It is a weak label."
    ),
]
Pairs = Annotated[
    float,
    typer.Option(min=0, max=1, help="With --group: how often a view is of another picture of the group."),
]
Init = Annotated[
    str | None,
    typer.Option(
        help="Trained encoder to go on from: bundled, on the Hub (facebook/dinov2-small), a folder or a checkpoint. "
        "With --recipe it has to fit the recipe's architecture."
    ),
]
Teacher = Annotated[
    str | None,
    typer.Option(
        help="Frozen encoder to distil into the recipe's, in place of the momentum teacher: MODEL as for evaluate, "
        "its ONNX as MODEL@VARIANT."
    ),
]
MaxUnreadable = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of the images that may be unreadable; see unreadable.csv."),
]
Tensorboard = Annotated[
    bool, typer.Option("--tensorboard", help="Curves for TensorBoard too, in the run's folder.")
]
AllowChanged = Annotated[
    bool, typer.Option("--allow-changed", help="Resume a run although settings have changed.")
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
    pairs: Pairs = 0.5,
    init: Init = None,
    teacher: Teacher = None,
    max_unreadable: MaxUnreadable = 0.05,
    tensorboard: Tensorboard = False,
    allow_changed: AllowChanged = False,
) -> None:
    """Train an encoder on images without labels, from scratch or on from a trained one.

    The folder gets the encoder, the last three checkpoints, the settings, metrics.csv and at the end report.md. The
    same command resumes a run that was interrupted: a run that was killed ends as if it had not been.

    A run ends with a verdict: whether the encoder is better than the untrained one, plain pixels and its start, by k-NN
    on --labelled, else by retrieval of pictures by another view of themselves. best/ holds the best epoch's encoder.

    On several processors or GPUs: torchrun --nproc-per-node 4 -m memssl_keras pretrain …
    """
    from memssl_keras.training import distributed
    from memssl_keras.training.choose import choose_recipe
    from memssl_keras.training.recipes import get_recipe
    from memssl_keras.training.run import described, open_run, pretrain_judged

    with errors_in_words():
        given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
        given |= {"precision": precision, "memory_storage": "float16" if half_memory else None}
        changes = {name: value for name, value in given.items() if value is not None}
        _check(recipe, init, teacher, group, streaming, out)
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
        start = _opened(init)
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
                init_name=init or "start",
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


def _check(recipe, init, teacher, group, streaming, out):
    """Refuse what makes no sense together, before anything is read."""
    from memssl_keras.weights.config import split_variant

    if teacher and (group or streaming):
        raise ValueError(
            f"--teacher={teacher}: embeds each picture once; expected neither --group nor --streaming with it"
        )
    if teacher and teacher == init:
        raise ValueError(f"--teacher={teacher}: is the student too (--init); expected another encoder")
    for option, name in (("--init", init), ("--teacher", teacher)):
        place = pathlib.Path(split_variant(name)[0]) if name else None
        if place and place.exists() and place.resolve() == out.resolve():
            raise ValueError(
                f"--out={out}: is the folder of {option}, which would be overwritten; expected another one"
            )
    if recipe == "adapt" and not init:
        raise ValueError("--recipe=adapt: goes on from a trained encoder; expected --init MODEL")


def _opened(name):
    from memssl_keras.pretrained import from_pretrained

    return from_pretrained(name) if name else None


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

    progress = RunProgress(console, say)
    try:
        yield progress
    except Terminated as end:
        say(end)
        raise
    except KeyboardInterrupt:  # pressed twice, or before the first step
        say(f"interrupted; the last checkpoint is in {out / 'checkpoints'}")
        raise typer.Exit(130) from None
    finally:
        progress.stop()
