"""`memssl whiten`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Column,
    Data,
    Exports,
    Half,
    Run,
    Split,
    app,
    errors_in_words,
    example,
    listed,
)
from memssl_keras.cli.output import say

Out = Annotated[pathlib.Path, typer.Option(help="Folder to write; another one than that of the run.")]
PoolingGrid = Annotated[
    str | None,
    typer.Option(
        help="A number for each stage of the ResNet, with commas. Of 0,3,3 features are means over 3 × 3 parts of "
        "the second and third maps; the last number is the one that it was trained with."
    ),
]
Rank = Annotated[
    int,
    typer.Option(min=1, help="Axes that are scaled each by its own variance; fewer make a smaller file."),
]
Shrinkage = Annotated[float, typer.Option(help="What is added to every variance, as a share of their mean.")]
Power = Annotated[
    float,
    typer.Option(min=0, max=1, help="How far; 0.5 where few labelled pictures have to do."),
]
Reduce = Annotated[bool, typer.Option("--reduce", help="Features of RANK numbers, for smaller indexes.")]


@app.command(epilog=example("memssl whiten runs/photos photos/ --out photos-model --pooling-grid 0,0,3,3"))
def whiten(
    run: Run,
    data: Data,
    out: Out,
    pooling_grid: PoolingGrid = None,
    rank: Rank = 256,
    shrinkage: Shrinkage = 0.1,
    power: Power = 1.0,
    reduce: Reduce = False,
    exports: Exports = "",
    half: Half = False,
    split: Split = None,
    column: Column = None,
) -> None:
    """Add PCA whitening to the encoder of a run with a ResNet: better neighbours.

    The encoder gets a last linear layer that makes its features white over up to 10,000 of these pictures, without
    labels: no direction drowns the others any more. --pooling-grid takes the maps of earlier stages into the features,
    beside that of the last one.
    """
    with errors_in_words():
        from memssl_keras import conversion
        from memssl_keras.data.huggingface import open_data

        images = open_data(data, split=split, column=column)
        encoder = conversion.whiten_run(
            run,
            images,
            out,
            rank=rank,
            shrinkage=shrinkage,
            power=power,
            reduce=reduce,
            pooling_grid=_grid(pooling_grid),
            exports=listed(exports),
            half=half,
        )
        taken = min(len(images), conversion.WHITENED_OVER)
        say(f"{out}: {encoder.describe()}, PCA whitening over {taken:,} of {len(images):,} pictures")


def _grid(text):
    try:
        return tuple(int(number) for number in text.split(",")) if text else None
    except ValueError:
        raise ValueError(
            f"--pooling-grid={text}: expected whole numbers with commas, such as 0,3,3"
        ) from None
