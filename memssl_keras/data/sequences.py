"""Rows of sources as sequences of images, and how much two of them share."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import content_hashes, data_key
from memssl_keras.data.sources import open_source


@dataclasses.dataclass
class Images:
    """Rows of a source; features are made of the whole source, once, whatever uses which of its rows."""

    source: Any
    key: str
    rows: np.ndarray

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.source[int(self.rows[index])]

    @property
    def parts(self) -> tuple[Images, ...]:
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


def all_images(data: PathLike, column: str | None = None) -> Images:
    """Every image of a folder, file or Parquet, as `Images`."""
    source = open_source(data, column=column)
    return Images(source, data_key(source), np.arange(len(source)))


def overlap(first: Images, second: Images) -> int:
    """How many images of the second `Images` are among those of the first, byte for byte."""
    hashes = {id(part.source): content_hashes(part.source) for part in (first, second)}
    there, asked = (hashes[id(part.source)][part.rows] for part in (first, second))
    return int(np.isin(asked, there).sum())
