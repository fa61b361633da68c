"""Keeps the disk that visitors fill within bounds."""

from __future__ import annotations

import threading
from pathlib import Path

MOST_BYTES = 512 * 2**20  # of pictures and files that wait for their visitors, all together
MOST_UPLOAD = 32 * 2**20  # of one file
_CHECK_EVERY_BYTES, _CHECK_EVERY = 32 * 2**20, 200


class DiskLimit:
    """ASGI middleware: removes the oldest files of a folder once visitors have filled it.

    The folder is looked through after every 32 MiB or 200 requests that may write, not at each of them; it exceeds its
    limit by no more than what came between.

    Args:
        app: the application.
        folder: what visitors fill.
        most: bytes to keep.
    """

    def __init__(self, app, folder, most: int = MOST_BYTES):
        self._app, self._folder, self._most = app, Path(folder), most
        self._lock, self._bytes, self._requests = threading.Lock(), 0, 0

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return

        async def counted():
            message = await receive()
            self._bytes += len(message.get("body", b""))
            return message

        await self._app(scope, counted, send)
        self._requests += 1
        if self._bytes > _CHECK_EVERY_BYTES or self._requests > _CHECK_EVERY:
            self._bytes = self._requests = 0
            threading.Thread(target=self._prune, daemon=True).start()

    def _prune(self):
        with self._lock:
            prune(self._folder, self._most)


def prune(folder, most: int) -> int:
    """Remove the oldest files below a folder until the rest is of `most` bytes; returns how many were removed."""
    files = []
    for path in Path(folder).rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                state = path.stat()
                files.append((state.st_mtime_ns, state.st_size, path))
        except OSError:  # gone meanwhile
            continue
    total, removed = sum(size for _, size, _ in files), 0
    for _, size, path in sorted(files):
        if total <= most:
            break
        path.unlink(missing_ok=True)
        total, removed = total - size, removed + 1
        if path.parent != Path(folder) and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return removed
