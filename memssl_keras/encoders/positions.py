"""Bicubic resizing of a learned position embedding, as two small matrix products.

The scale is (target + 0.1) / source per axis, the offset that DINO introduced, and sampling uses that scale.
Half-pixel centres, no antialiasing, cubic coefficient -0.75, indices clamped at the border. A grid of the
native size comes out unchanged.

References:
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from keras import ops

from memssl_keras.annotations import Tensor

_A = -0.75
_OFFSET = 0.1


def _cubic(xp, distance):
    """Keys' cubic kernel at `distance` ≥ 0; zero from 2 on."""
    near = ((_A + 2) * distance - (_A + 3)) * distance * distance + 1
    far = ((_A * distance - 5 * _A) * distance + 8 * _A) * distance - 4 * _A
    return xp.where(distance <= 1, near, xp.where(distance < 2, far, 0.0))


def _interpolation(xp, steps, scaled_target, source):
    """Matrix `(target, source)` that resizes one axis.

    `xp` is numpy, or `keras.ops` where sizes are symbolic; `steps` counts 0 … target - 1 in float32.
    """
    centres = (steps + 0.5) * (source / scaled_target) - 0.5
    base = xp.floor(centres)
    slots = np.arange(source, dtype="float32")[None]
    matrix = 0.0
    for tap in (-1, 0, 1, 2):
        index = xp.clip(base + tap, 0, source - 1)[:, None]
        weight = _cubic(xp, xp.abs(centres - base - tap))[:, None]
        matrix = matrix + xp.where(xp.equal(index, slots), weight, 0.0)
    return matrix


@functools.lru_cache(maxsize=256)
def _static_matrices(source, target):
    return [
        _interpolation(np, np.arange(t, dtype="float32"), np.float32(t + _OFFSET), s).astype("float32")
        for s, t in zip(source, target, strict=True)
    ]


@functools.lru_cache(maxsize=16)
def _on_gpu(source, target, device):
    """The matrices on a GPU, which would wait for each copy."""
    import torch

    return [torch.from_numpy(matrix).to(device) for matrix in _static_matrices(source, target)]


def _symbolic_matrices(source, target):
    steps = [ops.arange(t, dtype="float32") for t in target]
    sizes = [s[-1] + 1.0 for s in steps]
    # At the native size the scale is exactly 1 and the matrices are identities, as without resizing.
    native = ops.logical_and(ops.equal(sizes[0], source[0]), ops.equal(sizes[1], source[1]))
    offset = ops.where(native, 0.0, _OFFSET)
    return [
        _interpolation(ops, step, size + offset, s)
        for step, size, s in zip(steps, sizes, source, strict=True)
    ]


def resize_positions(positions: Tensor, source: Sequence[int], target: Sequence) -> Tensor:
    """Resize a position embedding `(1, h·w, D)` from the grid `source = (h, w)` to `target`.

    `target` holds ints, or symbolic sizes while a graph is traced with dynamic height and width.
    """
    static = all(isinstance(t, int) for t in target)
    if static and tuple(target) == tuple(source):
        return positions
    matrices_of = _static_matrices if static else _symbolic_matrices
    if static and getattr(positions, "is_cuda", False):
        matrices_of = functools.partial(_on_gpu, device=str(positions.device))
    matrices = matrices_of(tuple(source), tuple(target))
    rows, columns = (ops.cast(ops.convert_to_tensor(m), positions.dtype) for m in matrices)
    (height, width), dim = source, positions.shape[-1]
    grid = ops.matmul(rows, ops.reshape(positions, (height, width * dim)))
    grid = ops.matmul(columns, ops.reshape(grid, (-1, width, dim)))
    return ops.reshape(grid, (1, -1, dim))
