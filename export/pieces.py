"""Work in small pieces on several threads, results in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Piece], Result], pieces: Iterable[Piece], threads: int
) -> Iterator[tuple[Piece, Result]]:
    """Each piece and what `work` makes of it, in the order of the pieces.

    At most two pieces a thread, and one more, are taken from `pieces` before they are asked for. With one thread the
    caller's own works, and takes none ahead. What `work` raises is raised when its piece's turn comes; then, or when
    the iterator is closed, pieces that have not begun are dropped.

    Example:
        >>> from memssl_keras.export.pieces import in_order
        >>> [result for piece, result in in_order(sum, [[1, 2], [3, 4], [5]], threads=2)]
        [3, 7, 5]
    """
    if threads == 1:
        yield from ((piece, work(piece)) for piece in pieces)
        return
    pool = ThreadPoolExecutor(threads)
    ahead: deque[tuple[Piece, Future[Result]]] = deque()
    try:
        for piece in pieces:
            ahead.append((piece, pool.submit(work, piece)))
            if len(ahead) > 2 * threads:
                first, pending = ahead.popleft()
                yield first, pending.result()
        while ahead:
            first, pending = ahead.popleft()
            yield first, pending.result()
    finally:
        pool.shutdown(cancel_futures=True)
