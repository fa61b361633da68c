"""An index as a gallery: its pictures, columns and vectors, without embedding anything again."""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa

from memssl_keras.data.sources import ImageSource, files_behind, open_source
from memssl_keras.embedding.fields import BASE, IMAGE, VECTOR
from memssl_keras.embedding.index import Hit, open_index
from memssl_keras.files import path_of
from memssl_keras.weights.config import split_variant

_TYPES = {"BOOL": pa.bool_(), "INT64": pa.int64(), "DOUBLE": pa.float64(), "VARCHAR": pa.string()}


class IndexedSource(ImageSource):
    """The pictures of an index, in the order of their names.

    Attributes:
        vectors: `(N, D)` float32 of unit length.
        about: what made them, as `Embeddings` without rows.
        revision: of the model that made them.
        model: that model, as `open_model` takes it.
    """

    def __init__(self, uri: str):
        with open_index(uri) as index:
            rows = sorted(index.rows(), key=lambda row: row[IMAGE])
            about, fields = index.about, index.fields
        if not rows:
            raise ValueError(f"index={uri!r}: holds no pictures")
        names = [Hit(row[IMAGE], 0, row[BASE], {}).path for row in rows]
        columns = {
            name: pa.chunked_array([pa.array([row[name] for row in rows], _TYPES[kind])])
            for name, kind in fields.items()
            if kind in _TYPES
        }
        super().__init__([row[IMAGE] for row in rows], _Pictures(names), columns)
        self.vectors = np.array([row[VECTOR] for row in rows], np.float32)
        self.about, self.revision = about, about.revision
        name, variant = split_variant(about.model)
        self.model = about.locate(name) + (f"@{variant}" if variant else "")


class _Pictures:
    """What is behind names: files, and rows of Parquet and members of shards, whose files are opened when asked for."""

    def __init__(self, names):
        self.names, self.opened = names, functools.lru_cache(maxsize=4)(_opened)

    def __getitem__(self, index):
        name = self.names[index]
        file = next((file for file in files_behind(name) if path_of(file).exists()), name)
        if file == name:
            return path_of(name)
        source, places = self.opened(file)
        return source[places[name]] if name in places else path_of(name)


def _opened(file):
    source = open_source(file)
    return source, {name: place for place, name in enumerate(source.ids)}


def is_index(data: str) -> bool:
    """Whether a gallery's name is the address of an index, as `memssl index --to` takes it."""
    return "://" in data or data.partition("#")[0].endswith(".db")
