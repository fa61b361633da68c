"""Where images come from on the command line: a folder, one image, or Parquet; read without keras or torch."""

import json
import pathlib

import numpy as np

from memssl_keras.images import list_images


class ImageSource:
    """Images in a fixed order: `source[i]` is what `read_image` takes, `source.ids[i]` its name.

    Args:
        ids: Names, unique; the path of a file, or `FILE#ROW` of a row of Parquet.
        items: Paths or encoded bytes, in the same order.
        columns: Other columns by name, each of the same length.
        names: Column → names of its whole numbers, where the file says them.
    """

    def __init__(self, ids, items, columns=None, names=None):
        self.ids, self.items, self.columns, self.names = ids, items, columns or {}, names or {}

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return self.items[index]

    def __iter__(self):
        return (self[i] for i in range(len(self)))


class _Bytes:
    """Encoded images of an Arrow struct column (`bytes`, `path`) or binary column."""

    def __init__(self, column, folder):
        import pyarrow as pa

        is_struct = pa.types.is_struct(column.type)
        self.column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        self.is_struct, self.folder = is_struct, folder

    def __getitem__(self, index):
        value = self.column[index].as_py()
        if value is None or not self.is_struct:
            return value or b""  # no bytes: `read_image` says so of that row
        if value["bytes"] is None and value.get("path"):
            return self.folder / value["path"]
        return value["bytes"] or b""


def _image_column(schema, name, path):
    import pyarrow as pa

    def holds_images(field):
        if pa.types.is_struct(field.type):
            return {"bytes"} <= {f.name for f in field.type}
        return pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)

    found = [field.name for field in schema if holds_images(field)]
    if name is None and len(found) == 1:
        return found[0]
    if name in found:
        return name
    raise ValueError(
        f"{path}: image columns are {', '.join(found) or 'none'} of {', '.join(schema.names)}; "
        + (f"got column={name!r}" if name else "expected exactly one, or a column to choose")
    )


def _class_names(schema):
    """What `datasets` wrote into a Parquet file of its columns of classes."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature["names"] for name, feature in features.items() if feature.get("names")}
    except (KeyError, ValueError, AttributeError, TypeError):  # none there, or in another form
        return {}


def _parquet(files, column):
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(file, memory_map=True) for file in files]
        table = pa.concat_tables(tables)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{', '.join(map(str, files))}: not readable as Parquet ({error})") from None
    name = _image_column(table.schema, column, files[0].parent if len(files) > 1 else files[0])
    ids = [f"{file}#{row}" for file, part in zip(files, tables, strict=True) for row in range(len(part))]
    others = {field.name: table[field.name] for field in table.schema if field.name != name}
    return ImageSource(ids, _Bytes(table[name], files[0].parent), others, _class_names(tables[0].schema))


def files_of(path, suffix, split=None):
    """The file, or the files of a folder, that end in `suffix`, sorted; of a split those whose name starts with it.

    Raises:
        ValueError: where there are such files and none is of that split.
    """
    if path.is_file():
        return [path] if path.suffix == suffix else []
    files = sorted(file for file in path.glob(f"*{suffix}") if not file.name.startswith("."))
    chosen = [file for file in files if file.name.startswith(split or "")]
    if files and not chosen:
        names, kind = ", ".join(file.name for file in files), suffix[1:].capitalize()
        raise ValueError(f"{path}: split={split!r} matches none of its {kind} files, {names}")
    return chosen


def _subfolder(path, split):
    if split is None or not path.is_dir() or (path / split).is_dir():
        return path / (split or "") if path.is_dir() else path
    there = ", ".join(sorted(p.name for p in path.iterdir() if p.is_dir())[:10]) or "none"
    raise ValueError(f"{path}: split={split!r} matches none of its subfolders, {there}, and no Parquet files")


def open_source(data, split=None, column=None):
    """Open a folder of images, a single image, a Parquet file, or a folder of Parquet files.

    Args:
        data: The path.
        split: Of a folder of Parquet files, those whose name starts with it, of a folder of images the subfolder
            called so; all by default.
        column: The image column of Parquet, where there are several.

    Returns:
        An `ImageSource`.

    Raises:
        ValueError: where there is nothing there, no image in it, or nothing of that split.
    """
    path = pathlib.Path(data)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir())[:10] if path.parent.is_dir() else []
        there = f"{path.parent} holds {', '.join(beside)}" if beside else f"nor is {path.parent}"
        raise ValueError(f"data={str(data)!r}: no such file or folder; {there}")
    if files := files_of(path, ".parquet", split):
        return _parquet(files, column)
    path = _subfolder(path, split)
    paths = [path] if path.is_file() else list_images(path)
    return ImageSource([str(p) for p in paths], paths)


def column_of(source, name):
    """A column `(N,)` of a source that came with one.

    Raises:
        ValueError: where there is no such column.
    """
    if name not in source.columns:
        raise ValueError(f"column {name!r} is missing; there are {', '.join(source.columns) or 'none'}")
    return np.asarray(source.columns[name].to_pylist())


def labels_of(source, name="label"):
    """The integer labels `(N,)` of a source.

    Raises:
        ValueError: where there is no such column, or it does not hold integers.
    """
    labels = column_of(source, name)
    if labels.dtype.kind != "i":
        raise ValueError(f"column {name!r} holds {labels.dtype}; expected integers")
    return labels


def class_folders(source, folder):
    """The subfolder of `folder` that each image of its source is in: the name of its class."""
    parts = [pathlib.Path(name).relative_to(folder).parts for name in source.ids]
    if bare := [path[0] for path in parts if len(path) < 2]:
        raise ValueError(f"{folder / bare[0]} is in no subfolder: expected a subfolder per class")
    return [path[0] for path in parts]


def open_labelled(data, label="label"):
    """Labelled images of two splits, `train` and `test`.

    Args:
        data: A folder with `train-*.parquet` and `test-*.parquet`, or with folders `train` and `test` of a
            subfolder per class; those classes are numbered in the order of their names.
        label: The column of labels of Parquet.

    Returns:
        Two pairs of an `ImageSource` and its integer labels `(N,)`.

    Raises:
        ValueError: where a split is missing, its labels are no integers, or it holds a class that `train` lacks.
    """
    path = pathlib.Path(data)
    train, test = (open_source(path, split=split) for split in ("train", "test"))
    if files_of(path, ".parquet"):
        return (train, labels_of(train, label)), (test, labels_of(test, label))
    classes = [class_folders(source, path / split) for split, source in (("train", train), ("test", test))]
    numbers = {name: number for number, name in enumerate(sorted(set(classes[0])))}
    if strange := sorted(set(classes[1]) - numbers.keys()):
        raise ValueError(
            f"{path / 'test'} holds {', '.join(strange[:5])}; the classes of train are its subfolders"
        )
    return tuple(
        (source, np.array([numbers[name] for name in names]))
        for source, names in zip((train, test), classes, strict=True)
    )
