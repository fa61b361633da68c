"""A gallery of images and the cosine index over their embeddings."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memssl_keras.images import ImageError, read_image


@dataclass(frozen=True)
class Gallery:
    """Images with what is known about them; all lists have one entry per image.

    Attributes:
        images: contents of the image files.
        names: what to call each image; empty where the file has no column `name`.
        vendors, categories: likewise; the page filters by them where they are not empty.
        digests: `digest` of the decoded pixels.
    """

    images: list[bytes]
    names: list[str]
    vendors: list[str]
    categories: list[str]
    digests: list[str]

    def __len__(self):
        return len(self.images)


def digest(pixels: np.ndarray) -> str:
    """Identify an image by its pixels, whatever file format carries them."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def read_gallery(path) -> Gallery:
    """Read a gallery from Parquet.

    The column `image` holds files as bytes or as structs with a field `bytes`, as `datasets` writes them;
    `name`, `vendor` and `category` are optional strings.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not Parquet, has no rows or no usable column `image`, or a row's image cannot be
            read.

    Example:
        >>> from memssl_keras.demo.app import GALLERY
        >>> from memssl_keras.demo.index import read_gallery
        >>> gallery = read_gallery(GALLERY)
        >>> len(gallery) == len(gallery.names)
        True
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"gallery: {path}: no such file; expected a Parquet file with a column image")
    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowInvalid as error:
        raise ValueError(f"gallery: {path}: not a Parquet file ({error})") from error
    columns = table.column_names
    if "image" not in columns:
        raise ValueError(f"gallery: {path}: has the columns {', '.join(columns)}; expected a column image")
    images = [row.get("bytes") if isinstance(row, dict) else row for row in table.column("image").to_pylist()]
    if not images:
        raise ValueError(f"gallery: {path}: has no rows; expected at least one image")
    digests = []
    for row, image in enumerate(images):
        if not isinstance(image, bytes):
            raise ValueError(f"gallery: {path}: row {row} of column image holds no bytes of an image file")
        try:
            digests.append(digest(read_image(image)))
        except ImageError as error:
            raise ValueError(f"gallery: {path}: row {row}: {error.reason}") from error

    def texts(key):
        values = table.column(key).to_pylist() if key in columns else [""] * len(images)
        return ["" if value is None else str(value) for value in values]

    return Gallery(images, texts("name"), texts("vendor"), texts("category"), digests)


class CosineIndex:
    """Exact nearest neighbours by cosine similarity.

    Args:
        vectors: float32 `(N, D)` of unit length.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.demo.index import CosineIndex
        >>> rows, similarities = CosineIndex(np.eye(3, dtype="float32")).search(np.array([0, 1, 0]), k=1)
        >>> int(rows[0]), float(similarities[0])
        (1, 1.0)
    """

    def __init__(self, vectors: np.ndarray):
        self.vectors = vectors

    def search(self, query: np.ndarray, k: int, allowed: np.ndarray | None = None):
        """Find the `k` nearest.

        Args:
            query: unit vector `(D,)`.
            k: how many; fewer come back where fewer are allowed.
            allowed: bool `(N,)`: which vectors may come back; all by default.

        Returns:
            row numbers and similarities, each `(<= k,)`, the most similar first.
        """
        rows = np.arange(len(self.vectors)) if allowed is None else np.flatnonzero(allowed)
        similarities = self.vectors[rows] @ query
        order = np.argsort(-similarities, kind="stable")[:k]
        return rows[order], similarities[order]
