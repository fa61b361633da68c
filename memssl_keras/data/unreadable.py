"""Images that could not be read: counted, listed, and too many of them an error."""

from __future__ import annotations

import csv
import pathlib

from memssl_keras.annotations import PathLike
from memssl_keras.files import replace_file


class TooManyUnreadable(ValueError):
    """More images cannot be read than may be."""


def tolerated(share: float, images: int) -> int:
    """How many of `images` may be unreadable: that share of them, at least one unless the share is 0, never all."""
    return min(max(int(share * images), 1 if share else 0), images - 1)


def usual_share(images: int) -> float:
    """The share of `images` that `memssl pretrain` lets be unreadable: a twentieth; of few pictures up to ten of them.

    Of fewer than 40 pictures it is a quarter.

    Example:
        >>> from memssl_keras.data.unreadable import usual_share
        >>> [round(usual_share(images) * images) for images in (20, 80, 1000)]
        [5, 10, 50]
    """
    return max(0.05, min(10 / max(images, 1), 0.25))


class Unreadable:
    """The unreadable images of a run; each counts once, however often it is met.

    A data set of N images may hold `share` · N of them, and one in any case unless `share` is 0: a single broken
    file stops no run, one more than the share does.

    Args:
        share: Share of the images that may be unreadable, 0 … 1.
        images: Images of the data set; of a stream, those of an epoch.
        path: CSV file that lists them (`name`, `reason`); what it lists already counts. None keeps no file.

    Raises:
        ValueError: where `share` is outside 0 … 1.

    Example:
        >>> from memssl_keras.data.unreadable import Unreadable
        >>> unreadable = Unreadable(share=0.001, images=1_000_000)
        >>> unreadable.note({"a.jpg": "the file is empty"})
        >>> unreadable.note({"a.jpg": "the file is empty"})
        >>> len(unreadable), unreadable.limit
        (1, 1000)
    """

    def __init__(self, share: float = 0.001, images: int = 1, path: PathLike | None = None):
        if not 0 <= share <= 1:
            raise ValueError(f"max_unreadable={share}: expected a share of the images, 0 … 1")
        self.share, self.images = share, images
        self.path = pathlib.Path(path) if path else None
        self.reasons: dict[str, str] = {}
        if self.path and self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                self.reasons = {row["name"]: row["reason"] for row in csv.DictReader(file)}
        self.told = len(self)

    def __len__(self):
        return len(self.reasons)

    @property
    def limit(self) -> int:
        """How many there may be."""
        return tolerated(self.share, self.images)

    def note(self, reasons: dict[str, str], complete: bool = True) -> None:
        """Count images; the list is on disk when this returns.

        Args:
            reasons: {name: reason}.
            complete: Whether others were found in their place.

        Raises:
            TooManyUnreadable: where there are more than may be, or no others were found.
        """
        new = {name: reason for name, reason in reasons.items() if name not in self.reasons}
        self.reasons |= new
        if new and self.path:
            replace_file(self.path, self._write)
        if len(self) > self.limit:
            share = f"{len(self) / self.images:.2%}"
            self._stop(
                f"{share} of {self.images:,} images cannot be read, {len(self)} where {self.limit} may be"
            )
        if not complete:
            self._stop(f"images that cannot be read: {len(self)}, and none that could take their place")

    def news(self) -> str:
        """A line on the images that were added since this was last asked; empty where there are none."""
        added, self.told = list(self.reasons.items())[self.told :], len(self)
        if not added:
            return ""
        listed = f", listed in {self.path}" if self.path else ""
        examples = "; ".join(f"{name}: {reason}" for name, reason in added[:3])
        return f"unreadable images so far: {len(self)}, each replaced by another{listed}. New: {examples}"

    def _stop(self, what):
        first = "; ".join(f"{name}: {reason}" for name, reason in list(self.reasons.items())[:3])
        listed = f". All are listed in {self.path}" if self.path else ""
        limit = f"max_unreadable={self.share}, on the command line --max-unreadable"
        raise TooManyUnreadable(f"{what} ({limit}). The first: {first}{listed}")

    def _write(self, path):
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerows([("name", "reason"), *self.reasons.items()])
