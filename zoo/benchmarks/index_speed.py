"""An index of many vectors: time to write it, to open it again, and of a search, with and without a filter.

With the address of a server all goes over its protocol. Vectors are drawn around 200 centres, as those of classes are.
"""

import csv
import hashlib
import pathlib
import resource
import tempfile
import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from memssl_keras.embedding.index import open_index
from memssl_keras.embedding.run import BASE, MODEL, REVISION
from memssl_keras.embedding.write_index import write_index
from memssl_keras.processor import processor

CLASSES = 100


def vectors_around(centres, count, rng):
    """`(count, D)` unit vectors, each near a centre."""
    drawn = centres[rng.integers(0, len(centres), count)] + rng.normal(size=(count, centres.shape[1]))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype("float32")


def write_file(path, count, width, queries):
    """A file as `memssl embed` writes it, with a column `label` of 100 classes; its vectors, and others to look for."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(200, width))
    vectors, asked = (vectors_around(centres, n, rng) for n in (count, queries))
    about = {MODEL: b"drawn", REVISION: b"1", BASE: b"/photos"}
    columns = {
        "image": [f"photos/{i:06d}.jpg" for i in range(count)],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
        "image_hash": [hashlib.blake2b(b"%d" % i, digest_size=16).hexdigest() for i in range(count)],
        "label": np.arange(count) % CLASSES,
    }
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
    return vectors, asked


def searched(uri, vectors, queries, where):
    """Seconds of each search for 10, and the recall beside brute force."""
    label = int(where.split("==")[1]) if where else None
    allowed = np.arange(len(vectors)) % CLASSES == label if where else np.ones(len(vectors), bool)
    rows, seconds, found = np.flatnonzero(allowed), [], 0
    with open_index(uri) as index:
        index.search(queries[:1], 10, where)
        for query in queries:
            begin = time.perf_counter()
            (hits,) = index.search(query[None], 10, where)
            seconds.append(time.perf_counter() - begin)
            best = rows[np.argsort(-(vectors[rows] @ query))[:10]]
            found += len({int(pathlib.Path(hit.image).stem) for hit in hits} & set(best.tolist()))
    return np.array(seconds), found / (10 * len(queries))


def benchmark_index(
    uri: Annotated[str, typer.Option(help="A folder NAME.db that is not there yet, or an empty server.")],
    rows: Annotated[int, typer.Option(min=1000, help="Vectors.")] = 200_000,
    width: Annotated[int, typer.Option(min=8, help="Width of the vectors.")] = 384,
    queries: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 200,
    out: Annotated[pathlib.Path, typer.Option(help="CSV file; a line is added.")] = pathlib.Path("index.csv"),
):
    """Write vectors into an index, open it again, and search it with and without a filter."""
    about: dict = {"processor": processor(), "place": "server" if "://" in uri else "folder"}
    about |= {"rows": rows, "width": width}
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "drawn.parquet"
        vectors, asked = write_file(file, rows, width, queries)
        for column in ("write s", "write again s"):
            begin = time.perf_counter()
            written = write_index(file, uri)
            about[column] = round(time.perf_counter() - begin, 1)
    if (written.known, written.total) != (rows, rows):
        raise RuntimeError(f"{written}: expected {rows:,} rows")
    begin = time.perf_counter()
    with open_index(uri) as index:
        about["rows there"] = len(index)
        about["open and count s"] = round(time.perf_counter() - begin, 2)
    for name, where in (("search", ""), ("filtered search", "label == 7")):
        seconds, recall = searched(uri, vectors, asked, where)
        for share in (50, 95):
            about[f"{name} p{share} ms"] = round(1000 * np.percentile(seconds, share), 1)
        about[f"{name} recall@10"] = round(recall, 4)
    about["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for name, value in about.items():
        print(f"{name}: {value}")
    is_new = not out.exists()
    with out.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, about)
        if is_new:
            writer.writeheader()
        writer.writerow(about)
