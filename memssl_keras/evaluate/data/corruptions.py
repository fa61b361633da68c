"""Pictures made worse at five strengths: what an encoder still recognises.

References:
    Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019
    (arXiv 1903.12261), for corruptions at five strengths. The strengths here are relative to the picture's size, so
    that one list serves 32 and 500 px.
"""

from __future__ import annotations

import hashlib
import io
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from memssl_keras.images.read import read_image

CORRUPTIONS = {
    "blur": (0.01, 0.02, 0.03, 0.045, 0.06),  # standard deviation, as a share of the shorter side
    "noise": (8, 16, 24, 36, 48),  # standard deviation, of 255
    "JPEG": (50, 30, 20, 12, 7),  # quality
    "crop": (0.9, 0.8, 0.7, 0.6, 0.5),  # share of either side that stays, at a place drawn
}


def corrupt(image: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """An image made worse.

    Args:
        image: What `read_image` takes.
        kind: `"blur"`, `"noise"`, `"JPEG"` or `"crop"`.
        strength: 1 … 5.
        seed: Of the noise, and of the place of a crop.

    Returns:
        uint8 `(H, W, 3)`; smaller after a crop.

    Raises:
        ValueError: for another kind or strength.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.evaluate.data.corruptions import corrupt
        >>> corrupt(np.zeros((40, 60, 3), "uint8"), "crop", 5).shape
        (20, 30, 3)
    """
    if kind not in CORRUPTIONS or strength not in (1, 2, 3, 4, 5):
        raise ValueError(
            f"kind={kind!r}, strength={strength!r}: expected {', '.join(CORRUPTIONS)} and a whole number in 1 … 5"
        )
    pixels, amount, rng = read_image(image), CORRUPTIONS[kind][strength - 1], np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    if kind == "noise":
        return np.clip(np.rint(pixels + rng.normal(0, amount, pixels.shape)), 0, 255).astype("uint8")
    if kind == "crop":
        tall, wide = max(1, round(amount * height)), max(1, round(amount * width))
        top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
        return pixels[top : top + tall, left : left + wide]
    picture = Image.fromarray(pixels)
    if kind == "blur":
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(amount * min(width, height))))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=amount)
    return read_image(buffer.getvalue())


class Corrupted:
    """A sequence of images made worse as they are asked for; the same each time.

    Attributes:
        key: Name of what it holds, for a `FeatureCache`.
    """

    def __init__(self, images: Any, key: str, kind: str, strength: int):
        self.images, self.kind, self.strength = images, kind, strength
        self.key = hashlib.sha256(f"{key}\0{kind}\0{CORRUPTIONS[kind][strength - 1]}".encode()).hexdigest()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return corrupt(self.images[index], self.kind, self.strength, seed=index)
