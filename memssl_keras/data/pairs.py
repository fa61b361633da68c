"""Views of the same thing from several pictures: images in groups."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memssl_keras.data.names import name_of


def has_group(value: Any) -> bool:
    """Whether a value names a group; `None`, `""`, NaN and negative numbers, which stand for no label, do not.

    Example:
        >>> from memssl_keras.data.pairs import has_group
        >>> [has_group(value) for value in ("house", 0, None, "", -1, float("nan"))]
        [True, True, False, False, False, False]
    """
    if isinstance(value, (int, float)):
        return bool(value >= 0)
    return value is not None and value != ""


class Paired:
    """A sequence of images in which those of one group may be views of each other.

    `MaSSL.fit` and `pretrain` take one in place of the images. Then, with a probability, the views after global view
    1 are cut from another image of the group, which the image's own generator draws: the same pairs whatever the
    number of workers and processes, and after every interruption. An epoch still shows every image once as global
    view 1. What says which images belong together is a weak label; a model that is trained so has seen it.

    Args:
        images: A sequence, each element what `read_image` takes.
        groups: The group of each image, `(N,)`; see `has_group`.
        probability: How often a partner is taken where there is one.

    Raises:
        ValueError: where there is not one group for each image, or the probability is not one.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.data.pairs import Paired
        >>> images = [np.full((8, 8, 3), value, "uint8") for value in (0, 100, 200)]
        >>> paired = Paired(images, ["house", "tree", "house"], probability=1.0)
        >>> rng = np.random.default_rng(0)
        >>> [paired.partner(i, rng) for i in range(3)]
        [2, None, 0]
    """

    def __init__(self, images: Any, groups: Sequence | np.ndarray, probability: float = 0.5):
        if not hasattr(images, "__getitem__"):
            raise ValueError(
                f"images: got a {type(images).__name__}; expected a sequence, to take partners from"
            )
        if len(groups) != len(images):
            raise ValueError(f"groups: got {len(groups)} for {len(images)} images; expected one for each")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: expected a number in 0 … 1")
        self.images, self.probability, self.notes = images, probability, getattr(images, "notes", [])
        groups = groups.tolist() if isinstance(groups, np.ndarray) else groups
        names = np.array([str(group) if has_group(group) else "" for group in groups])
        _, self._group = np.unique(names, return_inverse=True)
        self._alone = names == ""
        self._order = np.argsort(self._group, kind="stable")
        self._starts = np.searchsorted(self._group[self._order], np.arange(self._group.max(initial=0) + 2))
        self._place = np.empty(len(names), np.int64)
        self._place[self._order] = np.arange(len(names))
        self._checksum = zlib.crc32("\0".join(names).encode())

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the pairs, for the record of a run."""
        return {
            "probability": self.probability,
            "groups": int(self._group.max()) + 1,
            "crc32": self._checksum,
        }

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def name(self, index: int) -> str:
        """What an image is called in the list of unreadable ones."""
        return name_of(self.images, index)

    def partner(self, index: int, rng: np.random.Generator) -> int | None:
        """The index of another image of the group, uniformly drawn; `None` where there is none or it is not drawn."""
        first, end = self._starts[self._group[index] : self._group[index] + 2]
        others = int(end - first) - 1
        if self._alone[index] or others < 1 or rng.random() >= self.probability:
            return None
        drawn = int(rng.random() * others) + first
        return int(self._order[drawn + (drawn >= self._place[index])])
