"""A Parquet file of embeddings into an index: batch by batch, only what is not there yet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memssl_keras.annotations import PathLike
from memssl_keras.embedding.fields import (
    BASE,
    IMAGE,
    KEY,
    LONGEST,
    STATE,
    VECTOR,
    fields_of,
    state_of,
    value_of,
)
from memssl_keras.embedding.index import VectorIndex, create_index
from memssl_keras.embedding.milvus import TIMEOUT, connected, in_words, parse_address
from memssl_keras.embedding.run import BASE as BASE_KEY
from memssl_keras.embedding.run import MODEL, REVISION
from memssl_keras.embedding.table import Embeddings, files_of, size_of

BATCH = 1000  # rows of one request


class Written(NamedTuple):
    """What became of the rows of a file."""

    new: int  # written, or written again as their name or columns are others now
    known: int  # in the index already, as they are
    copies: int  # the same picture as an earlier row of the file, by the bytes of its file
    total: int  # rows of the index now
    notes: list[str]

    def account(self, uri: str) -> str:
        """One line that accounts for every row."""
        parts = [f"{uri}: {self.total:,} pictures, {self.new:,} of them written now"]
        parts += [f"{self.known:,} there already"] if self.known else []
        if self.copies:
            copies = "1 copy" if self.copies == 1 else f"{self.copies:,} copies"
            parts.append(f"{copies} of others by their bytes, stored once with the columns of the first")
        return "; ".join([*parts, *self.notes])


class EmbeddingFile:
    """One file that `memssl embed` wrote, or the folder of --watch, read batch by batch.

    Attributes:
        about: Model, revision, image size and base folder.
        embed_dim: D.
        schema: Of its columns.

    Raises:
        ValueError: it is not such a file, or from before there were hashes in it, or of several models.
    """

    def __init__(self, path: PathLike):
        self.path = Path(path)
        self.files = files_of(self.path)
        if not self.files or not self.files[0].is_file():
            raise ValueError(f"embeddings={str(path)!r}: no such file; `memssl embed` writes one")
        schemas = [self._schema(file) for file in self.files]
        self.schema = schemas[0]
        about = [{key: (one.metadata or {}).get(key) for key in (MODEL, REVISION)} for one in schemas]
        if any(one != about[0] for one in about):
            raise ValueError(f"embeddings={str(path)!r} holds embeddings of several models or revisions")
        self.about = Embeddings(
            [],
            np.zeros((0, 1)),
            (about[0][MODEL] or b"").decode(),
            (about[0][REVISION] or b"").decode(),
            os.fsdecode(self.schema.metadata.get(BASE_KEY, b".")),
            str(path),
            size_of(self.schema.metadata),
        )
        self.embed_dim = self.schema.field(VECTOR).type.list_size

    def _schema(self, file):
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{file}: not readable as Parquet ({error})") from None
        if MODEL not in (schema.metadata or {}) or not {IMAGE, VECTOR} <= set(schema.names):
            raise ValueError(
                f"{file}: columns {', '.join(schema.names)}; expected a file that `memssl embed` wrote"
            )
        if KEY not in schema.names:
            raise ValueError(f"{file}: has no column {KEY}, as it is from an earlier version; embed again")
        return schema

    def firsts(self) -> np.ndarray:
        """Which rows are the first of their picture, bool `(N,)`: others have a file of the same bytes."""
        columns = [pq.read_table(file, columns=[KEY])[KEY].to_numpy() for file in self.files]
        keys = np.concatenate([np.asarray(column, "S32") for column in columns])
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        return first

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its rows, some at a time."""
        for file in self.files:
            yield from pq.ParquetFile(file).iter_batches(BATCH)


