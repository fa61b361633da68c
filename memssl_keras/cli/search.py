"""`memssl search`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import INDEX, Json, SearchSize, app, errors_in_words, example
from memssl_keras.cli.output import say, say_json, table

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="[EMBEDDINGS] IMAGE...",
        help="Parquet file that `memssl embed` wrote or the folder of --watch, then one or more images to look for. "
        "With --index images alone.",
    ),
]
Index = Annotated[str | None, typer.Option(metavar="URI", help=INDEX)]
Where = Annotated[
    str | None,
    typer.Option("--filter", help="With --index: which rows, by their columns, such as 'label == 7'."),
]
K = Annotated[int, typer.Option(min=1, help="Neighbours to show.")]
Model = Annotated[
    str | None, typer.Option(help="Where the model that embedded the index is now, if it was moved.")
]
Sheet = Annotated[pathlib.Path | None, typer.Option(help="Draw queries and neighbours into this PNG.")]


@app.command(epilog=example("memssl search photos.parquet holiday.jpg --k 5 --sheet neighbours.png"))
def search(
    paths: Paths,
    index: Index = None,
    where: Where = None,
    k: K = 10,
    model: Model = None,
    image_size: SearchSize = None,
    sheet: Sheet = None,
    as_json: Json = False,
) -> None:
    """Find the images that look most like an image.

    The image is embedded as the embeddings were: by their model, at their image
    size. Another revision of the model or another --image-size is refused.
    """
    with errors_in_words():
        from memssl_keras.embedding.query import query_file, query_index

        if index:
            images, found = paths, query_index(index, paths, k, model, where or "", image_size)
        elif where:
            raise ValueError(f"filter={where!r}: expected only with --index")
        elif len(paths) < 2:
            raise ValueError(f"images: got none beside {paths[0]!r}; expected the embeddings and then images")
        else:
            images, found = paths[1:], query_file(paths[0], paths[1:], k, model, image_size)
        for image, hits in zip(images, found, strict=True):
            if as_json:
                say_json({"query": image, "neighbours": [_as_json(hit) for hit in hits]})
                continue
            lines = [[rank, f"{hit.similarity:.4f}", hit.image] for rank, hit in enumerate(hits, 1)]
            table(["rank", "similarity", "image"], lines, title=image)
        if sheet:
            from memssl_keras.embedding.query import draw_hits

            draw_hits(images, found, sheet)
            if not as_json:
                say(f"drawn into {sheet}")


def _as_json(hit):
    columns = {"columns": hit.columns} if hit.columns else {}
    return {"image": hit.image, "similarity": round(hit.similarity, 6), **columns}
