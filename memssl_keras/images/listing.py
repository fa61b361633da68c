"""The pictures in a folder: which files are pictures, and what else was there and is not read."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.files import printable
from memssl_keras.images.read import HEIF_SUFFIXES, ImageError
from memssl_keras.words import counted

# Formats that Pillow opens by running another program, or of which it reads the header alone.
_NO_PICTURES = {"EPS", "PDF", "MPEG", "HDF5", "GRIB", "BUFR", "WMF"}
# Folders that systems and tools leave among pictures.
_SYSTEM_FOLDERS = {
    "@eadir",
    "__macosx",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}


@functools.cache
def image_suffixes() -> frozenset[str]:
    """Suffixes, in lower case, of files that count as pictures: what the installed Pillow reads, and HEIF."""
    opened = set(Image.OPEN) if Image.init() or Image.OPEN else set()
    suffixes = {
        suffix
        for suffix, kind in Image.registered_extensions().items()
        if kind in opened and kind not in _NO_PICTURES
    }
    return frozenset(suffixes | set(HEIF_SUFFIXES) | {".avif"})


class PathTexts(Sequence[Path]):
    """Paths kept as texts, and made when they are asked for: a fraction of the memory of `Path` objects.

    Example:
        >>> from memssl_keras.images.listing import PathTexts
        >>> PathTexts(["a.png", "b.jpg"])[1].suffix
        '.jpg'
    """

    def __init__(self, texts: Iterable[str] = ()):
        self.texts = list(texts)

    def __len__(self):
        return len(self.texts)

    def __getitem__(self, index):
        return PathTexts(self.texts[index]) if isinstance(index, slice) else Path(self.texts[index])

    def printable(self) -> list[str]:
        """Each as `memssl_keras.files.printable` has it; one that is so already is not copied."""
        shown = ((text, printable(text)) for text in self.texts)
        return [text if text == name else name for text, name in shown]


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        images: Paths of the pictures, sorted, as a sequence.
        others: Files that are no pictures by their suffix, or, where they have none, by their content.
        unread: (folder, reason) of folders that could not be read.
        hidden: Hidden and system folders, which are not looked into.
        hidden_files: Hidden and system files, which are not opened.
    """

    images: PathTexts = field(default_factory=PathTexts)
    others: list[Path] = field(default_factory=list)
    unread: list[tuple[Path, str]] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    hidden_files: list[Path] = field(default_factory=list)

    def summary(self) -> str:
        """What was not read, in words; empty where everything was.

        Example:
            >>> from pathlib import Path
            >>> from memssl_keras.images.listing import Listing
            >>> Listing(others=[Path("notes.txt")]).summary()
            '1 other file not read'
        """
        kinds = [
            (len(self.others) + len(self.hidden_files), "other file"),
            (len(self.unread) + len(self.hidden), "folder"),
        ]
        parts = [counted(count, what) for count, what in kinds if count]
        return f"{', '.join(parts)} not read" if parts else ""

    def details(self) -> list[str]:
        """A line for each file and folder that was not read."""
        return (
            [f"{printable(path)}: no picture" for path in self.others]
            + [f"{printable(path)}: cannot be read ({reason})" for path, reason in self.unread]
            + [f"{printable(path)}: hidden or a system's folder" for path in self.hidden]
            + [f"{printable(path)}: hidden or a system's file" for path in self.hidden_files]
        )


def find_images(folder: PathLike) -> Listing:
    """List the pictures in a folder and its subfolders, and what else is there.

    A file counts by its suffix, one without a suffix by its content. Links to folders are followed, each folder
    once. Hidden files, and hidden and system folders such as `.ipynb_checkpoints` and `@eaDir`, are not read.

    Raises:
        ImageError: the folder is missing, or is a file.
    """
    root = Path(folder)
    if not root.exists():
        raise ImageError(printable(root), "no such folder")
    if not root.is_dir():
        raise ImageError(printable(root), "is a file; a folder of images was expected")
    images: list[str] = []
    others: list[Path] = []
    unread: list[tuple[Path, str]] = []
    hidden: list[Path] = []
    hidden_files: list[Path] = []
    seen = {os.path.realpath(root)}

    def cannot_be_read(error):
        unread.append((Path(error.filename), error.strerror or type(error).__name__))

    for place, folders, files in os.walk(root, onerror=cannot_be_read, followlinks=True):
        for name in sorted(folders):
            target = os.path.realpath(os.path.join(place, name))
            if _is_hidden(name):
                hidden.append(Path(place, name))
            if _is_hidden(name) or target in seen:
                folders.remove(name)
            seen.add(target)
        for name in files:
            path = Path(place, name)
            if name.startswith(".") or name.lower() in _SYSTEM_FILES:
                hidden_files.append(path)
                continue
            if _is_picture(path):
                images.append(str(path))
            else:
                others.append(path)
    images.sort(key=_by_parts)
    return Listing(PathTexts(images), sorted(others), sorted(unread), sorted(hidden), sorted(hidden_files))


def list_images(folder: PathLike) -> list[Path]:
    """The pictures in a folder and its subfolders, sorted by path; see `find_images`.

    Raises:
        ImageError: the folder is missing, is a file, or holds no image.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from memssl_keras.images import list_images
        >>> folder = Path(tempfile.mkdtemp())
        >>> Image.new("RGB", (4, 4)).save(folder / "black.png")
        >>> [path.name for path in list_images(folder)]
        ['black.png']
    """
    return list(some_images(folder, find_images(folder)).images)


def some_images(folder: PathLike, listing: Listing) -> Listing:
    """The listing of a folder.

    Raises:
        ImageError: it holds no image; the message says what was there instead.
    """
    if not listing.images:
        there = f" ({listing.summary()})" if listing.summary() else ""
        raise ImageError(
            printable(folder), f"holds no image{there}; expected files such as .jpg, .png or .webp"
        )
    return listing


def _by_parts(text):
    """What sorts texts of paths as `Path` objects sort, part by part: no name holds \\0, and all else is above it."""
    return os.path.normcase(text).replace(os.sep, "\0")


def _is_hidden(name):
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _is_picture(path):
    if path.suffix:
        return path.suffix.lower() in image_suffixes() and path.is_file()
    try:
        with Image.open(path) as image:
            return image.format not in _NO_PICTURES
    except Exception:  # whatever a decoder makes of a file that is none of its own
        return False


def as_images(images: Any) -> Iterable:
    """One image or several as an iterable of images.

    Args:
        images: What `read_image` takes, or any number of them. An array or tensor `(H, W)` or `(H, W, C)` is one image.
            A folder stands for the images in it and in the folders below, in order of their paths.

    Raises:
        ImageError: the folder holds no image.

    Example:
        >>> from memssl_keras.images.listing import as_images
        >>> as_images("photo.jpg"), as_images(["a.jpg", "b.jpg"])
        (['photo.jpg'], ['a.jpg', 'b.jpg'])
    """
    if isinstance(images, (str, os.PathLike)) and os.path.isdir(images):
        return list_images(images)
    single = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    return [images] if single or getattr(images, "ndim", 4) < 4 else images
