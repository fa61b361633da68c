"""Embeddings in Parquet, as `memssl embed` writes them: read back, searched, and drawn as a sheet of pictures."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.data.sources import files_behind, open_source
from memssl_keras.embedding.run import BASE, IMAGE_SIZE, MODEL, REVISION
from memssl_keras.export.runtime import OnnxEncoder
from memssl_keras.files import path_of
from memssl_keras.images import draw_rows, read_image
from memssl_keras.weights.config import split_variant

_COLUMNS = ["image", "embedding"]


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Vectors of pictures, and what made them.

    Attributes:
        images: Names of the pictures.
        vectors: `(N, D)` float32 of unit length.
        model: Name of the model.
        revision: Hash of its file and preprocessing.
        base: Folder that relative names start from.
        path: The file or folder that they were read from.
        image_size: Side in pixels that the model saw pictures at; None where an earlier version did not record it.
    """

    images: list[str]
    vectors: np.ndarray
    model: str
    revision: str = ""
    base: str = "."
    path: str = ""
    image_size: int | None = None

    def check_revision(self, encoder: Any, name: str) -> None:
        """Raise ValueError unless the encoder is the very one that made these vectors."""
        found, size = encoder.revision(), encoder.preprocessing.image_size
        if found != self.revision:
            other = self.image_size not in (None, size)
            remedy = (
                f"search at {self.image_size} px"
                if other
                else "name the folder of the old model with --model"
            )
            raise ValueError(
                f"{self.path}: its vectors were made by {self.model} at revision "
                f"{revision_words(self.revision, self.image_size)}, and {name} is at {revision_words(found, size)}: "
                f"vectors of two revisions do not compare. Embed the pictures again, or {remedy}"
            )

    def locate(self, name: str) -> str:
        """A name in the index, or of its model, as a path that leads there from this process."""
        path = Path(self.base, name)
        there = any(map(os.path.exists, files_behind(str(path))))
        return str(path) if not Path(name).is_absolute() and there else name


def revision_words(revision: str, image_size: int | None) -> str:
    """A revision as errors name it: the first of its digits, and the size that pictures are seen at."""
    return revision[:12] + (f" ({image_size} px)" if image_size else "")


def size_of(metadata: Mapping[bytes, bytes]) -> int | None:
    """The image size in a Parquet file's metadata; None in files of earlier versions."""
    size = metadata.get(IMAGE_SIZE)
    return int(size) if size else None


def files_of(path: PathLike) -> list[Path]:
    """The file itself, or those of a folder that `memssl embed --watch` adds to, without what is being written."""
    path = Path(path)
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.glob("*.parquet") if not file.name.startswith("."))


def read_embeddings(path: PathLike) -> Embeddings:
    """Read a file that `memssl embed` wrote, or the folder of files that `memssl embed --watch` adds to.

    Raises:
        ValueError: where there is no such file, it is not one of these, or the folder's are of several models or
            revisions.
    """
    path = Path(path)
    files = files_of(path)
    if not files or not files[0].is_file():
        raise ValueError(f"index={str(path)!r}: no such file; `memssl embed` writes one")
    try:
        tables = [pq.read_table(file) for file in files]
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({error})") from None
    for table in tables:
        if not set(_COLUMNS) <= set(table.column_names) or MODEL not in (table.schema.metadata or {}):
            raise ValueError(
                f"{path}: columns {', '.join(table.column_names)}; expected a file that `memssl embed` wrote"
            )
    about = [table.schema.metadata for table in tables]
    if len(models := {a[MODEL].decode() for a in about}) > 1:
        raise ValueError(f"{path} holds embeddings of several models, {', '.join(sorted(models))}")
    if len({a.get(REVISION) for a in about}) > 1:
        raise ValueError(
            f"{path} holds embeddings of several revisions of {models.pop()}; embed its pictures again"
        )
    table = pa.concat_tables([table.select(_COLUMNS) for table in tables])
    embeddings = table["embedding"].combine_chunks()
    vectors = (
        embeddings.values.to_numpy().reshape(len(table), -1) if len(table) else np.zeros((0, 1), "float32")
    )
    revision, base = about[0].get(REVISION, b"").decode(), os.fsdecode(about[0].get(BASE, b"."))
    names = table["image"].to_pylist()
    return Embeddings(names, vectors, models.pop(), revision, base, str(path), size_of(about[0]))


def nearest(stored: Embeddings, queries: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
    """For each query `(Q, D)` the k nearest of `stored`, as lists of (row, cosine similarity), best first."""
    if queries.shape[1] != stored.vectors.shape[1]:
        raise ValueError(
            f"the model gives vectors of width {queries.shape[1]}, the index holds width {stored.vectors.shape[1]}; "
            f"it was made with {stored.model}"
        )
    similarities = queries @ stored.vectors.T
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :k]
    return [[(int(i), float(row[i])) for i in best] for best, row in zip(order, similarities, strict=True)]


def open_image(name: str) -> Image.Image:
    """The picture behind a name in a Parquet of embeddings: a file, or `FILE#ROW` of Parquet or a shard, or a place."""
    file = next((file for file in files_behind(name) if path_of(file).exists()), name)
    if file != name:
        source = open_source(file)
        return Image.fromarray(read_image(source[source.ids.index(name)]))
    return Image.fromarray(read_image(path_of(name)))


def draw_sheet(stored: Embeddings, queries: Sequence, found: Sequence, path: PathLike) -> None:
    """Draw every query and its neighbours in the index, as `nearest` found them, into a PNG."""
    rows = [
        (
            open_image(str(query)),
            [(open_image(stored.locate(stored.images[row])), similarity) for row, similarity in neighbours],
        )
        for query, neighbours in zip(queries, found, strict=True)
    ]
    draw_rows(rows, path)


def open_index_model(stored: Embeddings, model: str | None = None, image_size: int | None = None) -> Any:
    """The `OnnxEncoder` that made an index, at the image size of its vectors.

    Args:
        stored: The index.
        model: Where the model is now, in place of where it was.
        image_size: Of the queries, in pixels; by default that of the index, as another one is refused.

    Raises:
        ValueError: the model cannot be found, is another one by now, or is asked for at another image size.
    """
    name, variant = split_variant(stored.model)
    where = model or stored.locate(name)
    try:
        encoder = OnnxEncoder.from_pretrained(
            where, variant=variant or None, image_size=image_size or stored.image_size
        )
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{stored.path} was made with the model {stored.model} in {stored.base}, which cannot be opened ({error}); "
            "name its folder with --model"
        ) from None
    stored.check_revision(encoder, str(where))
    return encoder
