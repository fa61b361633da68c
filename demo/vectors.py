"""The vectors of a gallery: embedded once, kept under the images' contents and the model's revision."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from memssl_keras.demo.indexed import IndexedSource
from memssl_keras.files import write_bytes
from memssl_keras.images import ImageError, read_image

SHIPPED = Path(__file__).parent / "gallery" / "vectors"  # a folder for each model, named after its revision
_CHUNK = 512  # images after which an interruption loses nothing
_BATCH, _BATCH_BYTES = 32, 2**27  # images that are decoded at once, and their bytes


class Embedded(NamedTuple):
    """What `embed_gallery` gives; the first three have one entry per image that could be read."""

    rows: np.ndarray  # int64 (M,): positions in the source
    vectors: np.ndarray  # float32 (M, D), of unit length
    pixels: np.ndarray  # S16 (M,): `pixel_digest` of each
    failures: list[ImageError]
    fresh: int  # how many were embedded now


def pixel_digest(pixels: np.ndarray) -> bytes:
    """Identify an image by its pixels, whatever file format carries them: 16 bytes."""
    return hashlib.blake2b(repr(pixels.shape).encode() + pixels.tobytes(), digest_size=15).digest() + b"\1"


def embed_gallery(encoder, source, folder, advance=lambda count: None, shipped=None) -> Embedded:
    """Vectors of all images of a source; only what the folder does not hold yet is embedded, and added to it.

    Of an index the vectors are its own, where this revision of the model made them. Otherwise an image is known by the
    bytes of its file, so that moved and renamed ones are not embedded again. A file of the
    folder that is damaged counts as missing.

    Args:
        encoder: an `OnnxEncoder`.
        source: an `ImageSource`.
        folder: where to keep vectors of this revision of the model; None keeps nothing.
        advance: called with the number of images done since the last call.
        shipped: a folder of vectors of this revision that came with the package, as `write_shipped` writes them.
    """
    if isinstance(source, IndexedSource) and source.revision == encoder.revision():
        advance(len(source))
        unread = np.array([b"row %d" % row for row in range(len(source))], "S16")  # in place of their digests
        return Embedded(np.arange(len(source)), source.vectors, unread, [], 0)
    known = _Known(folder, encoder.embed_dim, shipped)
    contents, todo = [], []
    for row in range(len(source)):
        content = _content(source, row)
        contents.append(content)
        if content in known:
            advance(1)
        else:
            todo.append(row)
    reasons: dict = {}
    fresh = 0
    for start in range(0, len(todo), _CHUNK):
        chunk = todo[start : start + _CHUNK]
        fresh += known.add(*_embed(encoder, source, chunk, contents, reasons, advance))
    there = [row for row in range(len(source)) if contents[row] in known]
    vectors, pixels = known.take([contents[row] for row in there])
    failures = [ImageError(source.ids[row], reason) for row, reason in sorted(reasons.items())]
    return Embedded(np.array(there, np.int64), vectors, pixels, failures, fresh)


def _content(source, row):
    item = source[row]
    if not isinstance(item, bytes):
        try:
            item = Path(item).read_bytes()
        except OSError:
            item = str(item).encode(errors="replace") + b": cannot be read"
    return hashlib.blake2b(item, digest_size=15).digest() + b"\1"  # numpy's S16 drops zeros at the end


def _embed(encoder, source, rows, contents, reasons, advance):
    done, vectors, pixels, pictures = [], [np.zeros((0, encoder.embed_dim), np.float32)], [], []

    def run():
        if pictures:
            vectors.append(encoder.embed(pictures))
            pictures.clear()

    for row in rows:
        try:
            picture = read_image(source[row])
        except ImageError as error:
            reasons[row] = error.reason
        else:
            pictures.append(picture)
            pixels.append(pixel_digest(picture))
            done.append(contents[row])
        if len(pictures) == _BATCH or sum(picture.size for picture in pictures) > _BATCH_BYTES:
            run()
        advance(1)
    run()
    return done, np.concatenate(vectors), pixels


def write_shipped(embedded: Embedded, source, folder) -> Path:
    """Write vectors to ship with the package: int8, of which the length is restored when they are read.

    Args:
        embedded: what `embed_gallery` gave for all of the source.
        source: the same `ImageSource`.
        folder: where to; named after the model's revision.

    Returns:
        the file.
    """
    scale = 127 / np.abs(embedded.vectors).max(1, keepdims=True)
    contents = b"".join(_content(source, int(row)) for row in embedded.rows)
    tensors = {
        "contents": np.frombuffer(contents, np.uint8).reshape(-1, 16),
        "vectors": np.round(embedded.vectors * scale).astype(np.int8),
        "pixels": np.frombuffer(embedded.pixels.tobytes(), np.uint8).reshape(-1, 16),
    }
    path = Path(folder) / "icons.safetensors"
    write_bytes(path, save(tensors))
    return path


def _files(folder):
    return sorted(Path(folder).glob("*.safetensors"))


def _unit(vectors):
    vectors = vectors.astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class _Known:
    """What is known by content: one growing table, and the files that it is kept in."""

    def __init__(self, folder, embed_dim, shipped=None):
        self._folder = None if folder is None else Path(folder)
        self._rows: dict[bytes, int] = {}
        self._vectors = [np.zeros((0, embed_dim), np.float32)]
        self._pixels: list[bytes] = []
        for path in [file for there in (shipped, self._folder) if there for file in _files(there)]:
            with contextlib.suppress(SafetensorError, OSError, KeyError, ValueError):
                part = load_file(path)
                contents, vectors, pixels = part["contents"], part["vectors"], part["pixels"]
                count = len(contents)
                if vectors.shape == (count, embed_dim) and contents.shape == pixels.shape == (count, 16):
                    vectors = _unit(vectors) if vectors.dtype == np.int8 else vectors
                    self._append([c.tobytes() for c in contents], vectors, [p.tobytes() for p in pixels])

    def __contains__(self, content):
        return content in self._rows

    def take(self, contents):
        rows = [self._rows[content] for content in contents]
        table = self._vectors = [np.concatenate(self._vectors)]
        return table[0][rows], np.array([self._pixels[row] for row in rows], "S16")

    def add(self, contents, vectors, pixels):
        if contents and self._folder:

            def as_bytes(values):
                return np.frombuffer(b"".join(values), np.uint8).reshape(-1, 16)

            tensors = {"contents": as_bytes(contents), "vectors": vectors, "pixels": as_bytes(pixels)}
            try:
                write_bytes(self._folder / f"{uuid.uuid4().hex}.safetensors", save(tensors))
            except OSError as error:  # a home that cannot be written to stops nothing
                warnings.warn(
                    f"{self._folder}: vectors are not kept there ({error.strerror or error})", stacklevel=2
                )
                self._folder = None
        self._append(contents, vectors, pixels)
        return len(contents)

    def _append(self, contents, vectors, pixels):
        self._rows.update({content: len(self._pixels) + i for i, content in enumerate(contents)})
        self._vectors.append(vectors)
        self._pixels += pixels
