"""Data sets of the Hub: the Parquet files that the Hub keeps of each."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"hub:(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?", re.ASCII)
_CONVERTED = "refs/convert/parquet"  # branch of CONFIG/SPLIT/*.parquet, made by the Hub


def download(spec: str, split: str | None = None) -> Path:
    """Fetch a data set's Parquet files into the Hub's cache; the second time none is fetched that is there.

    Args:
        spec: `hub:OWNER/NAME`, with `:CONFIG` that configuration, by default the first.
        split: by default `train` where there is one.

    Returns:
        a folder of Parquet files: all of one split.

    Raises:
        ValueError: the name is none, or the Hub has no such data set, configuration, or Parquet of it.
    """
    from huggingface_hub import snapshot_download

    name, folders = _folders(spec)
    if split not in (None, *folders):
        raise ValueError(f"data: {spec}: split={split!r}; expected {', '.join(folders)}")
    chosen = folders[split] if split else folders.get("train", next(iter(folders.values())))
    there = snapshot_download(
        name, repo_type="dataset", revision=_CONVERTED, allow_patterns=f"{chosen}/*.parquet"
    )
    return Path(there) / chosen


def splits_of(spec: str) -> list[str]:
    """Names of a data set's splits.

    Args:
        spec: as `download` takes it.

    Raises:
        ValueError: as `download` does.
    """
    return list(_folders(spec)[1])


def _folders(spec):
    """The data set's name on the Hub, and {split: folder of its Parquet files}."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    match = _NAME.fullmatch(spec)
    if not match:
        raise ValueError(f"data: got {spec!r}; expected hub:OWNER/NAME or hub:OWNER/NAME:CONFIG")
    name, config = match["name"], match["config"]
    try:
        files = HfApi().list_repo_files(name, repo_type="dataset", revision=_CONVERTED)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"data: {spec}: the Hub gives no Parquet files of it ({first})") from error
    folders = sorted({file.rpartition("/")[0] for file in files if file.endswith(".parquet")})
    configs = sorted({folder.split("/")[0] for folder in folders if folder.count("/") == 1})
    if not configs or config not in (None, *configs):
        raise ValueError(f"data: {spec}: expected a configuration of {', '.join(configs) or 'none there is'}")
    own = [folder for folder in folders if folder.startswith(f"{config or configs[0]}/")]
    return name, {folder.rpartition("/")[2]: folder for folder in own}
