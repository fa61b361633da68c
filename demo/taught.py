"""What one was taught: named classes with a few example pictures each."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field

import numpy as np

from memssl_keras.images import thumbnail

SIDE = 64  # pixels of the small copy of an example that is kept to show it again
LONGEST_NAME = 60
MOST_EXAMPLES = 500  # of one session, in all classes together: some 6 MB with their pictures


@dataclass(frozen=True)
class Taught:
    """Examples, each with its class; nothing is changed in place, `add` and `keep` return another.

    Attributes:
        classes: the class of each example.
        vectors: float32 `(N, D)`, of unit length.
        pictures: uint8 `(N, 64, 64, 3)`, to show the examples again.
    """

    classes: tuple[str, ...] = ()
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    pictures: np.ndarray = field(default_factory=lambda: np.zeros((0, SIDE, SIDE, 3), np.uint8))

    def __len__(self):
        return len(self.classes)

    @property
    def names(self) -> list[str]:
        """The classes in the order in which they were begun."""
        return list(dict.fromkeys(self.classes))

    @property
    def labels(self) -> np.ndarray:
        """int64 `(N,)`: the position of each example's class in `names`."""
        places = {name: place for place, name in enumerate(self.names)}
        return np.array([places[name] for name in self.classes], np.int64)

    def add(self, name, vectors, pictures) -> Taught:
        """With examples of a class, which is begun if it is new.

        Args:
            name: of the class; see `class_name`.
            vectors: float32 `(M, D)`, of unit length.
            pictures: M images, uint8 `(H, W, 3)`.

        Raises:
            ValueError: the name is none, or there would be more than `MOST_EXAMPLES` examples.
        """
        name = class_name(name)
        if len(self) + len(vectors) > MOST_EXAMPLES:
            raise ValueError(
                f"examples: {len(self) + len(vectors)} are more than {MOST_EXAMPLES}, all that one page keeps"
            )
        if not len(vectors):
            return self
        small = np.stack([np.asarray(thumbnail(picture, SIDE)) for picture in pictures])
        before = self.vectors if len(self) else vectors[:0]
        return Taught(
            (*self.classes, *[name] * len(vectors)),
            np.concatenate([before, vectors]),
            np.concatenate([self.pictures, small]),
        )

    def keep(self, rows) -> Taught:
        """Only the examples of `rows`, a bool `(N,)`; a class without any is gone."""
        rows = np.asarray(rows, bool)
        classes = tuple(name for name, kept in zip(self.classes, rows, strict=True) if kept)
        return Taught(classes, self.vectors[rows], self.pictures[rows])


def class_name(text) -> str:
    """A name as it is kept: without spaces around it.

    Raises:
        ValueError: it is empty, longer than 60 characters, or holds control characters.

    Example:
        >>> from memssl_keras.demo.taught import class_name
        >>> class_name("  Cats & dogs/2 ")
        'Cats & dogs/2'
    """
    name = text.strip() if isinstance(text, str) else ""
    # Also what turns the direction of writing, so that no name reads as another.
    odd = any(
        unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co") and letter != "\u200d" for letter in name
    )
    if not name or len(name) > LONGEST_NAME or odd:
        raise ValueError(
            f"class name: got {name[:80]!r}; expected 1 to {LONGEST_NAME} letters, digits, signs or spaces"
        )
    return name
