"""What images are, as hashes: to notice that they changed, and to find the same file twice."""

import hashlib
import os
import pathlib
import uuid
from collections.abc import Iterable

import numpy as np

from memssl_keras.annotations import PathLike


def content_hashes(source: Iterable) -> np.ndarray:
    """A hash of each image's file, `(N,)` of text; equal files have equal ones, a file that cannot be read its own.

    Of an image that is in no file, the hash is of its pixels.
    """
    digests = []
    for item in source:
        try:
            data = item if isinstance(item, bytes) else _content(item)
        except OSError:
            data = uuid.uuid4().bytes
        digests.append(hashlib.blake2b(data, digest_size=16).hexdigest())
    return np.array(digests, dtype="U32")


def _content(item):
    if isinstance(item, str | os.PathLike):
        return pathlib.Path(item).read_bytes()
    pixels = np.ascontiguousarray(item)
    return f"{pixels.dtype} {pixels.shape} ".encode() + pixels.tobytes()


def data_key(source: Iterable) -> str:
    """One hash of a source's images and their order: of their bytes, or of path, size and time of files."""
    digest = hashlib.sha256()
    for item in source:
        if isinstance(item, bytes):
            digest.update(hashlib.blake2b(item, digest_size=16).digest())
        else:
            digest.update(os.fsencode(item) + file_state(item).encode())
    return digest.hexdigest()


def file_state(path: PathLike) -> str:
    """Size and time of change of a file, as text; empty for one that is not there."""
    try:
        state = os.stat(path)
    except OSError:
        return ""
    return f"\0{state.st_size}\0{state.st_mtime_ns}\0"
