"""Labelled images: which train, which test, and what is wrong with them. The one reader of labels."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import data_key
from memssl_keras.data.sequences import Images, overlap
from memssl_keras.data.sources import files_of, open_source, split_folder


@dataclasses.dataclass
class Labelled:
    """Training and test images with labels.

    Attributes:
        train, test: `Images`.
        train_labels, test_labels: Classes from 0 on, `(N,)` and `(M,)`.
        classes: Names of the classes.
        protocol: In words, what was split how.
        notes: In words, what was left out or should be known.
    """

    train: Images
    test: Images
    train_labels: np.ndarray
    test_labels: np.ndarray
    classes: list
    protocol: str
    notes: list

    def where(self, readable: Callable) -> Labelled:
        """The same without the images for which `readable(images)`, a mask `(N,)`, is false; notes count them."""
        kept = [readable(part) for part in (self.train, self.test)]
        if lost := sum(int((~mask).sum()) for mask in kept):
            names = [
                name_of(part.source, int(row))
                for part, mask in zip((self.train, self.test), kept, strict=True)
                for row in part.rows[~mask]
            ]
            examples = names[:5] + (["…"] if lost > 5 else [])
            note = f"{lost} unreadable images skipped: {', '.join(examples)}"
            return dataclasses.replace(
                self,
                train=dataclasses.replace(self.train, rows=self.train.rows[kept[0]]),
                test=dataclasses.replace(self.test, rows=self.test.rows[kept[1]]),
                train_labels=self.train_labels[kept[0]],
                test_labels=self.test_labels[kept[1]],
                protocol=f"{self.protocol}, {lost} of them unreadable",
                notes=[*self.notes, note],
            )
        return self


def name_of(source: Any, row: int) -> str:
    """What an image of a source is called."""
    return source.name(row) if hasattr(source, "name") else f"image {row}"


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
        splits = _of_hub(data, column)
        return [Part(source, *read_labels(source, label)) for source in splits], []
    if path.is_dir() and not _holds_tables(path):
        folders, notes = _split_folders(path)
        return [_of_folder(folder, label) for folder in folders], notes
    train, test, notes = _split_names(path)
    sources = [
        open_source(path, split=split, column=column) for split in ([train, test] if test else [train])
    ]
    return [Part(source, *read_labels(source, label)) for source in sources], notes


def _of_hub(data, column):
    train = open_source(data, split="train", column=column)
    for name in ("test", "validation"):
        try:
            return [train, open_source(data, split=name, column=column)]
        except ValueError:
            continue
    return [train]


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


def open_classes(
    data: PathLike, label: str = "label", test_share: float = 0.2, seed: int = 0, column: str | None = None
) -> Labelled:
    """Open images with labels, split into training and test images by the data or else here.

    Args:
        data: See `labelled_parts`.
        label: Column of labels, whole numbers or text.
        test_share: Share of each class that becomes the test set where the data is not split, between 0 and 1.
        seed: Of that split.
        column: The image column of Parquet, where there are several.

    Returns:
        A `Labelled`. Its notes count rows without a label, test images of classes without training images, test
        images whose very file is among the training images, and what of the data is not used.

    Raises:
        ValueError: where a column or a file is missing, or there is one class only.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: expected a number between 0 and 1")
    found, notes = labelled_parts(data, label, column)
    notes += [note for part in found for note in part.source.notes]
    if unlabelled := sum(int((~part.known).sum()) for part in found):
        notes.append(f"{unlabelled} images without a label are left out")
    rows = [np.flatnonzero(part.known) for part in found]
    if len(found) == 2:
        parts = [Images(part.source, data_key(part.source), r) for part, r in zip(found, rows, strict=True)]
        labels, how = [part.labels for part in found], ""
    else:
        ((source, values, _),), key = found, data_key(found[0].source)
        chosen = _stratified(values, test_share, seed, None if source.rows is None else source.rows[rows[0]])
        parts = [Images(source, key, rows[0][mask]) for mask in (~chosen, chosen)]
        labels, how = (
            [values[~chosen], values[chosen]],
            f" ({test_share:.0%} of each class, split with seed {seed})",
        )
    return _checked(data, label, parts, labels, found[0].source.names.get(label), how, notes)


def _checked(data, label, parts, labels, names, how, notes):
    """A `Labelled` of parts and their labels, with notes on what is wrong with them."""
    if labels[0].dtype.kind != labels[1].dtype.kind:
        raise ValueError(f"column {label!r} holds {labels[0].dtype} in train and {labels[1].dtype} in test")
    classes, together = np.unique(np.concatenate(labels), return_inverse=True)
    if not len(labels[1]):
        raise ValueError(
            f"{data}: no test image; classes of one image each cannot be split into train and test"
        )
    if len(classes) < 2:
        raise ValueError(f"column {label!r} holds one class only, {classes[0]}: nothing to tell apart")
    train_labels, test_labels = together[: len(labels[0])], together[len(labels[0]) :]
    untaught = ~np.isin(test_labels, train_labels)
    if untaught.any():
        missing = ", ".join(map(str, classes[np.unique(test_labels[untaught])][:5]))
        notes.append(
            f"{untaught.sum()} test images are of classes without training images ({missing}): they count as wrong"
        )
    if shared := overlap(*parts):
        notes.append(
            f"{shared} of {len(parts[1])} test images are among the training images, byte for byte: figures flatter"
        )
    if names and classes.dtype.kind == "i" and classes.min() >= 0 and classes.max() < len(names):
        classes = [names[c] for c in classes]
    protocol = f"{len(parts[0]):,} train and {len(parts[1]):,} test images{how}, {len(classes)} classes"
    return Labelled(*parts, train_labels, test_labels, list(map(str, classes)), protocol, notes)


def _stratified(labels, share, seed, groups=None):
    """Mask of the test images: the nearest whole number of each class, at least one of it stays for training.

    Images of one group, such as those of one row of Parquet, stay together: whole groups are counted then.
    """
    if groups is not None:
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        return _stratified(labels[first], share, seed)[inverse]
    rng, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        chosen[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return chosen
