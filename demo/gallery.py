"""A gallery: the images to search, what they are called, and the columns that they can be filtered by."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from memssl_keras.data.sources import ImageSource, open_source
from memssl_keras.demo.indexed import IndexedSource, is_index
from memssl_keras.images.read import ImageError, read_image

BUNDLED = Path(__file__).parent / "gallery" / "icons.parquet"
MOST_VALUES = 40  # different values of a column that is offered as a filter
_MOST_COLUMNS = 4


class Icons(NamedTuple):
    """What makes a gallery one of icons; one entry per image."""

    ids: list[str]  # such as lucide:house
    groups: list[str]  # drawings of one thing share it


class Gallery:
    """Images in a fixed order; all lists have one entry per image.

    Args:
        source: the images.
        names: what to call each.
        columns: label of a column → (its values, the position of each image's value among them as int32 `(N,)`, -1
            where it has none).
        icons: ids and groups, where the images are icons.

    Attributes:
        key: changes with the images' names and their number; part of the address of a picture.
        bundled: whether it is the whole of the gallery that comes with the package.
    """

    bundled = False

    def __init__(self, source: ImageSource, names: list[str], columns: dict, icons: Icons | None = None):
        self.source, self.names, self.columns, self.icons = source, names, columns, icons
        self.key = hashlib.sha256("\n".join(source.ids).encode(errors="replace")).hexdigest()[:12]

    def __len__(self):
        return len(self.source)

    def read(self, row: int) -> np.ndarray:
        """An image, uint8 `(H, W, 3)`.

        Raises:
            ImageError: its file has gone or changed for the worse.
        """
        return read_image(self.source[row])

    def value(self, row: int, label: str) -> str:
        """What a column says of an image; empty where it says nothing."""
        values, places = self.columns[label]
        return values[places[row]] if places[row] >= 0 else ""

    def about(self, row: int) -> str:
        """What the first column says of an image."""
        return self.value(row, next(iter(self.columns))) if self.columns else ""

    def title(self, row: int) -> str:
        """Name and first column, as far as they are known."""
        return " · ".join(filter(None, (self.names[row], self.about(row))))

    def take(self, rows) -> Gallery:
        """The images of `rows` alone."""
        ids, items = ([part[row] for row in rows] for part in (self.source.ids, self.source))
        source = ImageSource(ids, items, notes=self.source.notes)
        columns = {label: (values, places[rows]) for label, (values, places) in self.columns.items()}
        icons = self.icons and Icons(*([part[row] for row in rows] for part in self.icons))
        return Gallery(source, [self.names[row] for row in rows], columns, icons)


def open_gallery(data=None) -> Gallery:
    """Open a folder of images, Parquet, or a data set on the Hub as a gallery.

    A column `name` names the images, or else their files do. Columns of texts, whole numbers or truths with 2 to 40
    different values can be filtered by, the first four of them; of a folder, its subfolders. With columns `id`, `group`
    and `set` it is a gallery of icons, which are named.

    Args:
        data: a folder, a Parquet file or a folder of them, `hub:OWNER/NAME`, or an index as `memssl index` has it; by
            default the bundled icons.

    Raises:
        ValueError: there is nothing there, it holds no image, or is damaged.

    Example:
        >>> from memssl_keras.demo.gallery import open_gallery
        >>> gallery = open_gallery()
        >>> list(gallery.columns)
        ['Set', 'Style', 'Licence', 'Category']
    """
    data = str(data or BUNDLED)
    try:
        source = IndexedSource(data) if is_index(data) else open_source(data)
    except (ImageError, ValueError) as error:
        raise ValueError(f"gallery: {error}") from error
    if not len(source):
        raise ValueError(f"gallery: {data}: has no rows; expected at least one image")
    texts = {name: _texts(source, name) for name in source.columns}
    if source.columns:
        names = texts.pop("name", None) or (
            [PurePath(name).name for name in source.ids] if is_index(data) else [""] * len(source)
        )
        names = [name or f"Image {row}" for row, name in enumerate(names)]
    else:
        names = [PurePath(name).name for name in source.ids]
        if Path(data).is_dir() and not is_index(data):
            folders = [PurePath(name).relative_to(data).parent.as_posix() for name in source.ids]
            texts = {"folder": ["" if folder == "." else folder for folder in folders]}
    icons = None
    if texts.get("id") and texts.get("group") and texts.get("set"):
        icons = Icons(texts.pop("id"), texts.pop("group"))
    columns: dict = {}
    for name, values in sorted(texts.items(), key=lambda item: item[0] not in ("set", "vendor")):
        if values and 2 <= len(set(filter(None, values))) <= MOST_VALUES and len(columns) < _MOST_COLUMNS:
            columns[name.replace("_", " ").capitalize()] = _coded(values)
    gallery = Gallery(source, names, columns, icons)
    gallery.bundled = data == str(BUNDLED)
    return gallery


def _texts(source, name):
    """A column as texts; None where it is of another kind."""
    import pyarrow as pa

    column, kind = source.columns[name], source.columns[name].type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)
            or pa.types.is_boolean(kind)):  # fmt: skip
        return None
    values, classes = column.to_pylist(), source.names.get(name)
    if classes:
        values = [classes[v] if isinstance(v, int) and 0 <= v < len(classes) else v for v in values]
    return ["" if value is None else str(value) for value in values]


def _coded(values):
    there = sorted(
        set(filter(None, values)),
        key=lambda text: (not text.isdigit(), int(text) if text.isdigit() else 0, text),
    )
    places = {value: place for place, value in enumerate(there)}
    return there, np.array([places.get(value, -1) for value in values], np.int32)
