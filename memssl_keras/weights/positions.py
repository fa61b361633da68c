"""Position embeddings at another size, in the ways of those who trained them.

A folder's encoder has its positions at the size that its preprocessing gives, so that every library that reads the
folder starts from the same ones: each of them resizes a little differently, which moves an embedding by more than
1e-4.
"""

from __future__ import annotations

import math

import numpy as np


def resize(positions: np.ndarray, side: int, way: str = "dino") -> np.ndarray:
    """Resize `(1, 1 + n², D)`, CLS first, to `(1, 1 + side², D)`.

    Args:
        positions: float32 array.
        side: Patches along a side.
        way: "dino" for this package's and DINO's bicubic with its offset of 0.1; "torch" for plain bicubic, as
            transformers' ViT and Dinov2 have it; "antialias" for bicubic with antialiasing, as Dinov2 with registers.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.weights.positions import resize
        >>> resize(np.zeros((1, 17, 8), "float32"), 8).shape
        (1, 65, 8)
    """
    source = math.isqrt(positions.shape[1] - 1)
    if source == side or source * source != positions.shape[1] - 1:
        return positions
    if way == "dino":
        from keras import ops

        from memssl_keras.encoders.positions import resize_positions

        grid = ops.convert_to_numpy(resize_positions(positions[:, 1:], (source, source), (side, side)))
    else:
        import torch

        maps = torch.from_numpy(positions[:, 1:]).reshape(1, source, source, -1).permute(0, 3, 1, 2)
        maps = torch.nn.functional.interpolate(
            maps, size=(side, side), mode="bicubic", align_corners=False, antialias=way == "antialias"
        )
        grid = maps.permute(0, 2, 3, 1).reshape(1, side * side, -1).numpy()
    return np.concatenate([positions[:, :1], grid], 1)
