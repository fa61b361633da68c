"""Image columns of `datasets.Dataset`, as sequences of what `read_image` takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike


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
    images = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    bare = [name for name, feature in features.items() if encoded(feature)]
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


def undecoded(dataset: Any, column: str | None) -> Any:
    """That column, undecoded, and its shard: `read_image` turns, flattens and reports the file in its own way."""
    import datasets

    column = _image_column(dataset.features, column)
    kept = [name for name in (column, "__url__") if name in dataset.features]
    return column, dataset.select_columns(kept).cast_column(column, datasets.Image(decode=False))


def content_of(value: Any) -> Any:
    """What `read_image` takes; no bytes, which it reports as empty, where a row holds no image."""
    value = value or {}
    return value.get("bytes") or value.get("path") or b""


class Column:
    """The image column of a `datasets.Dataset`, as a sequence of what `read_image` takes.

    Args:
        dataset: The data set.
        column: Name of the column; by default the only one of type `datasets.Image`.

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

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return content_of(self.dataset[index][self.column])

    def name(self, index: int) -> str:
        """A name of that image: its row, with its file where it has one."""
        path = (self.dataset[index][self.column] or {}).get("path")
        return f"{path} (row {index})" if path else f"row {index}"


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
    return images, np.asarray(dataset[label or found[0]][:])


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
