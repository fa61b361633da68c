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
    batch_size: Annotated[int | None, typer.Option(min=2, help="In place of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, memory, order and views.")] = 0,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make views; 0 for none beside this one.")
    ] = 1,
    threads: Threads = None,
    checkpoint_every: Annotated[
        int, typer.Option(min=1, help="Steps between two checkpoints; the end of an epoch makes one too.")
    ] = 500,
    allow_changed: Annotated[
        bool, typer.Option("--allow-changed", help="Go on with a run although settings have changed.")
    ] = False,
):
    """Train an encoder on images without labels.

    The folder gets the encoder, the last three checkpoints, the settings and metrics.csv. The same command goes on
    with a run that was interrupted: a run that was killed ends as if it had not been. SIGTERM saves first.
    """
    from memssl_keras.recipes import get_recipe
    from memssl_keras.sources import open_source

    with errors_in_words():
        changes = {k: v for k, v in {"epochs": epochs, "batch_size": batch_size}.items() if v is not None}
        settings = dataclasses.replace(get_recipe(recipe), **changes)
        images = open_source(data, split=split, column=column)
        import torch

        from memssl_keras.callbacks import RichProgress, Terminated
        from memssl_keras.massl import NonFiniteLoss
        from memssl_keras.pretrain import pretrain as run

        if threads:
            torch.set_num_threads(threads)
        steps = len(images) // settings.batch_size
        console.print(f"{recipe}: {len(images):,} images, {settings.epochs} epochs of {steps} steps")
        progress = RichProgress(console)
        options = {"checkpoint_every": checkpoint_every, "allow_changed": allow_changed, "say": console.print}
        try:
            run(settings, images, out, seed=seed, workers=workers, callbacks=[progress], **options)
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"{error}. The last checkpoint is in {out / 'checkpoints'}") from None
        except Terminated as end:
            console.print(str(end))
            raise
        finally:
            progress.stop()
    console.print(f"The encoder is in {out}. Next: memssl export {out}")
