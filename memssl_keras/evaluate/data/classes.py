"""Labelled images to evaluate on: which train, which test, and what is wrong with them."""

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa

from memssl_keras.data.sources import class_folders, files_of, open_source
from memssl_keras.evaluate.cache import content_hashes, data_key


@dataclasses.dataclass
class Images:
    """Rows of a source; features are made of the whole source, once, whatever uses which of its rows."""

    source: object
    key: str
    rows: np.ndarray

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.source[int(self.rows[index])]

    @property
    def parts(self):
        """Itself, as the only one of its parts."""
        return (self,)


@dataclasses.dataclass
class Joined:
    """Several `Images` one behind the other."""

    parts: tuple

    def __len__(self):
        return sum(map(len, self.parts))

    def __getitem__(self, index):
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)


def all_images(data, column=None):
    """Every image of a folder, file or Parquet, as `Images`."""
    source = open_source(data, column=column)
    return Images(source, data_key(source), np.arange(len(source)))


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


def read_labels(source, column):
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


def open_classes(data, label="label", test_share=0.2, seed=0):
    """Open images with labels: `train*` and `test*` in a folder, or one set that is split here.

    Args:
        data: Folder of Parquet files, or one file; or a folder with a subfolder of images per class, or with
            folders `train` and `test` of such.
        label: Column of labels, whole numbers or text.
        test_share: Share of each class that becomes the test set where the files are not split, between 0 and 1.
        seed: Of that split.

    Returns:
        A `Labelled`. Its notes count rows without a label, test images of classes without training images, and test
        images whose very file is among the training images.

    Raises:
        ValueError: where a column or a file is missing, or there is one class only.
    """
    if not 0 < test_share < 1:
        raise ValueError(f"test_share={test_share}: expected a number between 0 and 1")
    notes = []
    if _has(data, "test") or (pathlib.Path(data) / "test").is_dir():
        sources = [open_source(data, split=split) for split in ("train", "test")]
        if not _has(data, "test"):
            for source, split in zip(sources, ("train", "test"), strict=True):
                source.columns[label] = pa.chunked_array([class_folders(source, pathlib.Path(data) / split)])
        read = [read_labels(source, label) for source in sources]
        parts = [
            Images(s, data_key(s), np.flatnonzero(known)) for s, (_, known) in zip(sources, read, strict=True)
        ]
        labels = [values for values, _ in read]
        unlabelled, how = sum(int((~known).sum()) for _, known in read), ""
    else:
        source = open_source(data, split="train" if _has(data, "train") else None)
        sources = [source]
        folder = pathlib.Path(data)
        if folder.is_dir() and not files_of(folder, ".parquet"):
            try:
                source.columns[label] = pa.chunked_array([class_folders(source, folder)])
            except ValueError as error:
                raise ValueError(f"column {label!r} is missing, and {error}") from None
        values, known = read_labels(source, label)
        chosen = _stratified(values, test_share, seed)
        rows, key = np.flatnonzero(known), data_key(source)
        parts = [Images(source, key, rows[~chosen]), Images(source, key, rows[chosen])]
        labels = [values[~chosen], values[chosen]]
        unlabelled, how = int((~known).sum()), f" ({test_share:.0%} of each class, split with seed {seed})"
    if unlabelled:
        notes.append(f"{unlabelled} images without a label are left out")
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
        names = ", ".join(map(str, classes[np.unique(test_labels[untaught])][:5]))
        notes.append(
            f"{untaught.sum()} test images are of classes without training images ({names}): they count as wrong"
        )
    if shared := overlap(*parts):
        notes.append(
            f"{shared} of {len(parts[1])} test images are among the training images, byte for byte: figures flatter"
        )
    names = sources[0].names.get(label)
    if names and classes.dtype.kind == "i" and classes.min() >= 0 and classes.max() < len(names):
        classes = [names[c] for c in classes]
    protocol = f"{len(parts[0]):,} train and {len(parts[1]):,} test images{how}, {len(classes)} classes"
    return Labelled(*parts, train_labels, test_labels, list(map(str, classes)), protocol, notes)


def _has(data, split):
    folder = pathlib.Path(data)
    return folder.is_dir() and any(folder.glob(f"{split}*.parquet"))


def _stratified(labels, share, seed):
    """Mask of the test rows: the nearest whole number of each class, at least one row of it stays for training."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(labels), bool)
    for value in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == value))
        chosen[rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)]] = True
    return chosen


def overlap(first, second):
    """How many images of the second `Images` are among those of the first, byte for byte."""
    hashes = {id(part.source): content_hashes(part.source) for part in (first, second)}
    first, second = (hashes[id(part.source)][part.rows] for part in (first, second))
    return int(np.isin(second, first).sum())
