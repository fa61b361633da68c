"""Images with a target vector each, for distillation."""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.data.names import name_of


class WithTargets:
    """A sequence of images with one target vector each; a batch holds the views, then the targets.

    `DistilledMaSSL.fit` and `pretrain` take one in place of the images. The target of an image that the teacher could
    not read is a row of NaN; training replaces it by another image, like any unreadable one.

    Args:
        images: A sequence, each element what `read_image` takes.
        targets: Target vectors, `(N, D)` float32, one for each image.

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
        return name_of(self.images, index)
