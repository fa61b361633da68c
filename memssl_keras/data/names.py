"""What the images of a sequence are called."""

from __future__ import annotations

import os
from typing import Any

from memssl_keras.files import printable


def name_of(images: Any, index: int) -> str:
    """What an image is called in lists and messages: its own name, its path, or its place.

    Args:
        images: A sequence of images, perhaps with a method `name`.
        index: Place of the image.

    Example:
        >>> from memssl_keras.data.names import name_of
        >>> name_of(["a.png", b"..."], 0), name_of(["a.png", b"..."], 1)
        ('a.png', 'image 1')
    """
    if hasattr(images, "name"):
        return images.name(index)
    image = images[index]
    return printable(image) if isinstance(image, (str, os.PathLike)) else f"image {index}"
