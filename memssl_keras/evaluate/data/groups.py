"""What retrieval asks for and searches: pictures of the same things from two origins, copies, distractors."""

import dataclasses
import pathlib

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import data_key
from memssl_keras.data.pairs import has_group
from memssl_keras.data.sequences import Images, Joined, overlap
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.evaluate.data.landmarks import Boxes

DISTRACTOR = -1  # the group of images that are nobody's positive


@dataclasses.dataclass
class Asked:
    """Queries and the gallery that they are looked for in.

    Attributes:
        queries: `Images`.
        query_groups: Number of what each shows, `(Q,)` from 0 on.
        gallery: `Images` or `Joined`.
        gallery_groups: Number of what each shows, `(N,)`; `DISTRACTOR` for what nobody asks for.
        words: What is asked where, in words.
        notes: What was left out or should be known, in words.
    """

    queries: Images
    query_groups: np.ndarray
    gallery: Images | Joined
    gallery_groups: np.ndarray
    words: str
    notes: list = dataclasses.field(default_factory=list)


def open_groups(
    data: PathLike, group: str, by: str | None, query: str | None, gallery: str, column: str | None = None
) -> Asked:
    """Pictures of the same things from two origins.

    Args:
        data: Parquet.
        group: Column that says what is shown.
        by: Column that tells queries from gallery.
        query: Its value for queries; the name of a class serves too where the file says it.
        gallery: Its value for the gallery, or several with commas.
        column: The image column, where there are several.

    Returns:
        An `Asked`. Its notes count rows without a group (null or a negative number), which are left out, and gallery
        images whose very file is among the queries.

    Raises:
        ValueError: where a column or the value for queries is not given, or is not there.
    """
    if by is None or query is None:
        raise ValueError(f"by={by!r}, query={query!r}: expected a column and its value for queries")
    source = open_source(data, column=column)
    shows, kinds = source.columns.get(group), column_of(source, by)
    if shows is None:
        raise ValueError(f"column {group!r} is missing; there are {', '.join(source.columns) or 'none'}")
    known = np.array([has_group(value) for value in shows.to_pylist()])
    words_of = [_word(kind, source.names.get(by)) for kind in kinds.tolist()]
    of_kind = np.array([kind.lower() for kind in words_of])

    def rows(value):
        if not (chosen := of_kind == value.strip().lower()).any():
            raise ValueError(
                f"column {by!r} has no {value.strip()!r}; it holds {', '.join(sorted(set(words_of) - {''}))}"
            )
        return chosen

    values, numbers = np.unique([str(value) for value in shows.to_pylist()], return_inverse=True)
    key, masks = (
        data_key(source),
        [rows(query), np.any([rows(value) for value in gallery.split(",")], axis=0)],
    )
    asked, searched = (Images(source, key, np.flatnonzero(mask & known)) for mask in masks)
    notes = []
    if missing := int(((masks[0] | masks[1]) & ~known).sum()):
        notes.append(f"{missing} images without {group} are skipped")
    if shared := overlap(asked, searched):
        notes.append(
            f"{shared} of {len(searched)} gallery images are queries, byte for byte: figures flatter"
        )
    where = " and ".join(value.strip() for value in gallery.split(","))
    words = (
        f"retrieval by {group}, {len(asked):,} queries of {query}, gallery of {len(searched):,} of {where}"
    )
    return Asked(asked, numbers[asked.rows], searched, numbers[searched.rows], words, notes)


def _word(kind, names):
    """A value of the column that tells queries from gallery, as text; the name of a class where there are names."""
    if names and isinstance(kind, int):
        return names[kind] if 0 <= kind < len(names) else ""
    return "" if kind is None else str(kind)


def is_copies(data: PathLike) -> bool:
    """Whether a folder has the form of Copydays: originals and distorted copies."""
    return all((pathlib.Path(data) / name).is_dir() for name in ("original", "strong"))


def open_copies(data: PathLike) -> dict[str, Asked]:
    """Distorted copies of pictures as queries, the originals as gallery, as in INRIA Copydays.

    Args:
        data: Folder with folders `original`, `strong` and, where they are there, `jpegqual/…` and `crops/…`. The name
            of a picture begins with four characters that its copies share.

    Returns:
        Folder of copies → `Asked`; the originals themselves are asked for too, as the published figures have it.

    Raises:
        ValueError: where a folder holds no image, or two originals share their first four characters.

    References:
        Douze et al., Evaluation of GIST Descriptors for Web-Scale Image Search, CIVR 2009.
    """
    root, sources = pathlib.Path(data), {}
    for name in ("strong", "original", *_subfolders(root, "jpegqual"), *_subfolders(root, "crops")):
        source = open_source(root / name)
        sources[name] = Images(source, data_key(source), np.arange(len(source)))
    blocks = {
        name: [pathlib.Path(file).name[:4] for file in images.source.ids] for name, images in sources.items()
    }
    numbers = {block: number for number, block in enumerate(blocks["original"])}
    if len(numbers) < len(blocks["original"]):
        raise ValueError(f"{root / 'original'}: two pictures share the first four characters of their names")
    originals, found = sources["original"], {}
    for name, images in sources.items():
        groups = np.array([numbers.get(block, len(numbers)) for block in blocks[name]])
        words = f"copy detection, {len(images):,} queries of {name}, gallery of {len(originals):,} originals"
        found[name] = Asked(images, groups, originals, np.arange(len(originals)), words)
    return found


def with_distractors(asked: Asked, distractors: Images | None) -> Asked:
    """An `Asked` whose gallery also holds images that are nobody's positive.

    Its notes count those among them that are in the gallery or among the queries, byte for byte: where one comes
    before its twin, the query is marked down for it.
    """
    if distractors is None:
        return asked
    notes = list(asked.notes)
    known = [part for part in (asked.queries, *asked.gallery.parts) if not isinstance(part.source, Boxes)]
    if shared := max(overlap(part, distractors) for part in known):
        notes.append(
            f"{shared} of {len(distractors):,} distractors are in the gallery or asked for, byte for byte"
        )
    return dataclasses.replace(
        asked,
        gallery=Joined((*asked.gallery.parts, distractors)),
        gallery_groups=np.concatenate([asked.gallery_groups, np.full(len(distractors), DISTRACTOR)]),
        words=f"{asked.words} and {len(distractors):,} distractors",
        notes=notes,
    )


def _subfolders(root, name):
    folder = root / name
    return [f"{name}/{path.name}" for path in sorted(folder.iterdir())] if folder.is_dir() else []
