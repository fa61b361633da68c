"""Embedding what arrives in a folder, until told to stop."""

import pathlib
import time

import pyarrow.parquet as pq

from memssl_keras.data.sources import ImageSource
from memssl_keras.embedding.run import write_embeddings
from memssl_keras.embedding.table import read_embeddings
from memssl_keras.images import ImageError, list_images


def _there(folder):
    """Path → (size, time of change) of the images that are there."""
    try:
        paths = list_images(folder)
    except ImageError:  # none yet
        return {}
    found = {}
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:  # gone since it was listed
            continue
        found[str(path)] = (status.st_size, status.st_mtime_ns)
    return found


def watch(encoder, folder, out, model, *, batch_size=32, interval=1.0, say=print, stop=lambda: False):
    """Embed the images of a folder and those that arrive, each once it has stopped growing.

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
        ValueError: where `folder` does not exist, or `out` holds something else or embeddings of another model.
    """
    folder, out = pathlib.Path(folder), pathlib.Path(out)
    if not folder.is_dir():
        raise ValueError(f"data={str(folder)!r}: no such folder to watch")
    if out.is_file():
        raise ValueError(f"out={str(out)!r} is a file; with --watch it is a folder of Parquet files")
    out.mkdir(parents=True, exist_ok=True)
    done, before = set(), {}
    if any(out.glob("*.parquet")):
        stored = read_embeddings(out)
        if stored.model != model:
            raise ValueError(
                f"out={str(out)!r} holds embeddings of {stored.model}, here {model}; expected another"
            )
        done = set(stored.images)
    number = max((int(file.stem) for file in out.glob("*.parquet") if file.stem.isdigit()), default=0)
    while not stop():
        now = _there(folder)
        ready = [path for path, state in now.items() if path not in done and before.get(path) == state]
        before = now
        if not ready:
            time.sleep(interval)
            continue
        number += 1
        path = out / f"{number:06d}.parquet"
        source = ImageSource(ready, [pathlib.Path(name) for name in ready])
        failures = write_embeddings(encoder, source, path, model, batch_size, key=encoder.revision())
        done.update(ready)
        say(f"{path.name}: {len(pq.read_table(path, columns=['image'])):,} images")
        for _, error in failures:
            say(f"left out: {error}")
