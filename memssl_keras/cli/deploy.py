"""`memssl export`, `memssl embed` and `memssl search`."""

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
    errors,
    errors_in_words,
    example,
    progress_bar,
)

SOME_SKIPPED = 3


@app.command(epilog=example("memssl export runs/photos"))
def export(
    model: Model,
    out: Annotated[
        pathlib.Path | None, typer.Option(help="Folder to write to; the model's own by default.")
    ] = None,
):
    """Write an encoder as ONNX, compared with the Keras one before it is left behind."""
    with errors_in_words():
        from memssl_keras.export.onnx import export_onnx
        from memssl_keras.pretrained import from_pretrained

        encoder, folder = from_pretrained(model), out or pathlib.Path(model)
        if not out and not folder.is_dir():
            raise ValueError(
                f"model={model!r} is bundled and exported; --out FOLDER writes it elsewhere again"
            )
        with console.status("tracing and comparing"):
            difference = export_onnx(encoder, folder)
    path = folder / "onnx" / "model.onnx"
    size = path.stat().st_size / 1e6
    console.print(f"{path}: {size:.1f} MB, largest difference to the Keras encoder {difference:.1e}")


@app.command(epilog=example("memssl embed photos/ --model runs/photos --out photos.parquet"))
def embed(
    data: Data,
    model: Annotated[str, typer.Option(help="Bundled model or folder of one, exported.")],
    out: Annotated[pathlib.Path, typer.Option(help="Parquet file to write.")],
    split: Split = None,
    column: Column = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    threads: Threads = None,
):
    """Turn images into unit vectors, one Parquet row each: image, embedding, and the data's other columns.

    Runs on ONNX Runtime. Unreadable images are left out and listed, and the exit code is then 3.
    """
    with errors_in_words():
        from memssl_keras.embeddings import write_embeddings
        from memssl_keras.export.runtime import OnnxEncoder
        from memssl_keras.sources import open_source

        source = open_source(data, split=split, column=column)
        encoder = OnnxEncoder.from_pretrained(model, threads=threads)
        with progress_bar("images") as progress:
            task = progress.add_task("embedding", total=len(source))
            advance = lambda count: progress.advance(task, count)  # noqa: E731
            failures = write_embeddings(encoder, source, out, str(model), batch_size, advance)
    console.print(f"{out}: {len(source) - len(failures):,} embeddings of width {encoder.embed_dim}")
    if failures:
        errors.print(f"{len(failures):,} left out:", highlight=False)
        for _, error in failures:
            errors.print(f"  {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(SOME_SKIPPED)


@app.command(epilog=example("memssl search photos.parquet holiday.jpg --k 5 --sheet neighbours.png"))
def search(
    index: Annotated[pathlib.Path, typer.Argument(help="Parquet file that `memssl embed` wrote.")],
    image: Annotated[list[str], typer.Argument(help="One or more images to look for.")],
    k: Annotated[int, typer.Option(min=1, help="Neighbours to show.")] = 10,
    model: Annotated[str | None, typer.Option(help="In place of the model that embedded the index.")] = None,
    sheet: Annotated[
        pathlib.Path | None, typer.Option(help="Draw queries and neighbours into this PNG.")
    ] = None,
):
    """Find the images that look most like an image."""
    from rich.table import Table

    with errors_in_words():
        from memssl_keras.embeddings import draw_sheet, nearest, read_embeddings
        from memssl_keras.export.runtime import OnnxEncoder

        stored = read_embeddings(index)
        encoder = OnnxEncoder.from_pretrained(model or stored.model)
        found = nearest(stored, encoder.embed(image), k)
        for query, rows in zip(image, found, strict=True):
            table = Table("rank", "similarity", "image", title=query)
            for rank, (row, similarity) in enumerate(rows, 1):
                table.add_row(str(rank), f"{similarity:.4f}", stored.images[row])
            console.print(table)
        if sheet:
            draw_sheet(stored, image, found, sheet)
            console.print(f"drawn into {sheet}")
