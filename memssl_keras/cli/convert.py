"""`memssl convert`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import (
    Column,
    Revision,
    Split,
    Token,
    app,
    errors_in_words,
    example,
)
from memssl_keras.cli.output import progress, say


@app.command(
    epilog=example("memssl convert dino_deitsmall16_pretrain.pth --out dino --exports fp32")
    + "\n\n"
    + example(
        'memssl convert runs/glyphs --out glyphs --memory glyphs.parquet --memory-credits "Noto Emoji, Apache-2.0"'
    )
)
def convert(
    source: Annotated[
        str, typer.Argument(help="Checkpoint file, folder of a run, or a repository of timm or transformers.")
    ],
    out: Annotated[pathlib.Path, typer.Option(help="Folder to write.")],
    branch: Annotated[str, typer.Option(help="teacher or student, of a training checkpoint.")] = "teacher",
    num_heads: Annotated[
        int | None, typer.Option(min=1, help="Attention heads, where the width does not tell them.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side of the square images, where nothing tells the shape of the patch grid."
        ),
    ] = None,
    exports: Annotated[str, typer.Option(help="Some of transformers, keras, fp32, with commas.")] = "",
    half: Annotated[bool, typer.Option("--half", help="Weights in float16: half the bytes.")] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            help="Of a run of memssl pretrain, ship its memory: what it was trained on, as it was given there."
        ),
    ] = None,
    memory_credits: Annotated[
        str | None,
        typer.Option(help="With --memory: whose pictures these are and their licence, for the card."),
    ] = None,
    memory_split: Split = None,
    memory_column: Column = None,
    thumbnail: Annotated[
        int, typer.Option(min=8, help="With --memory: longer side of the pictures shipped, in pixels.")
    ] = 48,
    white: Annotated[
        str | None,
        typer.Option(
            help="Of a run with a ResNet, make the features white over these pictures, unlabelled: better neighbours."
        ),
    ] = None,
    pooling_grid: Annotated[
        str | None,
        typer.Option(
            help="With --white: a number for each stage of the ResNet, with commas. Of 0,3,3 features are means over "
            "3 × 3 parts of the second and third maps; the last number is the one that it was trained with."
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --white: axes that are scaled each by its own variance, 256 by default; fewer make a smaller "
            "file.",
        ),
    ] = None,
    shrinkage: Annotated[
        float | None,
        typer.Option(
            help="With --white: what is added to every variance, as a share of their mean; 0.1 by default."
        ),
    ] = None,
    power: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With --white: how far; 1 by default, 0.5 where few labelled pictures have to do.",
        ),
    ] = None,
    reduce: Annotated[
        bool, typer.Option("--reduce", help="With --white: features of RANK numbers, for smaller indexes.")
    ] = False,
    revision: Revision = None,
    token: Token = None,
):
    """Turn a checkpoint of MaSSL, DINO, iBOT, DINOv2, MSN, MoCo v3, timm or transformers into a folder of ours.

    A MaSSL checkpoint keeps head and memory, in the folder training/, so that pretraining can be continued.

    With --memory, the folder of a run that is done gets memory/, which the demo shows: the vectors in memory, and
    thumbnails of the pictures that they are of. --out may be the run's folder itself.

    With --white, the encoder gets a last linear layer that makes its features white over up to 10,000 of these
    pictures, in which no direction drowns the others any more; the head of the memory undoes it. --pooling-grid takes
    the maps of earlier stages into these features, beside that of the last one.
    """
    with errors_in_words():
        from memssl_keras.conversion import convert as run
        from memssl_keras.zoo.card import write_card

        options = _white_options(
            white, pooling_grid, rank=rank, shrinkage=shrinkage, power=power, reduce=reduce or None
        )
        found = _open_memory(source, memory, memory_credits, memory_split, memory_column)
        model, facts = _whitened(source, out, white, found, options)
        if found and model:
            found = found._replace(model=model)
        chosen = [name.strip() for name in exports.split(",") if name.strip()]
        settings = {"branch": branch, "num_heads": num_heads, "image_size": image_size, "exports": chosen}
        encoder = run(
            source,
            out,
            **settings,
            half=half,
            encoder=model and model.encoder,
            revision=revision,
            token=token,
        )
        say(f"{out}: {_kind(encoder)}")
        if facts:
            write_card(out, out.resolve().name, **facts)
        if found:
            _ship_memory(found, out, memory_credits, thumbnail, half)


def _kind(encoder):
    if not encoder.gives_tokens:
        return f"a {type(encoder).__name__} of width {encoder.embed_dim}"
    return (
        f"a ViT of width {encoder.embed_dim}, {encoder.depth} blocks, {encoder.num_heads} heads, patch "
        f"{encoder.patch_size}, for {encoder.image_size} px"
    )


def _white_options(white, pooling_grid, **numbers):
    given = {name: number for name, number in numbers.items() if number is not None}
    if white is None:
        if pooling_grid or given:
            raise ValueError(
                "--pooling-grid, --rank, --shrinkage, --power and --reduce: expected only with --white"
            )
        return {}
    try:
        grids = pooling_grid and tuple(int(number) for number in pooling_grid.split(","))
    except ValueError:
        raise ValueError(
            f"--pooling-grid={pooling_grid}: expected whole numbers with commas, such as 0,3,3"
        ) from None
    return {"pooling_grid": grids, "shrinkage": 0.1, "rank": 256, "power": 1.0, "reduce": False} | given


def _whitened(run, out, data, found, options, most=10_000):
    """The `MaSSL` of a run with white features, and what the card says of them; None and nothing without data."""
    if data is None:
        return None, {}
    import numpy as np

    from memssl_keras.data.huggingface import open_data
    from memssl_keras.training.whiten import whiten
    from memssl_keras.zoo.run_memory import model_of_run

    if pathlib.Path(run).resolve() == out.resolve():
        raise ValueError(f"--out={out}: with --white, expected another folder than that of the run")
    model, images = found.model if found else model_of_run(run)[0], open_data(data)
    rows = np.random.default_rng(0).permutation(len(images))[:most]
    say(f"PCA whitening over {len(rows):,} of {len(images):,} pictures")
    white = whiten(model, (images[int(row)] for row in rows), **options)
    said = (
        f"After training, PCA whitening was fitted as a last linear layer, over {len(rows):,} of "
        f"{len(images):,} pictures without labels (shrinkage {options['shrinkage']}, rank "
        f"{options['rank']}, power {options['power']})."
    )
    if options["reduce"]:
        said += f" Features are reduced to its {white.encoder.embed_dim} axes."
    if grid := options["pooling_grid"]:
        grids = [f"a {n} × {n} grid of the map of stage {stage + 1}" for stage, n in enumerate(grid) if n]
        said += f" The features are means over {', '.join(reversed(grids))}."
    return white, {"whitening": said}


def _open_memory(source, data, credits, split, column):
    """What is to be shipped, checked before anything is written; None where nothing is."""
    if data is None:
        if credits or split or column:
            raise ValueError(
                "--memory-credits, --memory-split and --memory-column: expected only with --memory"
            )
        return None
    if not (credits or "").strip():
        raise ValueError(
            "--memory-credits: got none; expected whose pictures these are and under which licence, for the card"
        )
    from memssl_keras.data.huggingface import open_data
    from memssl_keras.zoo.run_memory import memory_of_run

    return memory_of_run(source, open_data(data, split=split, column=column))


def _ship_memory(found, out, credits, size, half):
    from memssl_keras.zoo.card import write_card
    from memssl_keras.zoo.run_memory import ship_memory

    with progress("pictures") as bar:
        advance = bar.start("memory", len(found.slots)).advance
        written = ship_memory(found, out, credits, size=size, half=half, advance=advance)
    write_card(out, out.resolve().name, memory=credits.strip())
    sizes = ", ".join(f"{file} {size / 1e6:.2f} MB" for file, size in written.items())
    filled = int((found.slots >= 0).sum())
    say(f"{out}: memory of {len(found.slots):,} slots, {filled:,} with pictures: {sizes}")
