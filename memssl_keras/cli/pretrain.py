"""`memssl pretrain`."""

import dataclasses
import pathlib
from typing import Annotated, Any

import typer

from memssl_keras.cli.common import Column, Threads, app, errors_in_words, example
from memssl_keras.cli.output import console, say


@app.command(epilog=example("memssl pretrain photos/ --recipe vits16_in1k --epochs 100 --out runs/photos"))
def pretrain(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder of images, Parquet, WebDataset shards (.tar), each as a file or a folder of them, or a "
            "data set on the Hub: NAME, OWNER/NAME, OWNER/NAME:CONFIG."
        ),
    ],
    out: Annotated[pathlib.Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    recipe: Annotated[str, typer.Option(help="Named settings; an unknown name lists them.")],
    split: Annotated[
        str | None,
        typer.Option(
            help="Files of a folder whose name starts so, or its subfolder; on the Hub the split, train by default."
        ),
    ] = None,
    column: Column = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Read while training, for what does not fit on the disk.")
    ] = False,
    images_per_epoch: Annotated[
        int | None,
        typer.Option(min=1, help="With --streaming: images of an epoch, which a stream cannot tell."),
    ] = None,
    shuffle_buffer: Annotated[
        int, typer.Option(min=1, help="With --streaming: encoded images held in memory to be shuffled.")
    ] = 5000,
    epochs: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=2, help="In place of the recipe's; of all processes together.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Parts in which a step's images are taken, for less memory.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or on a GPU mixed_bfloat16 or mixed_float16.")
    ] = None,
    half_memory: Annotated[bool, typer.Option("--half-memory", help="Store the memory in float16.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, memory, order and views.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make views; 0 for none beside this one.")
    ] = 1,
    threads: Threads = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Folder with train-*.parquet and test-*.parquet, or with train/CLASS/ and test/CLASS/: k-NN while it "
            "trains, and in the report."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="Label column of that Parquet.")] = "label",
    knn_every: Annotated[int, typer.Option(min=1, help="Epochs between two k-NN measurements.")] = 1,
    knn_k: Annotated[int, typer.Option(min=1, help="Neighbours that vote in it.")] = 20,
    held_out: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Without --labelled: pictures that are not trained on but judge the run at its end; by default a "
            "tenth, at most 300, of 1,000 and more.",
        ),
    ] = None,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints; the end of an epoch makes one too.")
    ] = 500,
    group: Annotated[
        str | None,
        typer.Option(
            help="Column that says which pictures show one thing: they may be views of each other. It is a weak label."
        ),
    ] = None,
    pairs: Annotated[
        float,
        typer.Option(min=0, max=1, help="With --group: how often a view is of another picture of the group."),
    ] = 0.5,
    start: Annotated[
        str | None,
        typer.Option(help="Trained encoder whose weights the run begins with; it has to fit the recipe's."),
    ] = None,
    max_unreadable: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the images that may be unreadable; see unreadable.csv."),
    ] = 0.05,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Curves for TensorBoard too, in the run's folder.")
    ] = False,
    allow_changed: Annotated[
        bool, typer.Option("--allow-changed", help="Resume a run although settings have changed.")
    ] = False,
):
    """Train an encoder on images without labels.

    The folder gets the encoder, the last three checkpoints, the settings, metrics.csv and at the end report.md. The
    same command resumes a run that was interrupted: a run that was killed ends as if it had not been.

    A run ends with a verdict: whether the encoder is better than the untrained one, plain pixels and its start, by k-NN
    on --labelled, else by retrieval of pictures by another view of themselves. best/ holds the best epoch's encoder.

    On several processors or GPUs: torchrun --nproc-per-node 4 -m memssl_keras pretrain …
    """
    from memssl_keras.data.huggingface import open_data
    from memssl_keras.data.labels import open_classes
    from memssl_keras.training.judging import judge_of, keep_apart
    from memssl_keras.training.recipes import get_recipe

    with errors_in_words():
        given: dict[str, Any] = {
            "epochs": epochs,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "precision": precision,
            "memory_storage": "float16" if half_memory else None,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        settings = dataclasses.replace(get_recipe(recipe), **changes)
        _check_apart(data, out)
        images = open_data(
            data,
            split=split,
            column=column,
            streaming=streaming,
            images_per_epoch=images_per_epoch,
            shuffle_buffer=shuffle_buffer,
        )
        images, held_out = keep_apart(images, held_out, labelled is not None)
        if group:
            from memssl_keras.data.pairs import Paired
            from memssl_keras.data.sources import column_of, open_source

            groups = column_of(open_source(data, split=split, column=column), group)
            groups = groups if held_out is None else groups[images.rows]
            images = Paired(images, groups, pairs)
        judged = open_classes(labelled, label) if labelled else None
        import torch

        from memssl_keras.training import distributed
        from memssl_keras.training.callbacks.progress import RunProgress
        from memssl_keras.training.callbacks.run import Terminated
        from memssl_keras.training.massl import NonFiniteLoss
        from memssl_keras.training.pretrain import pretrain as run
        from memssl_keras.training.pretrain import warnings_before
        from memssl_keras.training.report import write_report

        if threads:
            torch.set_num_threads(threads)
        distributed.join()
        main = distributed.is_main()
        console.quiet = not main
        for note in getattr(images, "notes", ()):
            say(note)
        for line in warnings_before(settings, len(images)):
            say(f"warning: {line}")
        steps = len(images) // settings.batch_size
        kind = "images of a stream" if streaming else "images"
        length = "1 epoch" if settings.epochs == 1 else f"{settings.epochs} epochs"
        say(f"{recipe}: {len(images):,} {kind}, {length} of {steps} steps")
        trained = None
        if start:
            from memssl_keras.pretrained import from_pretrained

            trained = from_pretrained(start)
        progress = RunProgress(console, say)
        judging = {
            "k": knn_k,
            "every": knn_every,
            "start": trained,
            "start_name": start,
            "folder": out,
            "seed": seed,
        }
        judge = judge_of(settings, images, held_out, judged, **judging, say=say)
        observers = [judge] if judge else []
        if tensorboard and main:
            from memssl_keras.training.callbacks.tensorboard import TensorBoard

            observers.append(TensorBoard(out / "tensorboard"))
        options: dict[str, Any] = {"checkpoint_every": checkpoint_every, "max_unreadable": max_unreadable}
        options |= {"start": trained, "allow_changed": allow_changed, "say": say}
        if main:
            observers.append(progress)
        try:
            run(settings, images, out, seed=seed, workers=workers, callbacks=observers, **options)
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"{error}. The last checkpoint is in {out / 'checkpoints'}") from None
        except Terminated as end:
            say(end)
            raise
        except KeyboardInterrupt:  # pressed twice, or before the first step
            say(f"interrupted; the last checkpoint is in {out / 'checkpoints'}")
            raise typer.Exit(130) from None
        except distributed.ProcessLost as error:
            raise distributed.ProcessLost(
                f"{error}. The last checkpoint is in {out / 'checkpoints'}"
            ) from None
        finally:
            progress.stop()
        distributed.leave()
        if main:
            write_report(out, judged.test if judged else None)
    say(f"The encoder is in {out}, the report in {out / 'report.md'}. Next: memssl export {out}")


def _check_apart(data, out):
    """Raises ValueError where the pictures that a run writes would be among those that it reads."""
    from memssl_keras.data.sources import files_of

    folder = pathlib.Path(data)
    if not folder.is_dir() or files_of(folder, ".parquet") or files_of(folder, ".tar"):
        return
    if out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out={out}: lies in {data}, whose images are read, the run's own then among them; expected another place"
        )
