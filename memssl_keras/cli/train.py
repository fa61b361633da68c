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
):
    """Train an encoder on images without labels.

    The folder gets the encoder, the checkpoint to go on from, the settings and metrics.csv, after every epoch.
    """
    from memssl_keras.recipes import get_recipe
    from memssl_keras.sources import open_source

    with errors_in_words():
        changes = {k: v for k, v in {"epochs": epochs, "batch_size": batch_size}.items() if v is not None}
        settings = dataclasses.replace(get_recipe(recipe), **changes)
        images = open_source(data, split=split, column=column)
        import torch

        from memssl_keras.callbacks import RichProgress
        from memssl_keras.massl import NonFiniteLoss
        from memssl_keras.pretrain import pretrain as run

        if threads:
            torch.set_num_threads(threads)
        steps = len(images) // settings.batch_size
        console.print(f"{recipe}: {len(images):,} images, {settings.epochs} epochs of {steps} steps")
        progress = RichProgress(console)
        try:
            run(settings, images, out, seed=seed, workers=workers, callbacks=[progress])
        except NonFiniteLoss as error:
            raise NonFiniteLoss(f"{error}. The state after the last complete epoch is in {out}") from None
        finally:
            progress.stop()
    console.print(f"The encoder is in {out}. Next: memssl export {out}")
