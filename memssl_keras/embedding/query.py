"""What `memssl search` does: the pictures nearest to others, in a Parquet file of embeddings or in an index."""

from __future__ import annotations

from collections.abc import Sequence

from memssl_keras.annotations import PathLike
from memssl_keras.embedding.index import Hit, open_index
from memssl_keras.embedding.table import nearest, open_image, open_index_model, read_embeddings
from memssl_keras.images import draw_rows


def query_file(
    path: PathLike, images: Sequence[str], k: int, model: str | None = None, image_size: int | None = None
) -> list[list[Hit]]:
    """The k nearest of each image, in a file that `memssl embed` wrote or the folder of --watch.

    Args:
        path: The file or folder.
        images: Files to look for.
        k: Neighbours.
        model: Where the model that embedded them is now, if it was moved.
        image_size: As `open_index_model` takes it; by default the size at which they were embedded.

    Raises:
        ValueError: the file, the model or an image is missing or another than it was.
    """
    stored = read_embeddings(path)
    if not len(stored.images):
        raise ValueError(f"index={str(path)!r}: holds no embeddings; expected some to search")
    found = nearest(stored, open_index_model(stored, model, image_size).embed(list(images)), k)
    return [[Hit(stored.images[row], s, stored.base, {}) for row, s in rows] for rows in found]


def query_index(
    uri: str,
    images: Sequence[str],
    k: int,
    model: str | None = None,
    where: str = "",
    image_size: int | None = None,
) -> list[list[Hit]]:
    """The k nearest of each image, in an index.

    Args:
        uri: As `open_index` takes it.
        images, k, model: As in `query_file`.
        where: A filter, as `VectorIndex.search` takes it.
        image_size: As in `query_file`.

    Raises:
        Locked: another process has the index open.
        ValueError: as `query_file` and `VectorIndex.search` do.
    """
    with open_index(uri) as index:
        encoder = open_index_model(index.about, model, image_size)
        return index.search(encoder.embed(list(images)), k, where)


def draw_hits(images: Sequence[str], found: Sequence[Sequence[Hit]], path: PathLike) -> None:
    """Draw every image and what was found for it into a PNG."""
    rows = [
        (open_image(str(image)), [(open_image(hit.path), hit.similarity) for hit in hits])
        for image, hits in zip(images, found, strict=True)
    ]
    draw_rows(rows, path)
