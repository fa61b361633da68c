"""Splits by their usual names: of the files of a folder, and of its subfolders."""

from __future__ import annotations

from pathlib import Path

from memssl_keras.files import printable

# What a split is called; the first name of each line is the one that it is asked for by.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "val", "dev"),
}


def files_of(path: Path, suffix: str, split: str | None = None) -> list[Path]:
    """The file, or the files of a folder, that end in `suffix`, sorted; of a split those of its name.

    A folder without such files of its own may have them in subfolders, such as `data/` or one for each split.

    Raises:
        ValueError: where there are such files and none is of that split.
    """
    if path.is_file():
        return [path] if path.suffix == suffix else []
    files = (
        _in_folder(path, f"*{suffix}")
        or _in_folder(path, f"*/*{suffix}")
        or _in_folder(path, f"*/*/*{suffix}")
    )
    chosen = [file for file in files if split is None or is_of_split(file, split, path)]
    if files and not chosen:
        names, kind = (
            ", ".join(printable(file.relative_to(path)) for file in files[:10]),
            suffix[1:].capitalize(),
        )
        raise ValueError(f"{path}: split={split!r} matches none of its {kind} files, {names}")
    return chosen


def _in_folder(path, pattern):
    found = (file for file in path.glob(pattern) if file.is_file())
    return sorted(f for f in found if not any(part.startswith(".") for part in f.relative_to(path).parts))


def is_of_split(file: Path, split: str, root: Path) -> bool:
    """Whether a file's name begins with a split's name, or it lies in a folder called so."""
    split = split.lower()
    names = next((names for names in SPLITS.values() if split in names), (split,))
    parts = file.relative_to(root).parts
    stem = parts[-1].lower()
    begins = any(stem.startswith(name) and not stem[len(name) : len(name) + 1].isalpha() for name in names)
    return begins or any(part.lower() in names for part in parts[:-1])


def split_folder(path: Path, split: str) -> Path | None:
    """The subfolder of a split, under any of its names; None where there is none."""
    names = next((names for names in SPLITS.values() if split in names), (split,))
    return next((path / name for name in (split, *names) if (path / name).is_dir()), None)
