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

Out = Annotated[pathlib.Path, typer.Option(help="Folder to write; must not be the run's folder.")]
PoolingGrid = Annotated[
    str | None,
    typer.Option(
        help="One number for each stage of the ResNet, separated by commas. With 0,3,3 the features are means over a "
        "3 × 3 grid of the maps of stages 2 and 3. The last number must be that of the trained encoder."
    ),
]
Rank = Annotated[
    int,
    typer.Option(
        min=1, help="Number of principal axes that are scaled individually; fewer make a smaller file."
    ),
]
Shrinkage = Annotated[
    float, typer.Option(help="Regularisation: this share of the mean variance is added to every variance.")
]
Power = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Strength: 1 whitens fully, 0 only centres; try 0.5 for classes of few labelled pictures.",
    ),
]
Reduce = Annotated[
    bool, typer.Option("--reduce", help="Reduce features to RANK numbers, for smaller indexes.")
]


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
    """Add PCA whitening to the ResNet of a run, for nearest-neighbour search.

    The encoder gets a last linear layer that gives every direction of its
    features the same variance. It is fitted to up to 10,000 of these pictures,
    without labels. Whitening usually helps k-NN and retrieval, and can hurt
    classification from few labels: compare with memssl evaluate.
    --pooling-grid adds features from the maps of earlier stages.
    """
    with errors_in_words():
        from memssl_keras import conversion
        from memssl_keras.data.huggingface import open_data

        images = open_data(data, split=split, column=column)
        encoder, fitted = conversion.whiten_run(
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
        say(f"{out}: {encoder.describe()}, PCA whitening over {fitted:,} of {len(images):,} pictures")


def _grid(text):
    try:
        return tuple(int(number) for number in text.split(",")) if text else None
    except ValueError:
        raise ValueError(
            f"--pooling-grid={text}: expected whole numbers with commas, such as 0,3,3"
        ) from None
