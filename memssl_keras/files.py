"""Files: written whole or not at all, their checksums, and where caches lie."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path


def replace_file(path, write: Callable[[Path], object]) -> None:
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
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path, content: bytes) -> None:
    """Write a file whole or not at all."""
    replace_file(path, lambda part: part.write_bytes(content))


def write_json(path, content) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


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


def printable(path) -> str:
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
