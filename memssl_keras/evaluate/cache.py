"""Features made once: kept under what they depend on, and resumed where a run was cut off."""

from __future__ import annotations

import hashlib
import json
import pathlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.files import replace_file, write_bytes
from memssl_keras.images import ImageError, read_image

VERSION = 1  # of what is kept; another one is made anew


class FeatureCache:
    """Features of images, computed once in chunks and kept as `.npy` beside a `.json` that says of what.

    Args:
        folder: Where to; None keeps nothing.
        chunk: Images embedded between two writes: what is lost at most when a run is cut off.
    """

    def __init__(self, folder: PathLike | None = None, chunk: int = 1000):
        if chunk < 1:
            raise ValueError(f"chunk={chunk}: expected 1 image or more")
        self.folder, self.chunk = None if folder is None else pathlib.Path(folder), chunk

    def features(
        self, embedder: Any, images: Sequence, key: str, track: Callable[[Iterable], Iterable] = iter
    ) -> np.ndarray:
        """Features `(N, D)` float32 of `images`; a row of NaN for each that cannot be read.

        Args:
            embedder: An `Embedder`.
            images: A sequence of what `read_image` takes.
            key: What the images are, a string such as `data_key`'s.
            track: Wraps the chunks' starts, for a progress bar.

        Raises:
            ValueError: where the embedder returns another number of rows, other widths, or values that are not
                finite: such features are not kept.
        """
        about = {"version": VERSION, "embedder": embedder.key, "data": key, "chunk": self.chunk}
        text = json.dumps(about, indent=2, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:32]
        if (kept := self._read(f"{name}.npy", len(images))) is not None:
            return kept
        parts, starts = [], range(0, len(images), self.chunk)
        for start in track(starts):
            rows = range(start, min(start + self.chunk, len(images)))
            part = self._read(f"{name}.{start}.npy", len(rows))
            if part is None:
                part = _checked(embedder, images, rows)
                self._write(f"{name}.{start}.npy", part)
            parts.append(part)
        features = _joined(parts, embedder.name)
        self._write(f"{name}.npy", features)
        if self.folder is not None:  # else writing has just failed, or nothing is kept
            write_bytes(self.folder / f"{name}.json", f"{text}\n".encode())
            for start in starts:
                (self.folder / f"{name}.{start}.npy").unlink(missing_ok=True)
        return features

    def _read(self, name, count):
        if self.folder is None or not (self.folder / name).is_file():
            return None
        try:
            features = np.load(self.folder / name, allow_pickle=False)
        except (ValueError, EOFError, OSError):  # damaged: made anew
            return None
        return features if features.ndim == 2 and len(features) == count else None

    def _write(self, name, features):
        if self.folder is None:
            return
        try:
            replace_file(self.folder / name, lambda path: np.save(path, features, allow_pickle=False))
        except OSError as error:  # a home that cannot be written to stops nothing
            warnings.warn(
                f"{self.folder}: features are not kept there ({error.strerror or error})", stacklevel=2
            )
            self.folder = None


def _joined(parts, name):
    # The width is 0 where no image of a chunk can be read.
    widths = sorted({part.shape[1] for part in parts if part.shape[1]})
    if len(widths) > 1:
        raise ValueError(f"{name}: widths {widths[0]} and {widths[1]}; expected one of all")
    if not widths:
        raise ValueError(f"{name}: none of {sum(map(len, parts)):,} images can be read")
    return np.concatenate(
        [part if part.shape[1] else np.full((len(part), widths[0]), np.nan, "float32") for part in parts]
    )


def _checked(embedder, images, rows):
    """Features of some rows; those of images that cannot be read are NaN."""
    chosen, readable = [images[i] for i in rows], None
    try:
        made = embedder.embed(chosen)
    except ImageError:
        readable = np.array([_is_readable(image) for image in chosen])
        if readable.all():
            raise
        chosen = [image for image, good in zip(chosen, readable, strict=True) if good]
        made = embedder.embed(chosen) if chosen else np.zeros((0, 0), "float32")
    try:
        features = np.asarray(made, "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{embedder.name}: expected features (N, D) of numbers ({error})") from None
    if features.ndim != 2 or len(features) != len(chosen):
        raise ValueError(
            f"{embedder.name}: {len(chosen)} images became features of shape {features.shape}; "
            f"expected ({len(chosen)}, D)"
        )
    if bad := int((~np.isfinite(features).all(axis=1)).sum()):
        raise ValueError(f"{embedder.name}: features of {bad} of {len(chosen)} images hold NaN or infinity")
    if readable is None:
        return features
    spread = np.full((len(rows), features.shape[1]), np.nan, "float32")
    spread[readable] = features
    return spread


def _is_readable(image):
    try:
        read_image(image)
    except ImageError:
        return False
    return True
