"""Images in WebDataset shards: uncompressed `.tar` files, read in place."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from memssl_keras.images.listing import image_suffixes


class TarImages:
    """The pictures in tar files, in the order of the files and of their members.

    Args:
        files: Paths of uncompressed tar files.

    Attributes:
        ids: `FILE#MEMBER` of each picture.
        others: How many members are no pictures, such as labels and captions.

    Raises:
        ValueError: a file is compressed or damaged, or none holds a picture.
    """

    def __init__(self, files: list[Path]):
        self.files, self.ids, self.places, self.others = files, [], [], 0
        for number, file in enumerate(files):
            for member in _members(file):
                name = PurePosixPath(member.name)
                if name.suffix.lower() in image_suffixes() and not name.name.startswith("."):
                    self.ids.append(f"{file}#{member.name}")
                    self.places.append((number, member.offset_data, member.size))
                else:
                    self.others += 1
        if not self.ids:
            raise ValueError(f"{', '.join(map(str, files))}: no picture in {self.others:,} members")

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        number, offset, size = self.places[index]
        with open(self.files[number], "rb") as file:
            file.seek(offset)
            return file.read(size)


def _members(path):
    try:
        with tarfile.open(path, "r:") as archive:
            return [member for member in archive if member.isfile()]
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"data={str(path)!r}: not readable as an uncompressed tar file ({error})") from None
