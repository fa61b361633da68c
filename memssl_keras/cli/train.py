"""`memssl pretrain`."""

import dataclasses
import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Column,
    Data,
    Split,
    Threads,
    app,
    console,
    errors_in_words,
    example,
)


@app.command(epilog=example("memssl pretrain photos/ --recipe vits16_in1k --epochs 100 --out runs/photos"))
def pretrain(
    data: Data,
    out: Annotated[pathlib.Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")],
    recipe: Annotated[str, typer.Option(help="Named settings; an unknown name lists them.")],
    split: Split = None,
    column: Column = None,
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
    half_memory: Annotated[
        bool, typer.Option("--half-memory", help="Store the memory of concepts in float16.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, memory, order and views.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make views; 0 for none beside this one.")
    ] = 1,
    threads: Threads = None,
    labelled: Annotated[
        str | None,
        typer.Option(
            help="Labelled train-*.parquet and test-*.parquet: k-NN while it trains, and in the report."
        ),
    ] = None,
    label: Annotated[str, typer.Option(help="Label column of those.")] = "label",
    knn_every: Annotated[int, typer.Option(min=1, help="Epochs between two k-NN measurements.")] = 1,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints; the end of an epoch makes one too.")
    ] = 500,
    allow_changed: Annotated[
        bool, typer.Option("--allow-changed", help="Go on with a run although settings have changed.")
    ] = False,
):
    """Train an encoder on images without labels.

    The folder gets the encoder, the last three checkpoints, the settings, metrics.csv and at the end report.md. The
    same command goes on with a run that was interrupted: a run that was killed ends as if it had not been.

    On several processors or GPUs: torchrun --nproc-per-node 4 -m memssl_keras pretrain …
    """
    from memssl_keras.recipes import get_recipe
    from memssl_keras.sources import labels_of, open_source

    with errors_in_words():
        given = {
            "epochs": epochs,
            "batch_size": batch_size,
            "accumulate": accumulate,
            "precision": precision,
            "memory_storage": "float16" if half_memory else None,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        settings = dataclasses.replace(get_recipe(recipe), **changes)
        images = open_source(data, split=split, column=column)
        voters, held_out = (open_source(labelled, split=s) if labelled else None for s in ("train", "test"))
        import torch

        from memssl_keras import distributed
        from memssl_keras.callbacks import RichProgress, Terminated
        from memssl_keras.massl import NonFiniteLoss
        from memssl_keras.observe import OnlineKNN
        from memssl_keras.pretrain import pretrain as run
        from memssl_keras.report import write_report

        if threads:
            torch.set_num_threads(threads)
        distributed.join()
        main = distributed.is_main()
        console.quiet = not main
        steps = len(images) // settings.batch_size
        console.print(f"{recipe}: {len(images):,} images, {settings.epochs} epochs of {steps} steps")
        progress = RichProgress(console)
        observers = []
        if labelled:
            labels = (labels_of(source, label) for source in (voters, held_out))
            observers = [OnlineKNN(voters, next(labels), held_out, next(labels), every=knn_every)]
        if main:
            observers.append(progress)
        options = {"checkpoint_every": checkpoint_every, "allow_changed": allow_changed, "say": console.print}
        try:
            run(settings, images, out, seed=seed, workers=workers, callbacks=observers, **options)
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"{error}. The last checkpoint is in {out / 'checkpoints'}") from None
        except Terminated as end:
            console.print(str(end))
            raise
        except distributed.ProcessLost as error:
            raise distributed.ProcessLost(
                f"{error}. The last checkpoint is in {out / 'checkpoints'}"
            ) from None
        finally:
            progress.stop()
        distributed.leave()
        if main:
            write_report(out, held_out)
    console.print(f"The encoder is in {out}, the report in {out / 'report.md'}. Next: memssl export {out}")
