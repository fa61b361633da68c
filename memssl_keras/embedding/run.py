"""Embedding many images into one Parquet file, in chunks that survive an interruption.

A folder `.OUT.parts` beside the file holds a small Parquet file for each chunk that is done and what it was made of.
Whoever computes the chunks, in this process or on a cluster, the file is joined from them in the images' order.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import content_hashes
from memssl_keras.data.sources import ImageSource
from memssl_keras.files import lock, replace_file
from memssl_keras.images import ImageError

# Metadata of the file: the model's name, the hash of its file and preprocessing, the folder that names start from, and
# the side in pixels that the model saw pictures at.
MODEL, REVISION, BASE = b"memssl_model", b"memssl_revision", b"memssl_base"
IMAGE_SIZE = b"memssl_image_size"
_FAILURES, _IMAGES = b"memssl_failures", b"memssl_images"
HASH = "image_hash"  # column with a hash of the bytes of each picture's file, by which an index knows it
_OWN = ("image", "embedding", HASH)
CHUNK = 256  # images after which an interruption loses nothing


class EmbeddingRun:
    """The chunks of one file of embeddings.

    Args:
        source: An `ImageSource`.
        path: The file to write; one that is there is replaced once all chunks are done.
        model: Name of the model, kept in the file.
        embed_dim: D.
        revision: Hash of the model's file and preprocessing, kept in the file; vectors of two revisions do not compare.
        chunk: Images per chunk.
        image_size: Side in pixels that pictures are preprocessed to, kept in the file; a query has to have it too.

    Raises:
        ValueError: where the file's folder does not exist, there is a folder in its place, or its name does not end in
            `.parquet`.
    """

    def __init__(
        self,
        source: ImageSource,
        path: PathLike,
        model: str,
        embed_dim: int,
        revision: str = "",
        chunk: int = CHUNK,
        image_size: int | None = None,
    ):
        self.source, self.path, self.chunk = source, Path(path), chunk
        if self.path.is_dir():
            raise ValueError(f"out={str(path)!r} is a folder; expected the Parquet file to write")
        if self.path.suffix != ".parquet":
            raise ValueError(f"out={str(path)!r}: expected a name that ends in .parquet")
        if not self.path.parent.is_dir():
            raise ValueError(f"out={str(path)!r}: the folder {self.path.parent} does not exist")
        self.others = {name: column for name, column in source.columns.items() if name not in _OWN}
        metadata = {MODEL: model.encode(), REVISION: revision.encode(), BASE: os.fsencode(Path.cwd())}
        if image_size is not None:
            metadata[IMAGE_SIZE] = str(image_size).encode()
        self.schema = pa.schema(
            [("image", pa.string()), ("embedding", pa.list_(pa.float32(), embed_dim)), (HASH, pa.string())]
            + [(name, column.type) for name, column in self.others.items()],
            metadata=metadata,
        )
        self._repeated = [name for name in self.schema.names if name != "embedding"]
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        self._about = json.dumps(
            {"model": model, "revision": revision, "D": embed_dim, "columns": [HASH, *self.others]}
        )

    def __len__(self):
        return -(-len(self.source) // self.chunk)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the file while it is written; see `memssl_keras.files.lock`."""
        return lock(self.path.with_name(f".{self.path.name}.lock"))

    def part(self, number: int) -> Path:
        """The file of a chunk."""
        return self.folder / f"{number:06d}.parquet"

    def size(self, number: int) -> int:
        """Images of a chunk."""
        return min(self.chunk, len(self.source) - number * self.chunk)

    def key(self, number: int) -> bytes:
        """What a chunk was made of: model, names, and size and time of change of files."""
        digest, start = hashlib.sha256(self._about.encode()), number * self.chunk
        for row in range(start, start + self.size(number)):
            digest.update(f"{self.source.ids[row]}\0{self.source.state(row)}\n".encode())
        return digest.hexdigest().encode()

    def is_done(self, number: int) -> bool:
        """Whether a chunk is there, and made of what the source holds now."""
        try:
            metadata = pq.read_schema(self.part(number)).metadata or {}
        except (OSError, pa.ArrowException):
            return False
        return metadata.get(_IMAGES) == self.key(number)

    def start(self) -> list[int]:
        """Make the folder, and return the numbers of the chunks that are not done yet."""
        self.folder.mkdir(exist_ok=True)
        return [number for number in range(len(self)) if not self.is_done(number)]

    def done(self, todo: Sequence[int]) -> int:
        """Images of the chunks that are not in `todo`."""
        return len(self.source) - sum(map(self.size, todo))

    def write(
        self,
        number: int,
        encoder: Any,
        batch_size: int = 32,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Embed a chunk and put its file in place, whole."""
        start, key = number * self.chunk, self.key(number)
        images = (self.source[start + i] for i in range(self.size(number)))
        failures, rows = [], []
        for batch in encoder.stream(images, batch_size):
            rows.append(self._rows([start + i for i in batch.indices], batch.vectors))
            failures += [(start + i, error.reason) for i, error in batch.failures]
            advance(len(batch.indices) + len(batch.failures))
        table = pa.concat_tables(rows) if rows else self.schema.empty_table()
        metadata = {**table.schema.metadata, _FAILURES: json.dumps(failures), _IMAGES: key}
        table = table.replace_schema_metadata(metadata)
        replace_file(
            self.part(number), lambda path: pq.write_table(table, path, use_dictionary=self._repeated)
        )

    def _rows(self, positions, vectors):
        """The rows of images `positions`, whose vectors are `(N, D)`."""
        taken = pa.array(positions, pa.int64())
        columns = [
            pa.array([self.source.ids[i] for i in positions], pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.ravel(vectors)), self.schema.field("embedding").type.list_size
            ),
            pa.array(content_hashes(self.source[i] for i in positions), pa.string()),
            *(column.take(taken).combine_chunks() for column in self.others.values()),
        ]
        return pa.table(columns, schema=self.schema)

    def join(self) -> list[tuple[int, ImageError]]:
        """Join the chunks into the file, and return the skipped images as (position, `ImageError`).

        Raises:
            ValueError: a chunk is missing or of something else, as its images or the model have changed meanwhile.
        """
        failures = []

        def write(path):
            with pq.ParquetWriter(path, self.schema, use_dictionary=self._repeated) as writer:
                for number in range(len(self)):
                    if not self.is_done(number):
                        raise ValueError(
                            f"{self.path}: images {number * self.chunk:,} and on have changed while they were "
                            "embedded; run the same command again, which embeds these alone"
                        )
                    with pq.ParquetFile(self.part(number)) as part:
                        table = part.read(use_threads=False)
                    lost = json.loads(table.schema.metadata[_FAILURES])
                    failures.extend((i, ImageError(self.source.ids[i], reason)) for i, reason in lost)
                    writer.write_table(table.replace_schema_metadata(self.schema.metadata))

        replace_file(self.path, write)
        shutil.rmtree(self.folder)
        return failures


def kept(path: PathLike) -> int:
    """Embeddings that an interrupted run of the file `path` kept, with which the same command resumes."""
    parts = Path(path).with_name(f".{Path(path).name}.parts").glob("*.parquet")
    return sum(pq.read_metadata(part).num_rows for part in parts if not part.name.startswith("."))


def write_embeddings(
    encoder: Any,
    source: ImageSource,
    path: PathLike,
    model: str,
    batch_size: int = 32,
    advance: Callable[[int], object] = lambda count: None,
    chunk: int = CHUNK,
) -> list[tuple[int, ImageError]]:
    """Embed a source into a Parquet file, which appears only once it is whole; see `EmbeddingRun`.

    Columns are `image` (the source's name of it), `embedding` (float32 list of fixed length), `image_hash` (of the
    bytes of its file) and the source's other columns. Interrupted, it resumes at the chunk that was not done when it
    is called again; a chunk with a picture that was replaced meanwhile is made anew.

    Args:
        encoder: An `OnnxEncoder`.
        source: An `ImageSource`.
        path: The file to write; one that is there is replaced.
        model: Name of the model, kept in the file.
        batch_size: Images that run at once.
        advance: Called with the number of images done since the last call.
        chunk: Images after which an interruption loses nothing.

    Returns:
        The skipped images, as (position, `ImageError`).

    Raises:
        Locked: another process is writing that file.
        ValueError: as `EmbeddingRun` does.
    """
    size = encoder.preprocessing.image_size
    run = EmbeddingRun(source, path, model, encoder.embed_dim, encoder.revision(), chunk, size)
    with run.lock():
        todo = run.start()
        advance(run.done(todo))
        for number in todo:
            run.write(number, encoder, batch_size, advance)
        return run.join()


def write_unreadable(path: PathLike, failures: Sequence[tuple[int, ImageError]]) -> Path:
    """List skipped images in `NAME.unreadable.csv` beside the file; without any, a list that is there goes."""
    listed = Path(path).with_suffix(".unreadable.csv")
    if not failures:
        listed.unlink(missing_ok=True)
        return listed

    def write(part):
        with open(part, "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerows([("name", "reason"), *((error.name, error.reason) for _, error in failures)])

    replace_file(listed, write)
    return listed
