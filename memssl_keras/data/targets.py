"""Images that come with a vector each, which training is to match."""

from __future__ import annotations

from typing import Any

import numpy as np


class WithTargets:
    """A sequence of images, each with a target vector that stands behind its views in every batch.

    `DistilledMaSSL.fit` and `pretrain` take one in place of the images. An image whose target is not known, since a
    teacher could not read it either, has a row of NaN; like any unreadable image it is replaced by the next one.

    Args:
        images: A sequence, each element what `read_image` takes.
        targets: One for each image, `(N, D)` float32.

    Raises:
        ValueError: where there is not one target for each image.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.data.targets import WithTargets
        >>> images = WithTargets(np.zeros((3, 8, 8, 3), "uint8"), np.eye(3, dtype="float32"))
        >>> len(images), images.targets.shape
        (3, (3, 3))
    """

    def __init__(self, images: Any, targets: np.ndarray):
        if np.ndim(targets) != 2 or len(targets) != len(images):
            raise ValueError(
                f"targets: got shape {np.shape(targets)} for {len(images)} images; expected ({len(images)}, D)"
            )
        self.images, self.targets = images, np.asarray(targets, "float32")
        self.notes = getattr(images, "notes", [])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def name(self, index: int) -> str:
        """What an image is called in the list of unreadable ones."""
        return self.images.name(index) if hasattr(self.images, "name") else f"image {index}"
