"""Embedding many images into one Parquet file, in chunks that survive an interruption.

A folder `.OUT.parts` beside the file holds a small Parquet file for each chunk that is done and what they belong to.
Whoever computes the chunks, in this process or on a cluster, the file is joined from them in the images' order.
"""

import hashlib
import json
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memssl_keras.images.read import ImageError

MODEL = b"memssl_model"
_FAILURES = b"memssl_failures"
_OWN = ("image", "embedding")


class EmbeddingRun:
    """The chunks of one file of embeddings.

    Args:
        source: An `ImageSource`.
        path: The file to write; one that is there is replaced once all chunks are done.
        model: Name of the model, kept in the file.
        embed_dim: D.
        key: What else decides about the vectors; chunks of a run with another key are thrown away.
        chunk: Images per chunk.

    Raises:
        ValueError: where the file's folder does not exist, or there is a folder in its place.
    """

    def __init__(self, source, path, model, embed_dim, key="", chunk=1024):
        self.source, self.path, self.chunk = source, pathlib.Path(path), chunk
        if not self.path.parent.is_dir():
            raise ValueError(f"out={str(path)!r}: the folder {self.path.parent} does not exist")
        if self.path.is_dir():
            raise ValueError(f"out={str(path)!r} is a folder; expected the Parquet file to write")
        self.others = {name: column for name, column in source.columns.items() if name not in _OWN}
        self.schema = pa.schema(
            [("image", pa.string()), ("embedding", pa.list_(pa.float32(), embed_dim))]
            + [(name, column.type) for name, column in self.others.items()],
            metadata={MODEL: model.encode()},
        )
        self.folder = self.path.with_name(f".{self.path.name}.parts")
        ids = hashlib.sha256("\n".join(source.ids).encode()).hexdigest()
        self.plan = json.dumps({"model": model, "key": key, "images": ids, "chunk": chunk, "D": embed_dim})

    def __len__(self):
        return -(-len(self.source) // self.chunk)

    def part(self, number):
        """The file of a chunk."""
        return self.folder / f"{number:06d}.parquet"

    def size(self, number):
        """Images of a chunk."""
        return min(self.chunk, len(self.source) - number * self.chunk)

    def start(self):
        """Make the folder, and return the numbers of the chunks that are not done yet."""
        plan = self.folder / "plan.json"
        if not plan.is_file() or plan.read_text(encoding="utf-8") != self.plan:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir()
            plan.write_text(self.plan, encoding="utf-8")
        return [number for number in range(len(self)) if not self.part(number).is_file()]

    def done(self, todo):
        """Images of the chunks that are not in `todo`."""
        return len(self.source) - sum(map(self.size, todo))

    def write(self, number, encoder, batch_size=32, advance=lambda count: None):
        """Embed a chunk and put its file in place, whole."""
        start = number * self.chunk
        images = [self.source[start + i] for i in range(self.size(number))]
        failures, rows = [], []
        for batch in encoder.stream(images, batch_size):
            rows.append(self._rows([start + i for i in batch.indices], batch.vectors))
            failures += [(start + i, error.reason) for i, error in batch.failures]
            advance(len(batch.indices) + len(batch.failures))
        table = pa.concat_tables(rows) if rows else self.schema.empty_table()
        table = table.replace_schema_metadata({**table.schema.metadata, _FAILURES: json.dumps(failures)})
        temporary = self.part(number).with_suffix(".writing")
        pq.write_table(table, temporary)
        temporary.replace(self.part(number))

    def _rows(self, positions, vectors):
        """The rows of images `positions`, whose vectors are `(N, D)`."""
        taken = pa.array(positions, pa.int64())
        columns = [
            pa.array([self.source.ids[i] for i in positions], pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(np.ravel(vectors)), self.schema.field("embedding").type.list_size
            ),
            *(column.take(taken).combine_chunks() for column in self.others.values()),
        ]
        return pa.table(columns, schema=self.schema)

    def join(self):
        """Join the chunks into the file, and return the images left out as (position, `ImageError`)."""
        temporary, failures = self.folder / "whole.parquet", []
        with pq.ParquetWriter(temporary, self.schema) as writer:
            for number in range(len(self)):
                table = pq.read_table(self.part(number))
                lost = json.loads(table.schema.metadata[_FAILURES])
                failures += [(i, ImageError(self.source.ids[i], reason)) for i, reason in lost]
                writer.write_table(table.replace_schema_metadata(self.schema.metadata))
        temporary.replace(self.path)
        shutil.rmtree(self.folder)
        return failures


def write_embeddings(
    encoder, source, path, model, batch_size=32, advance=lambda count: None, key="", chunk=1024
):
    """Embed a source into a Parquet file, which appears only once it is whole; see `EmbeddingRun`.

    Columns are `image` (the source's name of it), `embedding` (float32 list of fixed length) and the source's
    other columns. Interrupted, it goes on at the chunk that was not done when it is called again alike.

    Args:
        encoder: An `OnnxEncoder`.
        source: An `ImageSource`.
        path: The file to write; one that is there is replaced.
        model: Name of the model, kept in the file.
        batch_size: Images that run at once.
        advance: Called with the number of images done since the last call.
        key: What else decides about the vectors, such as the model's variant.
        chunk: Images after which an interruption loses nothing.

    Returns:
        The images left out, as (position, `ImageError`).
    """
    run = EmbeddingRun(source, path, model, encoder.embed_dim, key, chunk)
    todo = run.start()
    advance(run.done(todo))
    for number in todo:
        run.write(number, encoder, batch_size, advance)
    return run.join()
