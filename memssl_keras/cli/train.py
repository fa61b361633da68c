"""`memssl pretrain` and `memssl evaluate`."""

import dataclasses
import json
import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Column,
    Data,
    Model,
    Split,
    Threads,
    app,
    console,
    errors_in_words,
    example,
    progress_bar,
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


@app.command(epilog=example("memssl evaluate runs/cifar10 --data cifar10/ --out results.json"))
def evaluate(
    model: Model,
    data: Annotated[str, typer.Option(help="Folder with train-*.parquet and test-*.parquet, labelled.")],
    label: Annotated[str, typer.Option(help="Label column.")] = "label",
    k: Annotated[int, typer.Option(min=1, help="Neighbours that vote.")] = 20,
    temperature: Annotated[float, typer.Option(help="Of the vote.")] = 0.07,
    out: Annotated[pathlib.Path | None, typer.Option(help="Write the figures as JSON too.")] = None,
):
    """Score an encoder by k-nearest neighbours, beside the same one untrained and raw pixels.

    Every training image is a neighbour that may vote, every test image is asked for.
    """
    from rich.table import Table

    with errors_in_words():
        import keras

        from memssl_keras.evaluate.knn import knn_accuracy, pixels
        from memssl_keras.pretrained import embed, from_pretrained, preprocessing_of
        from memssl_keras.sources import labels_of, open_source

        encoder = from_pretrained(model)
        sources = [open_source(data, split=split) for split in ("train", "test")]
        labels = [labels_of(source, label) for source in sources]
        keras.utils.set_random_seed(0)
        untrained = type(encoder).from_config(encoder.get_config())
        size = preprocessing_of(encoder).image_size
        extractors = {
            f"raw pixels, {size} px": lambda images: pixels(images, size),
            "the encoder, untrained": lambda images: embed(untrained, images),
            "the encoder": lambda images: embed(encoder, images),
        }
        scores = {}
        for name, extract in extractors.items():
            train, test = (_features(extract, source, name) for source in sources)
            scores[name] = knn_accuracy(train, labels[0], test, labels[1], k, temperature)
        counts = {"train": len(sources[0]), "test": len(sources[1])}
        title = f"k = {k}, T = {temperature}, {counts['train']:,} train and {counts['test']:,} test images"
        table = Table("features", "k-NN accuracy", title=title)
        for name, accuracy in scores.items():
            table.add_row(name, f"{accuracy:.2%}")
        console.print(table)
        if out:
            figures = {
                "model": model,
                "data": data,
                **counts,
                "k": k,
                "temperature": temperature,
                "knn": scores,
            }
            out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _features(extract, source, name, chunk=500):
    import numpy as np

    with progress_bar("chunks") as progress:
        starts = progress.track(range(0, len(source), chunk), description=name)
        return np.concatenate([extract([source[i] for i in _range(s, chunk, source)]) for s in starts])


def _range(start, count, source):
    return range(start, min(start + count, len(source)))