def write_index(
    path: PathLike,
    uri: str,
    begin: Callable[[int], Callable[[int], object]] = lambda total: lambda count: None,
) -> Written:
    """Write a file of embeddings into an index; rows that are there already are not written again.

    Args:
        path: File that `memssl embed` wrote, or the folder of --watch.
        uri: As `open_index` takes it; a folder or collection that is not there is made.
        begin: Called with the number of rows; what it returns is called with the number done since the last call.

    Raises:
        Locked: another process has the index open.
        ValueError: the file or the index is wrong, of different models, or the engine stopped answering. What was
            written stays, and the same call resumes.

    Example:
        >>> from memssl_keras.embedding.write_index import write_index
        >>> write_index("photos.parquet", "photos.db")  # doctest: +SKIP
    """
    file = EmbeddingFile(path)
    fields, notes = fields_of(file.schema)
    with create_index(uri, file.about, file.embed_dim, dict(fields.values())) as index:
        fields, more = _fitting(index, fields)
        new, known, firsts = 0, 0, file.firsts()
        advance, start, cut, was_empty = begin(len(firsts)), 0, 0, not len(index)
        for batch in file.batches():
            cut += sum(_too_long(batch[column]) for column, (_, kind) in fields.items() if kind == "VARCHAR")
            keep = firsts[start : start + len(batch)]
            rows = _rows(batch.filter(pa.array(keep)), fields, file.about.base)
            there = {} if was_empty else index.states([row[KEY] for row in rows]) if rows else {}
            todo = [row for row in rows if there.get(row[KEY]) != row[STATE]]
            if todo:
                index.upsert(todo)
            new, known, start = new + len(todo), known + len(rows) - len(todo), start + len(batch)
            advance(len(batch))
        index.flush()
        more += [f"{cut:,} texts cut after {LONGEST:,} bytes"] if cut else []
        return Written(new, known, len(firsts) - new - known, len(index), [*notes, *more])


def check_index(uri: str, model: str, revision: str, embed_dim: int, image_size: int | None = None) -> None:
    """Raise, before hours of embedding, what `write_index` would raise after them.

    Raises:
        Locked, ValueError: the index cannot be opened, or holds vectors of another model or revision.
    """
    address = parse_address(uri)
    if (
        address.is_local
        and not Path(address.place).exists()
        and Path(address.place).absolute().parent.is_dir()
    ):
        return
    with connected(address) as client:
        with in_words(address, "cannot be read"):
            there = client.has_collection(address.collection, timeout=TIMEOUT)
        if there:
            VectorIndex(client, address).check(model, revision, embed_dim, image_size)


def _fitting(index: VectorIndex, fields):
    """The columns that the index has fields for, and words about the others."""
    wrong = [
        f"{column} is {kind}, there {index.fields[name]}"
        for column, (name, kind) in fields.items()
        if index.fields.get(name, kind) != kind
    ]
    if wrong:
        raise ValueError(
            f"index={index.address.uri!r}: columns are of another type: {'; '.join(wrong)}. Write to another "
            "collection (URI#NAME)"
        )
    extra = [column for column, (name, _) in fields.items() if name not in index.fields]
    kept = {column: field for column, field in fields.items() if field[0] in index.fields}
    notes = [f"columns not kept, as the index was made without them: {', '.join(extra)}"] if extra else []
    return kept, notes


def _rows(batch: pa.RecordBatch, fields, base) -> list[dict[str, Any]]:
    """The rows of a batch as Milvus takes them, each vector of unit length."""
    vectors = np.asarray(batch[VECTOR].flatten()).reshape(len(batch), -1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.abs(lengths - 1) < 1e-3).all():
        bad = int(np.argmax(~(np.abs(lengths[:, 0] - 1) < 1e-3)))
        raise ValueError(f"{batch[IMAGE][bad]}: its vector has length {lengths[bad, 0]:.4g}; expected 1")
    vectors = vectors / lengths
    columns = {name: [_value(v, column, kind) for v in batch[column].to_pylist()]
               for column, (name, kind) in fields.items()}  # fmt: skip
    rows = []
    for i, (key, image) in enumerate(zip(batch[KEY].to_pylist(), batch[IMAGE].to_pylist(), strict=True)):
        row: dict[str, Any] = {
            KEY: key,
            IMAGE: image,
            BASE: base,
            **{name: values[i] for name, values in columns.items()},
        }
        rows.append({**row, STATE: state_of(row, [IMAGE, BASE, *columns]), VECTOR: vectors[i]})
    return rows


def _too_long(column):
    """How many texts of a column an index has no room for."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return 0
    return pc.sum(pc.greater(pc.binary_length(column), LONGEST)).as_py() or 0


def _value(value, column, kind):
    try:
        return value_of(value, kind)
    except ValueError as error:
        raise ValueError(f"column {column!r}: {error}") from None
