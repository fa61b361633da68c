"""An index of many vectors: time to write it, to open it again, and of a search, with and without a filter.

With the address of a server, or a server process that is started on the folder, all goes over its protocol. Vectors
are drawn around 200 centres, as those of classes are.
"""

import contextlib
import csv
import hashlib
import os
import pathlib
import resource
import tempfile
import time
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from milvus_process import ServerProcess

from memssl_keras.embedding.index import open_index
from memssl_keras.embedding.run import BASE, MODEL, REVISION
from memssl_keras.embedding.write_index import write_index
from memssl_keras.processor import instruction_set, processor

CLASSES = 100
BLOCK = 20_000  # vectors drawn at once


def vectors_around(centres, count, rng):
    """`(count, D)` float32 unit vectors, each near a centre."""
    vectors = np.empty((count, centres.shape[1]), "float32")
    for start in range(0, count, BLOCK):
        block = vectors[start : start + BLOCK]
        block[:] = centres[rng.integers(0, len(centres), len(block))] + rng.normal(size=block.shape)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


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


def searched(index, vectors, queries, where):
    """Seconds of each search for 10, the first of them not counted, and the recall beside brute force."""
    label = int(where.split("==")[1]) if where else None
    allowed = np.arange(len(vectors)) % CLASSES == label if where else np.ones(len(vectors), bool)
    rows, seconds, found = np.flatnonzero(allowed), [], 0
    index.search(queries[:1], 10, where)
    for query in queries:
        begin = time.perf_counter()
        (hits,) = index.search(query[None], 10, where)
        seconds.append(time.perf_counter() - begin)
        best = rows[np.argsort(-(vectors[rows] @ query))[:10]]
        found += len({int(pathlib.Path(hit.image).stem) for hit in hits} & set(best.tolist()))
    return np.array(seconds), found / (10 * len(queries))


def written(uri, rows, width, queries):
    """What is looked for, and the seconds of writing a file of vectors and of writing it again."""
    seconds = {}
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "drawn.parquet"
        vectors, asked = write_file(file, rows, width, queries)
        for column in ("write s", "write again s"):
            begin = time.perf_counter()
            result = write_index(file, uri)
            seconds[column] = round(time.perf_counter() - begin, 1)
    if (result.known, result.total) != (rows, rows):
        raise RuntimeError(f"{result}: expected {rows:,} rows")
    return vectors, asked, seconds


def read(uri, vectors, asked, begin):
    """Seconds since `begin` until an index is open and counted, and of searches in it."""
    seconds = {}
    with open_index(uri) as index:
        if len(index) != len(vectors):
            raise RuntimeError(f"{uri}: {len(index):,} rows; expected {len(vectors):,}")
        seconds["open and count s"] = round(time.perf_counter() - begin, 2)
        begin = time.perf_counter()
        index.search(asked[:1], 10)
        seconds["first search s"] = round(time.perf_counter() - begin, 2)
        for name, where in (("search", ""), ("filtered search", "label == 7")):
            each, recall = searched(index, vectors, asked, where)
            for share in (50, 95):
                seconds[f"{name} p{share} ms"] = round(1000 * np.percentile(each, share), 1)
            seconds[f"{name} recall@10"] = round(recall, 4)
    return seconds


def benchmark_index(
    uri: Annotated[str, typer.Option(help="A folder NAME.db that is not there yet, or an empty server.")],
    serve: Annotated[
        bool, typer.Option("--serve", help="Start milvus-lite as a server process on the folder.")
    ] = False,
    rows: Annotated[int, typer.Option(min=1000, help="Vectors.")] = 200_000,
    width: Annotated[int, typer.Option(min=8, help="Width of the vectors.")] = 384,
    queries: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 200,
    out: Annotated[pathlib.Path, typer.Option(help="CSV file; a line is added.")] = pathlib.Path("index.csv"),
):
    """Write vectors into an index, open it again, and search it with and without a filter.

    A server process that --serve starts is ended after writing and started again before it is searched.
    """
    if serve and "://" in uri:
        raise typer.BadParameter(f"--uri={uri!r}: with --serve expected a folder NAME.db")
    place = "server process" if serve else "server" if "://" in uri else "folder"
    about: dict = {"place": place, "rows": rows, "width": width}
    server = ServerProcess(uri) if serve else None
    where = server.uri if server else uri
    with server or contextlib.nullcontext():
        vectors, asked, seconds = written(where, rows, width, queries)
        begin = time.perf_counter()
    seconds["stop s"] = round(time.perf_counter() - begin, 1) if server else ""
    begin = time.perf_counter()
    with server or contextlib.nullcontext():
        about |= seconds | read(where, vectors, asked, begin)
        about["server MB"] = server.memory_mb() if server else ""
    about["server peak MB"] = server.peak_mb if server else ""
    about["own peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    about |= {
        "load": round(os.getloadavg()[1], 1),
        "instructions": instruction_set(),
        "processor": processor(),
    }
    for name, value in about.items():
        print(f"{name}: {value}")
    is_new = not out.exists()
    with out.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, about)
        if is_new:
            writer.writeheader()
        writer.writerow(about)
