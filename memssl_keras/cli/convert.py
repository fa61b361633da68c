"""`memssl convert`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Exports,
    Half,
    ImageSize,
    Revision,
    Token,
    app,
    errors_in_words,
    example,
    listed,
)
from memssl_keras.cli.output import say


@app.command(epilog=example("memssl convert dino_deitsmall16_pretrain.pth --out dino --exports fp32"))
def convert(
    source: Annotated[
        str, typer.Argument(help="Checkpoint file, folder of a run, or a repository of timm or transformers.")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="Folder to write.")],
    network: Annotated[
        str, typer.Option(help="Network of a training checkpoint: teacher or student.")
    ] = "teacher",
    num_heads: Annotated[
        int | None,
        typer.Option(min=1, help="Number of attention heads, if it cannot be told from the width."),
    ] = None,
    trained_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of the square images that the checkpoint was trained on, if it does not tell the shape of its "
            "patch grid.",
        ),
    ] = None,
    image_size: ImageSize = None,
    exports: Exports = "",
    half: Half = False,
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Convert a checkpoint of another project into a folder of memssl-keras.

    It reads ViTs and ResNets of MaSSL, DINO, iBOT, DINOv2, MSN, MoCo, SwAV,
    timm, transformers and others. From a MaSSL checkpoint it also keeps the
    projection head and the memory, in training/, to continue pretraining.
    """
    with errors_in_words():
        from memssl_keras import conversion

        encoder = conversion.convert(
            source,
            out,
            network=network,
            num_heads=num_heads,
            trained_size=trained_size,
            image_size=image_size,
            exports=listed(exports),
            half=half,
            revision=revision,
            token=token,
        )
        say(f"{out}: {encoder.describe()}")
