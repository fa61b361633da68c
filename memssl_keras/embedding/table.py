"""Embeddings in Parquet, as `memssl embed` writes them: read back, searched, and drawn as a sheet of pictures."""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from memssl_keras.data.sources import open_source
from memssl_keras.embedding.run import MODEL
from memssl_keras.images import draw_rows, read_image

_COLUMNS = ["image", "embedding"]


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Vectors `(N, D)` float32 of unit length, the names of their images, and the model that made them."""

    images: list
    vectors: np.ndarray
    model: str


def read_embeddings(path):
    """Read a file that `memssl embed` wrote, or the folder of files that `memssl embed --watch` adds to.

    Raises:
        ValueError: where there is no such file, it is not one of these, or the folder's are of several models.
    """
    path = pathlib.Path(path)
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise ValueError(f"index={str(path)!r}: no such file; `memssl embed` writes one")
    try:
        tables = [pq.read_table(file) for file in files]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({error})") from None
    for table in tables:
        if not set(_COLUMNS) <= set(table.column_names) or MODEL not in (table.schema.metadata or {}):
            raise ValueError(
                f"{path}: columns {', '.join(table.column_names)}; expected a file that `memssl embed` wrote"
            )
    if len(models := {table.schema.metadata[MODEL].decode() for table in tables}) > 1:
        raise ValueError(f"{path} holds embeddings of several models, {', '.join(sorted(models))}")
    (model,), table = models, pa.concat_tables([table.select(_COLUMNS) for table in tables])
    embeddings = table["embedding"].combine_chunks()
    vectors = (
        embeddings.values.to_numpy().reshape(len(table), -1) if len(table) else np.zeros((0, 1), "float32")
    )
    return Embeddings(table["image"].to_pylist(), vectors, model)


def nearest(stored, queries, k):
    """For each query `(Q, D)` the k nearest of `stored`, as lists of (row, cosine similarity), best first."""
    if queries.shape[1] != stored.vectors.shape[1]:
        raise ValueError(
            f"the model gives vectors of width {queries.shape[1]}, the index holds width {stored.vectors.shape[1]}; "
            f"it was made with {stored.model}"
        )
    similarities = queries @ stored.vectors.T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return [[(int(i), float(row[i])) for i in best] for best, row in zip(order, similarities, strict=True)]


def open_image(name):
    """The picture behind a name in a Parquet of embeddings: a file, or `FILE#ROW` of a row of Parquet."""
    file, _, row = name.rpartition("#")
    if file.endswith(".parquet") and row.isdigit():
        return Image.fromarray(read_image(open_source(file)[int(row)]))
    return Image.fromarray(read_image(name))


def draw_sheet(stored, queries, found, path):
    """Draw every query and its neighbours in the index, as `nearest` found them, into a PNG."""
    rows = [
        (
            open_image(str(query)),
            [(open_image(stored.images[row]), similarity) for row, similarity in neighbours],
        )
        for query, neighbours in zip(queries, found, strict=True)
    ]
    draw_rows(rows, path)
