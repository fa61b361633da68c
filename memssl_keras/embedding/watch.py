"""Embedding what arrives in a folder, until told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import file_state
from memssl_keras.data.sources import ImageSource
from memssl_keras.embedding.run import write_embeddings
from memssl_keras.embedding.table import files_of, read_embeddings
from memssl_keras.files import lock, printable, replace_file
from memssl_keras.images import ImageError, find_images

_STATE = "file_state"  # column with size and time of change of each picture when it was embedded


def _there(folder):
    """Name → (path, state) of the images that are there; None where the folder itself is gone."""
    try:
        paths = find_images(folder).images
    except ImageError:
        return None
    found = {printable(path): (path, file_state(path)) for path in paths}
    return {name: entry for name, entry in found.items() if entry[1]}


def watch(
    encoder: Any,
    folder: PathLike,
    out: PathLike,
    model: str,
    *,
    batch_size: int = 32,
    interval: float = 1.0,
    say: Callable[[str], object] = print,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Embed the images of a folder and those that arrive, each once it has stopped growing.

    A picture that is replaced is embedded again; the rows of one that is replaced or deleted are taken out.

    Args:
        encoder: An `OnnxEncoder`.
        folder: What is watched, with its subfolders.
        out: A folder of Parquet files, one for each time that something arrived; those there are added to. It is
            what `memssl search` takes as an index.
        model: Name of the model, kept in the files.
        batch_size: Images that run at once.
        interval: Seconds between two looks.
        say: Called with a line for each file written and each image that cannot be read.
        stop: Called between two looks; true ends.

    Raises:
        Locked: another process writes to `out`.
        ValueError: where `folder` does not exist, or `out` holds something else or embeddings of another model.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise ValueError(f"data={str(folder)!r}: no such folder to watch")
    if out.is_file():
        raise ValueError(f"out={str(out)!r} is a file; with --watch it is a folder of Parquet files")
    out.mkdir(parents=True, exist_ok=True)
    with lock(out / ".lock"):
        for left in out.glob(".*.parquet"):  # by a run that was killed while it wrote
            left.unlink()
        _watch(encoder, folder, out, model, batch_size, interval, say, stop)


def _watch(encoder, folder, out, model, batch_size, interval, say, stop):
    done, before = _stored(encoder, out, model), {}
    numbers = [int(file.stem) for file in files_of(out) if file.stem.isdigit()]
    number, missed = max(numbers, default=0), False
    while not stop():
        now = _there(folder)
        if now is None:  # such as a share that is not mounted: what was embedded stays
            if not missed:
                say(f"{folder} is gone; waiting for it")
            missed = True
            time.sleep(interval)
            continue
        missed = False
        if stale := {name for name, state in done.items() if now.get(name, (None, ""))[1] != state}:
            _take_out(out, stale)
            done = {name: state for name, state in done.items() if name not in stale}
            say(f"{len(stale):,} images are gone or replaced: their vectors are taken out")
        ready = [name for name, entry in now.items() if name not in done and before.get(name) == entry]
        before = now
        if not ready:
            time.sleep(interval)
            continue
        number += 1
        path, states = out / f"{number:06d}.parquet", [now[name][1] for name in ready]
        source = ImageSource(ready, [now[name][0] for name in ready], {_STATE: pa.chunked_array([states])})
        failures = write_embeddings(encoder, source, path, model, batch_size)
        done.update(zip(ready, states, strict=True))
        say(f"{path.name}: {len(ready) - len(failures):,} images")
        for _, error in failures:
            say(f"skipped: {error}")


def _stored(encoder, out, model):
    """Name → state of what `out` holds."""
    if not files_of(out):
        return {}
    stored = read_embeddings(out)
    if stored.model != model:
        raise ValueError(
            f"out={str(out)!r} holds embeddings of {stored.model}, here {model}; expected another"
        )
    stored.check_revision(encoder, model)
    tables = [pq.read_table(file, columns=["image", _STATE]) for file in files_of(out)]
    rows = pa.concat_tables(tables)
    return dict(zip(rows["image"].to_pylist(), rows[_STATE].to_pylist(), strict=True))


def _take_out(out, names):
    """Rewrite the files that hold rows of these names without them."""
    for file in files_of(out):
        table = pq.read_table(file)
        kept = table.filter(pc.invert(pc.is_in(table["image"], pa.array(sorted(names), pa.string()))))
        if len(kept) < len(table):
            replace_file(file, lambda path, kept=kept: pq.write_table(kept, path))
