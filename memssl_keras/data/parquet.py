"""Images in Parquet: read row group by row group in bounded memory, in every form that people have them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memssl_keras.annotations import PathLike

PAGE_BYTES = 32 << 20  # of encoded images that are held of a file at once
_PATH_COLUMNS = ("image", "file", "path", "file_name", "filepath", "filename", "image_path")


class ImageColumn:
    """The image column of some Parquet files, as a sequence of bytes or paths.

    Of each file one page of neighbouring rows is held, and Arrow holds the row group that it is read from. Reading in
    order reads every page once; reading in random order reads a page for nearly every image, see `data.huggingface` for
    what training uses instead.

    Args:
        files: Paths.
        column: Name of the column; a field of a struct as `sample.image`.
        counts: Rows of each file.
        places: Where a row is a list of pictures, the row of each picture and its place in the list, `(N, 2)`.
    """

    def __init__(self, files: list[Path], column: str, counts: list[int], places: np.ndarray | None = None):
        self.files, self.column, self.places = files, column, places
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
        self._pages: dict = {}
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """Uncompressed size of the files, all columns together."""
        groups = (pq.read_metadata(file) for file in self.files)
        return sum(m.row_group(g).total_byte_size for m in groups for g in range(m.num_row_groups))

    def __len__(self):
        return int(self.starts[-1]) if self.places is None else len(self.places)

    def __getstate__(self):
        return {"files": self.files, "column": self.column, "starts": self.starts, "places": self.places}

    def __setstate__(self, state):
        self.__dict__ |= state
        self._pages, self._lock = {}, threading.Lock()

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = 0
        if self.places is not None:
            index, place = map(int, self.places[index])
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        with self._lock:  # threads that read side by side share the page
            if number not in self._pages:
                if len(self._pages) > 1:
                    self._pages.pop(next(iter(self._pages)))
                self._pages[number] = _Pages(self.files[number], self.column)
            value = self._pages[number].row(index - int(self.starts[number]))
        return _content(value, self.files[number].parent, place)


class _Pages:
    """One file, read forwards; a row that lies before the page begins again at its row group."""

    def __init__(self, path, column):
        self.file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        nested = column not in self.file.schema_arrow.names
        self.outer, _, self.inner = column.partition(".") if nested else (column, "", "")
        metadata = self.file.metadata
        rows = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
        self.starts = np.concatenate([[0], np.cumsum(rows)]).astype(int)
        self.sizes = [metadata.row_group(g).total_byte_size / max(n, 1) for g, n in enumerate(rows)]
        self.group, self.batches, self.page, self.first = None, iter(()), [], 0

    def row(self, index):
        group = int(np.searchsorted(self.starts, index, side="right")) - 1
        if group != self.group or index < self.first:
            rows = max(1, int(PAGE_BYTES / max(self.sizes[group], 1)))
            self.group, self.first, self.page = group, int(self.starts[group]), []
            self.batches = self.file.iter_batches(rows, row_groups=[group], columns=[self.outer])
        while index >= self.first + len(self.page):
            self.first += len(self.page)
            self.page = next(self.batches).column(0)
            if self.inner:
                self.page = self.page.field(self.inner)
        return self.page[index - self.first].as_py()


def _content(value, folder, place=0):
    """What `read_image` takes: bytes, or the path of a file beside the Parquet file; no bytes where there is none."""
    if isinstance(value, list):
        value = value[place] if value else None
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return folder / path if data is None and path else data or b""
    return folder / value if isinstance(value, str) else value or b""


def list_places(files: list[Path], column: str) -> np.ndarray:
    """Row and place in its list of every picture of a column of lists, `(N, 2)`; an empty list counts as one place.

    Of a list of structs the paths alone are read, of other lists all that is in them, a page at a time.
    """
    lengths = []
    for path in files:
        file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        inner = [
            file.schema.column(i).path
            for i in range(len(file.schema))
            if file.schema.column(i).path.startswith(f"{column}.")
        ]
        small = [name for name in inner if name.endswith(".path")]
        for batch in file.iter_batches(256, columns=small or [column]):
            values = batch.column(0)
            for field in column.split(".")[1:] if column not in file.schema_arrow.names else ():
                values = values.field(field)
            lengths.append(pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False))
    return places_of(np.concatenate(lengths))


def places_of(lengths: np.ndarray) -> np.ndarray:
    """Row and place of every picture of lists of these lengths `(R,)`, `(N, 2)`; an empty list counts as one place.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.data.parquet import places_of
        >>> places_of(np.array([2, 0])).tolist()
        [[0, 0], [0, 1], [1, 0]]
    """
    counts = np.maximum(lengths, 1).astype(np.int64)
    rows = np.repeat(np.arange(len(counts)), counts)
    return np.stack([rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)], 1)


def holds_images(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one that encoded images are stored in: bytes, a struct of bytes, or a list of them."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return holds_images(kind.value_type) and not pa.types.is_primitive(kind.value_type)
    if pa.types.is_struct(kind):
        return "bytes" in {field.name for field in kind}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or kind == pa.binary_view()


def holds_lists(schema: pa.Schema, column: str) -> bool:
    """Whether a row of an image column is a list of pictures."""
    outer, _, inner = (column, "", "") if column in schema.names else column.partition(".")
    kind = schema.field(outer).type
    kind = kind.field(inner).type if inner else kind
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def image_columns(schema: pa.Schema) -> list[str]:
    """Names of the image columns of a schema, fields of structs as `sample.image`."""
    found = [field.name for field in schema if holds_images(field.type)]
    nested = [
        f"{outer.name}.{inner.name}"
        for outer in schema
        if pa.types.is_struct(outer.type) and outer.name not in found
        for inner in outer.type
        if holds_images(inner.type)
    ]
    return found + nested


def path_columns(path: Path, schema: pa.Schema) -> list[str]:
    """Names of the columns of text whose first value is the path of a file beside the Parquet file."""
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    found = []
    for name in (name for name in texts if name.lower() in _PATH_COLUMNS):
        for batch in pq.ParquetFile(path).iter_batches(16, columns=[name]):
            values = [value for value in batch.column(0).to_pylist() if value]
            if values and (path.parent / values[0]).is_file():
                found.append(name)
            break
    return found


def is_own_output(schema: pa.Schema) -> bool:
    """Whether a file is one that `memssl embed` wrote: vectors of pictures, not pictures."""
    return b"memssl_model" in (schema.metadata or {})


def read_schema(path: PathLike) -> pa.Schema:
    """The Arrow schema of a Parquet file.

    Raises:
        ValueError: where it is none, or damaged.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as Parquet ({error})") from None


def class_names(schema: pa.Schema) -> dict:
    """What `datasets` wrote into a Parquet file of its columns of classes: column → names."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("names")}
    except (KeyError, ValueError, AttributeError, TypeError):  # none there, or in another form
        return {}


def other_columns(files: list[Path], schemas: list[pa.Schema], column: str) -> dict:
    """The columns beside the images as chunked arrays; those that not every file has are filled with nulls.

    Columns of lists and of images are left out: nothing filters or labels by them, and they may be large.
    """
    outer = column.partition(".")[0]
    tables = []
    for file, schema in zip(files, schemas, strict=True):
        kept = [
            field.name
            for field in schema
            if field.name not in (column, outer)
            and not pa.types.is_nested(field.type)
            and not holds_images(field.type)
        ]
        tables.append(pq.read_table(file, columns=kept))
    if all(table.num_columns == 0 for table in tables):
        return {}
    together = pa.concat_tables(tables, promote_options="permissive")
    return {name: together[name] for name in together.column_names}
