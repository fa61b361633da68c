"""Whether a folder of milvus-lite is whole.

Asked before it is opened. milvus-lite reads an older manifest if the newest one is cut off, and skips a missing file
with a line in its log: rows would be lost without an error.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def damage_of(folder: Path) -> str | None:
    """What is damaged in a folder of milvus-lite, in words; None where nothing is."""
    for collection in sorted(folder.glob("collections/*/")):
        for reason in _damages(collection):
            return f"{collection.name}: {reason}"
    return None


def clear_unmade(folder: Path) -> None:
    """Take away the empty folder of a collection whose making was interrupted."""
    for collection in folder.glob("collections/*/"):
        if not any(path.is_file() for path in collection.rglob("*")):
            shutil.rmtree(collection)


def _damages(collection: Path) -> Iterator[str]:
    if not any(path.is_file() for path in collection.rglob("*")):
        return
    for name in ("schema.json", "manifest.json"):
        try:
            json.loads((collection / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            if name == "schema.json" or not _is_unflushed(collection):
                yield f"{name} is missing"
                return
        except (OSError, ValueError) as error:
            yield f"{name}: {error}"
            return
    manifest = collection / "manifest.json"
    partitions = json.loads(manifest.read_text(encoding="utf-8"))["partitions"] if manifest.is_file() else {}
    for partition, files in partitions.items():
        for name in (*files["data_files"], *files["delta_files"]):
            try:
                pq.read_metadata(collection / "partitions" / partition / name)
            except FileNotFoundError:
                yield f"{name} is missing"
            except (OSError, pa.ArrowException) as error:
                yield f"{name}: {error}"


def _is_unflushed(collection):
    """Whether a collection without a manifest is one whose rows are all in the log still."""
    written = any(collection.glob("partitions/*/data/*.parquet"))
    logged = any(collection.glob("wal/*"))
    return not (collection / "manifest.json.prev").exists() and (logged or not written)
