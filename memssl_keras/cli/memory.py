"""`memssl memory`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import Column, Data, Half, Run, Split, app, errors_in_words, example
from memssl_keras.cli.output import progress, say


@app.command(epilog=example('memssl memory runs/glyphs glyphs.parquet --credits "Noto Emoji, Apache-2.0"'))
def memory(
    run: Run,
    data: Data,
    credits: Annotated[
        str,
        typer.Option(help="For the card: author and licence of the pictures.", show_default=False),
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option(
            help="Folder that memssl convert or memssl whiten made from the run; by default the run's own."
        ),
    ] = None,
    thumbnail: Annotated[int, typer.Option(min=8, help="Longer side of the thumbnails, in pixels.")] = 48,
    half: Half = False,
    split: Split = None,
    column: Column = None,
) -> None:
    """Add the training memory of a run to its model, for the demo.

    The model's folder gets a subfolder memory/ with the vectors in the memory
    and thumbnails of their pictures. DATA must be the run's training data.
    """
    with errors_in_words():
        from memssl_keras.data.huggingface import open_data
        from memssl_keras.zoo.run_memory import memory_of_run, ship_memory

        folder = out or pathlib.Path(run)
        found = memory_of_run(run, open_data(data, split=split, column=column))
        with progress("pictures") as bar:
            advance = bar.start("memory", len(found.slots)).advance
            written = ship_memory(found, folder, credits, size=thumbnail, half=half, advance=advance)
    sizes = ", ".join(f"{file} {size / 1e6:.2f} MB" for file, size in written.items())
    filled = int((found.slots >= 0).sum())
    say(f"{folder}: memory of {len(found.slots):,} slots, {filled:,} with pictures: {sizes}")
