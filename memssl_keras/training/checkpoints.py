"""Checkpoints in a folder: each is written completely or not at all and verified before use; the last few are kept.

A checkpoint is a folder `step-00001200` that holds files and `SHA256SUMS`, which `sha256sum --check` reads too.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable
from pathlib import Path

from memssl_keras.annotations import PathLike

SUMS = "SHA256SUMS"
_PREFIX = "step-"


class CheckpointError(ValueError):
    """A checkpoint could not be written, or none of those there is whole."""


def _sha256(path):
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _to_disk(path):
    """Waits until a file or a folder's entries survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, in words; None where it is whole."""
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return f"{SUMS} cannot be read ({getattr(error, 'strerror', error)})"
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    files = {file.name for file in path.iterdir()} - {SUMS}
    if sums.keys() != files or not files:
        odd = ", ".join(sorted(sums.keys() ^ files)) or "everything"
        return f"{odd} is missing or not listed"
    for name, digest in sums.items():
        if _sha256(path / name) != digest:
            return f"{name} is truncated or changed"
    return None


class Checkpoints:
    """The checkpoints of a run.

    Args:
        folder: Where they are; made when the first one is written.
        keep: Number of them to keep, at least 1.

    Example:
        >>> import tempfile
        >>> from memssl_keras.training.checkpoints import Checkpoints
        >>> checkpoints = Checkpoints(tempfile.mkdtemp(), keep=2)
        >>> for step in (10, 20, 30):
        ...     checkpoints.save(step, lambda folder: (folder / "state.json").write_text("{}"))
        >>> [path.name for path in checkpoints.paths()]
        ['step-00000020', 'step-00000030']
        >>> checkpoints.newest().name
        'step-00000030'
    """

    def __init__(self, folder: PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep={keep}: expected 1 checkpoint or more")
        self.folder, self.keep = pathlib.Path(folder), keep

    def paths(self) -> list[Path]:
        """Folders of the checkpoints, the oldest first, whole or not."""
        named = self.folder.glob(f"{_PREFIX}*") if self.folder.is_dir() else ()
        return sorted(path for path in named if path.name.removeprefix(_PREFIX).isdigit())

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Add the checkpoint of `step` with the files that `write(folder)` makes, then drop the oldest.

        Raises:
            CheckpointError: where it cannot be written, as on a full disk; those before stay as they were.
        """
        path, part = self.folder / f"{_PREFIX}{step:08d}", self.folder / f".{_PREFIX}{step:08d}.part"
        try:
            self._clear_remains()
            part.mkdir(parents=True)
            write(part)
            files = sorted(part.iterdir())
            text = "".join(f"{_sha256(file)}  {file.name}\n" for file in files)
            (part / SUMS).write_text(text, encoding="utf-8")
            for written in (*files, part / SUMS, part):
                _to_disk(written)
            if path.exists():  # a damaged one of the same step; a folder cannot replace a folder
                path.rename(self.folder / f".{path.name}.old")
            part.rename(path)
            _to_disk(self.folder)
            self._drop_oldest()
        except (OSError, RuntimeError) as error:
            before = self.newest(lambda line: None) if self.paths() else None
            rest = f"{before.name} before it is whole" if before else "there is none before it"
            raise CheckpointError(
                f"{path}: could not be written ({getattr(error, 'strerror', None) or error}); {rest}. "
                "Free some space and run the same command to resume"
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def newest(self, say: Callable[[str], object] = print) -> Path | None:
        """Folder of the newest whole checkpoint, or None where there is none; `say` hears of damaged ones.

        Raises:
            CheckpointError: where there are some and all are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            wrong = damage(path)
            if wrong is None:
                return path
            say(f"checkpoint {path.name} is damaged ({wrong}): taking the one before it")
        if paths:
            raise CheckpointError(
                f"{self.folder}: all {len(paths)} checkpoints are damaged; remove that folder to start anew"
            )
        return None

    def _clear_remains(self):
        """Removes what an interruption left half written or half removed."""
        for pattern in (f".{_PREFIX}*.part", f".{_PREFIX}*.old"):
            for remains in self.folder.glob(pattern):
                shutil.rmtree(remains)

    def _drop_oldest(self):
        for path in self.paths()[: -self.keep]:
            # Renamed first: a folder half removed never passes for a checkpoint.
            path.rename(self.folder / f".{path.name}.old")
        self._clear_remains()
