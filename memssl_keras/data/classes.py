"""Classes to learn and to be tested on: labelled images, split into train and test, and what is wrong with them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import data_key
from memssl_keras.data.labels import labelled_parts
from memssl_keras.data.names import name_of
from memssl_keras.data.sequences import Images, overlap
from memssl_keras.words import counted


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
            note = f"{counted(lost, 'unreadable image')} skipped: {', '.join(examples)}"
            return dataclasses.replace(
                self,
                train=dataclasses.replace(self.train, rows=self.train.rows[kept[0]]),
                test=dataclasses.replace(self.test, rows=self.test.rows[kept[1]]),
                train_labels=self.train_labels[kept[0]],
                test_labels=self.test_labels[kept[1]],
                protocol=f"{self.protocol}, {counted(lost, 'image')} unreadable",
                notes=[*self.notes, note],
            )
        return self


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
        notes.append(f"{unlabelled} images without a label are skipped")
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
