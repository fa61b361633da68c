"""Where images come from, for every command: a folder, one image, Parquet, shards, or a data set of the Hub.

Read without keras or torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data import parquet
from memssl_keras.data.hashes import file_state
from memssl_keras.data.hub import download
from memssl_keras.data.shards import TarImages
from memssl_keras.data.splits import files_of, split_folder
from memssl_keras.files import printable
from memssl_keras.images import Listing, find_images
from memssl_keras.images.listing import PathTexts, some_images

HELD_BYTES = 128 << 20  # Parquet up to this size is held in memory, larger ones are read page by page


class ImageSource:
    """Images in a fixed order: `source[i]` is what `read_image` takes, `source.name(i)` its name.

    Args:
        ids: Names, unique; the path of a file, `FILE#ROW` of a row of Parquet, `FILE#ROW#PLACE`
            where a row is a list, or `FILE#MEMBER` of a shard.
        items: Paths or encoded bytes, in the same order.
        columns: Other columns by name, each of the same length.
        names: Column → class names of its integers, if the file has them.
        listing: For a folder, its other files.
        notes: Lines of text about files that were not read.
        rows: Where rows are lists of pictures, the row of each picture, `(N,)`.
    """

    def __init__(
        self,
        ids: list[str],
        items: Any,
        columns: dict[str, Any] | None = None,
        names: dict[str, list[str]] | None = None,
        listing: Listing | None = None,
        notes: Iterable[str] = (),
        rows: np.ndarray | None = None,
    ):
        self.rows = rows
        self.ids, self.items, self.columns, self.names = ids, items, columns or {}, names or {}
        self.listing = listing or Listing()
        self.notes = [note for note in (*notes, self.listing.summary()) if note]
        self.lists_paths = isinstance(items, list | PathTexts)  # looking at an item then reads nothing

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return self.items[index]

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def name(self, index: int) -> str:
        """The name of an image."""
        return self.ids[index]

    def state(self, index: int) -> str:
        """Size and time of change of the file that an image is in, as text; empty where it is in none."""
        item = self.items[index] if self.lists_paths else None
        if isinstance(item, str | Path):
            return file_state(item)
        name = self.ids[index]
        return next(filter(None, map(file_state, files_behind(name))), "")


def files_behind(name: str) -> list[str]:
    """What may be the file of a name such as `FILE`, `FILE#ROW` or `FILE#ROW#PLACE`: file names may hold # as well."""
    parts = name.split("#")
    return ["#".join(parts[:count]) for count in range(len(parts), 0, -1)]


def open_source(data: PathLike, split: str | None = None, column: str | None = None) -> ImageSource:
    """Open a folder of images, a single image, Parquet, WebDataset shards, or a data set of the Hub.

    Args:
        data: A path; or `hub:OWNER/NAME` with `:CONFIG` where it has several.
        split: Of Parquet files and shards those whose name starts with it, or that lie in a folder called so; of a
            folder of images the subfolder called so; all by default.
        column: The image column of Parquet, where there are several; a field of a struct as `sample.image`.

    Raises:
        ValueError: where there is nothing there, no image in it, or nothing of that split.
    """
    if str(data).startswith("hub:"):
        return _open_parquet(sorted(download(str(data), split).glob("*.parquet")), column)
    path = Path(data)
    if not path.exists():
        beside = sorted(printable(p.name) for p in path.parent.iterdir())[:10] if path.parent.is_dir() else []
        there = f"{path.parent} holds {', '.join(beside)}" if beside else f"nor is {path.parent}"
        raise ValueError(f"data={str(data)!r}: no such file or folder; {there}")
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        raise ValueError(f"data={str(data)!r}: cannot be read (Permission denied)")
    if path.is_dir() and ((path / "state.json").is_file() or (path / "dataset_dict.json").is_file()):
        return _open_saved(path, split, column)
    if tables := files_of(path, ".parquet", split):
        listing = find_images(path) if path.is_dir() else Listing()
        tables, stray = _with_images(tables, column, strict=not listing.images)
        if tables:
            if listing.images:
                stray.insert(0, f"{len(listing.images):,} pictures beside the Parquet files not read")
            return _open_parquet(tables, column, stray)
        return _open_folder(path, split, listing)
    if tars := files_of(path, ".tar", split):
        images = TarImages(tars)
        return ImageSource(images.ids, images)
    if path.is_file():
        return ImageSource([printable(path)], [path])
    return _open_folder(path, split)


