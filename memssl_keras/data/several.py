"""Several paths as one source of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import chain
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.data.sources import ImageSource, open_source
from memssl_keras.images import Listing
from memssl_keras.images.listing import PathTexts


def open_sources(
    data: PathLike | Sequence[PathLike], split: str | None = None, column: str | None = None
) -> ImageSource:
    """Open one or several paths as one source, in their order.

    Args:
        data: One or several of what `open_source` takes.
        split, column: As `open_source` takes them.

    Raises:
        ValueError: as `open_source` does. Columns beside the images stay only where there is one path.
    """
    if isinstance(data, str | os.PathLike):
        return open_source(data, split, column)
    if len(data) == 1:
        return open_source(data[0], split, column)
    sources = [open_source(path, split, column) for path in data]
    listings = [source.listing for source in sources]
    kinds = ("others", "unread", "hidden", "hidden_files")
    listing = Listing(
        PathTexts(), *(list(chain.from_iterable(getattr(one, kind) for one in listings)) for kind in kinds)
    )
    summaries = {one.summary() for one in listings}
    notes = [note for source in sources for note in source.notes if note not in summaries]
    if columns := sorted({name for source in sources for name in source.columns}):
        notes.append(f"columns not kept, as there are several paths: {', '.join(columns)}")
    ids = [name for source in sources for name in source.ids]
    if all(isinstance(source.items, PathTexts) for source in sources):
        items: Any = PathTexts(path for source in sources for path in source.items.texts)
    elif all(source.lists_paths for source in sources):
        items = [item for source in sources for item in source.items]
    else:
        items = _Chained(sources)
    return ImageSource(ids, items, listing=listing, notes=notes)


class _Chained:
    """Several sequences, one behind the other."""

    def __init__(self, parts):
        self.parts = parts

    def __getitem__(self, index):
        for part in self.parts:
            if index < len(part):
                return part[index]
            index -= len(part)
        raise IndexError(index)
