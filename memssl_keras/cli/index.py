"""`memssl index`."""

import pathlib
from typing import Annotated

import typer

from memssl_keras.cli.common import INDEX, Json, app, errors_in_words, example
from memssl_keras.cli.output import progress, say, say_json


@app.command(epilog=example("memssl index photos.parquet --to photos.db"))
def index(
    embeddings: Annotated[
        pathlib.Path, typer.Argument(help="Parquet file that `memssl embed` wrote, or the folder of --watch.")
    ],
    to: Annotated[str, typer.Option(metavar="URI", help=INDEX)],
    as_json: Json = False,
) -> None:
    """Write embeddings into an index, for more vectors than memory holds or for many machines.

    A picture is stored once, known by the bytes of its file; what is there already is not written again, so an
    interrupted command resumes. The data's other columns become filters of `memssl search --index`.
    """
    with errors_in_words():
        from memssl_keras.embedding.write_index import write_index

        with progress("rows") as bar:
            written = write_index(embeddings, to, lambda total: bar.start("indexing", total).advance)
        if as_json:
            say_json({"index": to, **written._asdict()})
        else:
            say(written.account(to))
