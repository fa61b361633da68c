"""Image columns of `datasets.Dataset`, as sequences of what `read_image` takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.parquet import places_of


def _image_column(features, column=None):
    """The name of the one image column, or of the one asked for; features `None` are those of an unknown stream."""
    import datasets

    def encoded(feature):
        binary = isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")
        return binary or (isinstance(feature, dict) and "bytes" in feature)

    if features is None:
        raise ValueError(
            "the stream does not tell its columns: expected one with features, as `cast` sets them"
        )
    kinds = {name: _element(feature) or feature for name, feature in features.items()}
    images = [name for name, kind in kinds.items() if isinstance(kind, datasets.Image)]
    bare = [name for name, kind in kinds.items() if encoded(kind)]
    found = images or bare
    if column in images + bare:
        return column
    if column is None and len(found) == 1:
        return found[0]
    wanted = (
        f"got column={column!r}"
        if column
        else "expected exactly one; select_columns leaves one, column names it"
    )
    raise ValueError(
        f"found {len(found)} image columns ({', '.join(found) or 'none'}) among {', '.join(features)}: {wanted}"
    )


def _element(feature):
    """What a list of `datasets` holds; None where a feature is no list."""
    if isinstance(feature, list):
        return feature[0]
    return None if isinstance(feature, dict) else getattr(feature, "feature", None)


def undecoded(dataset: Any, column: str | None) -> tuple[str, Any]:
    """The image column's name, and the data set with that column alone, undecoded, and its shard.

    `read_image` turns, flattens and reports a file in its own way. A column of lists stays one.
    """
    import datasets

    column = _image_column(dataset.features, column)
    kept = [name for name in (column, "__url__") if name in dataset.features]
    feature: Any = datasets.Image(decode=False)
    if _element(dataset.features[column]) is not None:
        given = dataset.features[column]
        feature = [feature] if isinstance(given, list) else type(given)(feature)
    return column, dataset.select_columns(kept).cast_column(column, feature)


def pictures_of(value: Any) -> list:
    """The pictures of a row: of a list all, of an empty one a missing picture."""
    return (value or [None]) if isinstance(value, list) else [value]


def content_of(value: Any) -> Any:
    """What `read_image` takes; no bytes, which it reports as empty, where a row holds no image."""
    value = value or {}
    return value.get("bytes") or value.get("path") or b""


class Column:
    """The image column of a `datasets.Dataset`, as a sequence of what `read_image` takes.

    Where rows are lists of pictures, each picture is an element; an empty list counts as one that is missing.

    Args:
        dataset: The data set.
        column: Name of the column; by default the only one of type `datasets.Image`.

    Attributes:
        places: Of lists, the row of each picture and its place in the list, `(N, 2)`; None where there are none.
        notes: In words, how many pictures the lists hold.

    Raises:
        ValueError: listing the image columns, where there is not exactly one and none was named.

    Example:
        >>> import datasets, numpy as np
        >>> from memssl_keras.data.columns import Column
        >>> features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
        >>> rows = {"picture": [np.zeros((4, 4, 3), "uint8")], "label": [7]}
        >>> images = Column(datasets.Dataset.from_dict(rows, features))
        >>> len(images), images.column
        (1, 'picture')
    """

    def __init__(self, dataset: Any, column: str | None = None):
        self.column, self.dataset = undecoded(dataset, column)
        self.places: np.ndarray | None = None
        self.notes: list[str] = []
        if _element(self.dataset.features[self.column]) is not None:
            self.places = _places(self.dataset, self.column)
            rows = f"{len(self.places):,} pictures of {len(self.dataset):,} rows"
            self.notes.append(f"column {self.column!r} holds lists: {rows}")

    def __len__(self):
        return len(self.dataset) if self.places is None else len(self.places)

    def _at(self, index):
        """Row, place in its list, and what stands there."""
        row, place = (index, 0) if self.places is None else map(int, self.places[index])
        return row, place, pictures_of(self.dataset[row][self.column])[place]

    def __getitem__(self, index):
        return content_of(self._at(index)[-1])

    def name(self, index: int) -> str:
        """A name of that image: its row and place in a list, with its file where it has one."""
        row, place, value = self._at(index)
        where = f"row {row}" if self.places is None else f"row {row}, picture {place}"
        path = (value or {}).get("path")
        return f"{path} ({where})" if path else where


def _places(dataset, column):
    """Row and place in its list of every picture, `(N, 2)`."""
    import pyarrow.compute as pc

    batches = dataset.with_format("arrow").iter(1000)
    lengths = [pc.fill_null(pc.list_value_length(batch[column]), 0).to_numpy() for batch in batches]
    return places_of(np.concatenate([np.zeros(0, np.int64), *lengths]))


def labelled(dataset: Any, label: str | None = None) -> Any:
    """The images of a `datasets.Dataset` and their integer labels `(N,)`.

    Args:
        dataset: Has an image column and a label column.
        label: Name of the label column; by default the only one of type `datasets.ClassLabel`.

    Raises:
        ValueError: where there is not exactly one such column and none was named.
    """
    import datasets

    images = Column(dataset)
    found = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.ClassLabel)]
    if label is None and len(found) != 1:
        raise ValueError(
            f"the data set has {len(found)} ClassLabel columns ({', '.join(found) or 'none'}) among "
            f"{', '.join(dataset.features)}: expected exactly one, or images and labels apart"
        )
    labels = np.asarray(dataset[label or found[0]][:])
    return images, labels if images.places is None else labels[images.places[:, 0]]


def load_saved(path: PathLike, split: str | None = None) -> Any:
    """The `datasets.Dataset` in a folder that `save_to_disk` wrote.

    Raises:
        ValueError: it is damaged, or has no such split.
    """
    import datasets

    try:
        saved = datasets.load_from_disk(str(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not readable as a saved data set ({error})") from None
    if isinstance(saved, datasets.Dataset):
        return saved
    if split is None and len(saved) == 1:
        return next(iter(saved.values()))
    if (split or "train") not in saved:
        raise ValueError(f"{path}: split={split!r}; expected {', '.join(saved)}")
    return saved[split or "train"]
