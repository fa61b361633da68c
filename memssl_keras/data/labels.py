"""The one reader of labels: of columns, of folders of classes, and of the splits that data comes in."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memssl_keras.annotations import PathLike
from memssl_keras.data.hub import splits_of
from memssl_keras.data.sources import open_source
from memssl_keras.data.splits import files_of, split_folder


def read_labels(source: Any, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels `(N,)` of a source, and which rows have one: a missing value and −1 say that there is none.

    Raises:
        ValueError: where there is no such column, or it holds neither whole numbers nor text.
    """
    column_of_it = source.columns.get(column)
    if column_of_it is None:
        there = ", ".join(source.columns) or "none"
        raise ValueError(f"column {column!r} is missing; there are {there}")
    values = column_of_it.to_pylist()
    known = np.array([value is not None and value != -1 for value in values], bool)
    labels = np.array([value for value, there in zip(values, known, strict=True) if there])
    if not known.any():
        raise ValueError(f"column {column!r} holds no label in any of {len(values)} rows")
    if labels.dtype.kind not in "iU":
        raise ValueError(f"column {column!r} holds {labels.dtype}; expected integers or text")
    return labels, known


def numbered_labels(source: Any, column: str) -> np.ndarray:
    """Labels `(N,)` of a source as numbers from 0 on.

    Raises:
        ValueError: where there is no such column, or a row without a label.
    """
    labels, known = read_labels(source, column)
    if not known.all():
        raise ValueError(f"column {column!r} holds no label in {int((~known).sum())} of {len(known)} rows")
    return np.unique(labels, return_inverse=True)[1]


class Part(NamedTuple):
    """One split: its images, the label of each that has one, and which have one."""

    source: Any
    labels: np.ndarray
    known: np.ndarray


def labelled_parts(
    data: PathLike, label: str = "label", column: str | None = None
) -> tuple[list[Part], list[str]]:
    """Training and test images with their labels, or one set where the data is not split.

    Args:
        data: Parquet with a column of labels, or a folder with a subfolder of pictures for each class. Both may be
            split: by the names of Parquet files, or by the folders above those of the classes. Splits are called
            `train` (`training`), and `test` (`testing`) or else `validation` (`valid`, `val`, `dev`).
        label: Column of labels, whole numbers or text.
        column: The image column of Parquet, where there are several.

    Returns:
        A list of two `Part`s or of one, and what to know of the choice, in words.

    Raises:
        ValueError: where a column is missing, pictures lie outside of the folders of classes, or these hold folders
            alone.
    """
    path = pathlib.Path(data)
    if str(data).startswith("hub:"):
        splits, notes = _of_hub(data, column)
        return [Part(source, *read_labels(source, label)) for source in splits], notes
    if path.is_dir() and not _holds_tables(path):
        folders, notes = _split_folders(path)
        return [_of_folder(folder, label) for folder in folders], notes
    train, test, notes = _split_names(path)
    sources = [
        open_source(path, split=split, column=column) for split in ([train, test] if test else [train])
    ]
    return [Part(source, *read_labels(source, label)) for source in sources], notes


def _of_hub(data, column):
    there = splits_of(data)
    test, *unused = [name for name in ("test", "validation") if name in there] or [None]
    names = ["train", test] if test else ["train"]
    notes = [f"{name} is not used" for name in unused]
    return [open_source(data, split=name, column=column) for name in names], notes


def _holds_tables(path):
    saved = any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))
    return saved or bool(files_of(path, ".parquet"))


def _split_names(path):
    """Names of the training and the test split of Parquet files, None where they are not split so; and notes."""
    there = [split for split in ("train", "test", "validation") if _has(path, split)]
    if "train" not in there or len(there) < 2:
        return (there[0] if len(there) == 1 and path.is_dir() and there[0] == "train" else None), None, []
    unused = [f"{split} is not used" for split in there[2:]]
    return "train", there[1], unused


def _has(path, split):
    try:
        return path.is_dir() and bool(files_of(path, ".parquet", split))
    except ValueError:
        return False


def _split_folders(path):
    """The folders of classes for training and testing, or the one folder of classes; and notes."""
    train, test, validation = (split_folder(path, split) for split in ("train", "test", "validation"))
    held = [child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")]
    if train and (test or validation):
        unused = [f"{validation} is not used"] if test and validation else []
        others = [child.name for child in held if child not in (train, test, validation)]
        unused += [f"{', '.join(sorted(others))} beside the splits not used"] if others else []
        return [train, test or validation], unused
    only = next((folder for folder in (train, test, validation) if held == [folder]), None)
    return [only or path], []


def _of_folder(folder, label):
    source = open_source(folder)
    classes = class_folders(source, folder)
    source.columns[label] = pa.chunked_array([pa.array(classes, pa.string())])
    return Part(source, *read_labels(source, label))


def class_folders(source: Any, folder: pathlib.Path) -> list[str]:
    """The subfolder of `folder` that each image of its source is in: the name of its class.

    Raises:
        ValueError: where an image is in none, or the subfolders hold nothing but folders.
    """
    parts = [item.relative_to(folder).parts for item in source.items]
    if bare := [path[0] for path in parts if len(path) < 2]:
        raise ValueError(f"{folder / bare[0]} is in no subfolder: expected a subfolder per class")
    if all(len(path) > 2 for path in parts):
        names = ", ".join(sorted({path[0] for path in parts})[:5])
        raise ValueError(
            f"{folder}: its subfolders ({names}) hold only subfolders; expected {folder.name}/CLASS/picture, or "
            f"{folder.name}/train/CLASS/picture and {folder.name}/test/CLASS/picture"
        )
    return [path[0] for path in parts]
