"""Files: written whole or not at all, their checksums, and where caches lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from memssl_keras.annotations import PathLike


def replace_file(path: PathLike, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)` and move the result to `path`: the old file or the whole new one is there.

    Args:
        path: The file; folders above it are made.
        write: Writes the file whose path it is given. That path keeps the suffix, which ONNX Runtime goes by.

    Example:
        >>> import pathlib, tempfile
        >>> from memssl_keras.files import replace_file
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "new" / "note.txt"
        >>> replace_file(path, lambda part: part.write_text("whole"))
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if not error.filename and error.errno is not None:  # a full disk has no name by itself
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: PathLike) -> None:
    """Make a folder that results will be written into, before the work that they take.

    Raises:
        OSError: where it cannot be made or written into.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def write_bytes(path: PathLike, content: bytes) -> None:
    """Write a file whole or not at all."""
    replace_file(path, lambda part: part.write_bytes(content))


def write_json(path: PathLike, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: PathLike) -> Any:
    """What a JSON file holds; None where there is no file.

    Raises:
        ValueError: naming the file, where it is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from None


def sha256(*paths) -> str:
    """SHA-256 of the content of one or several files, one after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def cache_folder(kind: str) -> Path:
    """`$MEMSSL_CACHE/kind`, or `memssl/kind` in the user's cache folder; it need not exist."""
    if chosen := os.environ.get("MEMSSL_CACHE"):
        return Path(chosen) / kind
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memssl" / kind


def printable(path: PathLike) -> str:
    r"""A path as text that can be printed and stored: bytes that are not UTF-8 appear as `\xe9`.

    Example:
        >>> import os
        >>> from memssl_keras.files import printable
        >>> printable(os.fsdecode(b"caf\xe9.jpg"))
        'caf\\xe9.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def path_of(name: str) -> Path:
    r"""The file behind what `printable` made of its path: the path itself, or with `\xe9` as the byte that it was."""
    path = Path(name)
    if path.exists() or "\\x" not in name:
        return path
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), name.encode())
    return Path(os.fsdecode(raw))


_WRITTEN_WITHIN = 5.0  # seconds from making a lock file to having written its owner


class Locked(ValueError):
    """Another process writes what this one was to write."""


@contextlib.contextmanager
def lock(path: PathLike) -> Iterator[None]:
    """Hold `path` as a lock file with owner and time; one that a dead process of this machine left is taken over.

    Raises:
        Locked: another process holds it; the message names process, machine and time.
    """
    path = Path(path)
    owner = {
        "process": os.getpid(),
        "machine": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "started": _started(os.getpid()),
    }
    while True:
        try:
            with open(path, "x", encoding="utf-8") as file:
                json.dump(owner, file)
            break
        except FileExistsError:
            held = _owner(path)
            if held is None and _is_young(path):  # its owner is still writing it
                time.sleep(0.05)
                continue
            if held and _is_alive(held):
                raise Locked(
                    f"{path}: process {held['process']} on {held['machine']} has been writing there since "
                    f"{held['since']}; wait for it to end, or choose another place"
                ) from None
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _owner(path):
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone since, or cut off while it was written
        return None
    return held if isinstance(held, dict) and held.keys() >= {"process", "machine", "since"} else None


def _is_young(path):
    try:
        return time.time() - path.stat().st_mtime < _WRITTEN_WITHIN
    except OSError:  # gone since
        return False


def _is_alive(held):
    if held["machine"] != socket.gethostname():
        return True
    if held.get("started") and _started(held["process"]) not in (None, held["started"]):
        return False  # its number went to another process since
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return True
    try:
        os.kill(held["process"], 0)
    except ProcessLookupError:
        return False
    except (PermissionError, TypeError, OverflowError):
        return True
    return True


def _started(process):
    """When a process of this machine started, in the kernel's ticks; None where that cannot be told."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
