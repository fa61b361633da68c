"""Time and peak memory of k-NN classification of features, with faiss and without.

Each way runs in a process of its own, so that its peak is that of nothing else: the interpreter, the libraries and the
features themselves are in it.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Annotated

import numpy as np
import typer

FOLDER = str(pathlib.Path(__file__).parent)
WAYS = ("faiss", "NumPy")
KS = (10, 20, 100, 200)


def measure(way, train, queries, dim, classes, repeats):
    """Seconds (least of the repeats), peak bytes of this process, and accuracy on features around class centres."""
    import resource

    from memssl_keras.evaluate.protocols import neighbours
    from memssl_keras.evaluate.protocols.knn import knn_predictions

    if way == "NumPy":
        neighbours.faiss = None
    elif neighbours.faiss is None:
        raise RuntimeError("faiss is not installed: pip install 'memssl-keras[evaluate]'")
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((classes, dim), "float32")

    def draw(count):
        labels = rng.integers(0, classes, count)
        return centres[labels] + 3 * rng.standard_normal((count, dim), "float32"), labels

    (stored, labels), (asked, truth), seconds = draw(train), draw(queries), []
    for _ in range(repeats):
        start = time.perf_counter()
        predicted = knn_predictions(stored, labels, asked, KS)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds),
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "accuracy": float(np.mean(predicted[20] == truth)),
    }


def benchmark_knn(
    train: Annotated[int, typer.Option(min=200, help="Training features.")] = 50000,
    queries: Annotated[int, typer.Option(min=1, help="Features to classify.")] = 10000,
    dim: Annotated[int, typer.Option(min=1, help="Width of the features.")] = 384,
    classes: Annotated[int, typer.Option(min=2, help="Classes.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Timed runs; the fastest counts.")] = 3,
):
    """Time and peak memory of k-NN classification, k = 10, 20, 100 and 200 at once."""
    from rich.console import Console
    from rich.table import Table

    title = f"{train:,} × {queries:,} features, D = {dim}, {classes:,} classes, {threads} threads"
    table = Table("search by", "s", "peak MiB of the process", "accuracy at k = 20", title=title)
    for way in WAYS:
        arguments = way, train, queries, dim, classes, repeats
        code = f"import json, sys; sys.path.insert(0, {FOLDER!r}); from knn_speed import measure; "
        code += f"print(json.dumps(measure{arguments!r}))"
        limits = {
            name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        }
        run = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **limits}, capture_output=True, text=True
        )
        if run.returncode:
            raise RuntimeError(f"measuring {way} failed:\n{run.stderr}")
        got = json.loads(run.stdout.splitlines()[-1])
        table.add_row(way, f"{got['seconds']:.2f}", f"{got['peak'] / 2**20:,.0f}", f"{got['accuracy']:.1%}")
    Console().print(table)
