"""`memssl search`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import Json, app, errors_in_words, example
from memssl_keras.cli.output import say, say_json, table


@app.command(epilog=example("memssl search photos.parquet holiday.jpg --k 5 --sheet neighbours.png"))
def search(
    index: Annotated[
        pathlib.Path, typer.Argument(help="Parquet file that `memssl embed` wrote, or the folder of --watch.")
    ],
    image: Annotated[list[str], typer.Argument(help="One or more images to look for.")],
    k: Annotated[int, typer.Option(min=1, help="Neighbours to show.")] = 10,
    model: Annotated[
        str | None, typer.Option(help="Where the model that embedded the index is now, if it was moved.")
    ] = None,
    sheet: Annotated[
        pathlib.Path | None, typer.Option(help="Draw queries and neighbours into this PNG.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the images that look most like an image."""
    with errors_in_words():
        from memssl_keras.embedding.table import draw_sheet, nearest, open_index_model, read_embeddings

        stored = read_embeddings(index)
        encoder = open_index_model(stored, model)
        found = nearest(stored, encoder.embed(image), k)
        for query, rows in zip(image, found, strict=True):
            if as_json:
                hits = [{"image": stored.images[row], "similarity": round(s, 6)} for row, s in rows]
                say_json({"query": query, "neighbours": hits})
                continue
            lines = [[rank, f"{s:.4f}", stored.images[row]] for rank, (row, s) in enumerate(rows, 1)]
            table(["rank", "similarity", "image"], lines, title=query)
        if sheet:
            draw_sheet(stored, image, found, sheet)
            if not as_json:
                say(f"drawn into {sheet}")