def _open_folder(path, split, listing=None):
    if split is not None:
        if (chosen := split_folder(path, split)) is None:
            there = ", ".join(sorted(printable(p.name) for p in path.iterdir() if p.is_dir())[:10]) or "none"
            raise ValueError(
                f"{path}: split={split!r} matches none of its subfolders, {there}, and no Parquet files"
            )
        path, listing = chosen, None
    listing = some_images(path, listing or find_images(path))
    return ImageSource(listing.images.printable(), listing.images, listing=listing)


def _with_images(files, column, strict):
    """Those Parquet files that hold images, and a list of notes on the others.

    Raises:
        ValueError: strict, and none holds images.
    """
    kept, stray = [], []
    for file in files:
        schema = parquet.read_schema(file)
        found = column in _columns_of(schema) if column else parquet.image_columns(schema)
        found = found or (not parquet.is_own_output(schema) and parquet.path_columns(file, schema))
        (kept if found else stray).append(file)
    if not kept and strict:
        raise ValueError(_no_choice(files[0], parquet.read_schema(files[0]), column))
    if not stray:
        return kept, []
    names = ", ".join(file.name for file in stray[:3])
    return kept, [f"{len(stray)} Parquet files without images not read ({names})"]


def _columns_of(schema):
    return [*schema.names, *parquet.image_columns(schema)]


def _open_parquet(files, column, notes=()):
    schemas = [parquet.read_schema(file) for file in files]
    found = parquet.image_columns(schemas[0]) or parquet.path_columns(files[0], schemas[0])
    if column is None and len(found) == 1:
        column = found[0]
    elif column not in (*found, *parquet.path_columns(files[0], schemas[0])):
        raise ValueError(_no_choice(files[0], schemas[0], column))
    counts = [parquet.pq.read_metadata(file).num_rows for file in files]
    ids = [
        f"{printable(file)}#{row}" for file, count in zip(files, counts, strict=True) for row in range(count)
    ]
    others = parquet.other_columns(files, schemas, column)
    places = rows = None
    if parquet.holds_lists(schemas[0], column):
        places = parquet.list_places(files, column)
        rows, inner = places.T
        notes = [*notes, f"column {column!r} holds lists: {len(places):,} pictures of {len(ids):,} rows"]
        ids = [f"{ids[row]}#{place}" for row, place in zip(rows, inner, strict=True)]
        others = {name: values.take(rows) for name, values in others.items()}
    images = parquet.ImageColumn(files, column, counts, places)
    if images.bytes <= HELD_BYTES:
        images = [images[row] for row in range(len(images))]
    return ImageSource(ids, images, others, parquet.class_names(schemas[0]), notes=notes, rows=rows)


def _no_choice(path, schema, column):
    found = ", ".join(parquet.image_columns(schema)) or "none"
    wanted = f"got column={column!r}" if column else "expected exactly one, or a column to choose"
    return f"{path}: image columns are {found} of {', '.join(schema.names)}; {wanted}"


def _open_saved(path, split, column):
    """A folder that `datasets` wrote with `save_to_disk`."""
    from memssl_keras.data.columns import Column, load_saved  # needs the package datasets

    dataset = load_saved(path, split)
    images = Column(dataset, column)
    columns = {name: dataset.data[name] for name in dataset.column_names if name != images.column}
    ids = [f"{printable(path)}#{row}" for row in range(len(dataset))]
    rows = None
    if images.places is not None:
        rows = images.places[:, 0]
        columns = {name: values.take(rows) for name, values in columns.items()}
        ids = [f"{ids[row]}#{place}" for row, place in images.places]
    return ImageSource(ids, images, columns, notes=images.notes, rows=rows)


def column_of(source: ImageSource, name: str) -> np.ndarray:
    """A column `(N,)` of a source that came with one.

    Raises:
        ValueError: where there is no such column.
    """
    if name not in source.columns:
        raise ValueError(f"column {name!r} is missing; there are {', '.join(source.columns) or 'none'}")
    return np.asarray(source.columns[name].to_pylist())
