"""The grid of patches behind learned positions: a bare state dict has their number, not their shape.

64 positions are those of 8 × 8 patches, and of 4 × 16. Taken for the wrong shape, every position but a few is put in
another place, and nothing fails.
"""

from __future__ import annotations

import math

import numpy as np

from memssl_keras.weights.checkpoint import CheckpointError

# How the square's differences compare with the next shape's. Measured on trained positions of 8 × 8 and on sines and
# cosines of up to 37 × 37: a true square has at most .74, a square that is none at least 1.4 and mostly 3, positions
# that were never trained 1.
_SQUARE, _OTHER = 0.9, 1.3
_LEARNT = 0.8  # neighbours that differ more than this share of what any two do tell nothing


def differences(patches: np.ndarray) -> dict[int, float]:
    """How much neighbours differ, for each number of columns that the positions may have.

    Trained positions of neighbouring patches are alike, so that the true grid has the smallest differences.

    Args:
        patches: Positions of patches alone `(N, D)`, row by row.

    Returns:
        Columns → mean squared difference of neighbours within and between rows, as a share of that of any two.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.weights.readers.grid import differences
        >>> rows, columns = np.mgrid[:4, :16].reshape(2, 64)
        >>> shapes = differences(np.stack([rows * 3, columns], 1))
        >>> min(shapes, key=shapes.get)
        16
    """
    patches = patches - patches.mean(0)
    count, scale = len(patches), 2 * float((patches**2).sum(1).mean())
    found = {}
    for columns in (n for n in range(1, count + 1) if count % n == 0):
        grid = patches.reshape(count // columns, columns, -1)
        steps = [(np.diff(grid, axis=axis) ** 2).sum(-1).ravel() for axis in (0, 1)]
        found[columns] = float(np.concatenate(steps).mean()) / scale if scale else 1.0
    return found


def looks_square(patches: np.ndarray) -> bool | None:
    """Whether positions `(n², D)` look like those of `n × n` patches; None where they do not tell.

    True and False are said of trained positions alone, in which neighbours are clearly alike in one shape.
    """
    shapes = differences(patches)
    square = shapes.pop(math.isqrt(len(patches)))
    if not shapes:
        return True
    other = min(shapes.values())
    if min(square, other) > _LEARNT or _SQUARE * other < square < _OTHER * other:
        return None
    return square < other


def grid_side(
    positions: np.ndarray, patch: int, square: bool = False, trained_size: int | None = None
) -> int:
    """Patches along a side of the square grid that positions belong to.

    Args:
        positions: `(1, 1 + N, D)`, CLS first.
        patch: Side of a patch in pixels.
        square: Whether the file's family or a configuration says that images were square.
        trained_size: Side in pixels of the square images that the positions are for, where the user says it.

    Raises:
        CheckpointError: where the grid is no square, or nothing tells its shape.
    """
    count = positions.shape[1] - 1
    side = math.isqrt(max(count, 0))
    if side < 1 or side * side != count:
        raise CheckpointError(
            f"pos_embed: {count} positions beside that of CLS are no square grid; expected those of square images"
        )
    if trained_size is not None:
        if trained_size // patch != side:
            raise CheckpointError(
                f"trained_size={trained_size}: the checkpoint has {count} positions of patches of {patch} px; expected "
                f"{side * patch}"
            )
        return side
    seen = looks_square(positions[0, 1:])
    if seen or (square and seen is None):
        return side
    shapes = [f"{n} × {count // n}" for n in range(side - 1, 0, -1) if count % n == 0]
    why = "nothing tells the shape of the grid" if seen is None else "the grid does not look square"
    raise CheckpointError(
        f"trained_size: {why}: the checkpoint's {count} positions may be those of {side} × {side} patches or of "
        f"{' or '.join(shapes[:2])}. If its images were square, pass trained_size={side * patch}, or memssl convert "
        f"--trained-size {side * patch}; other shapes are not supported"
    )
