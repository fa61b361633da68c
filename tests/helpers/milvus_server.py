"""Files of embeddings made by hand, and milvus-lite as a server process on localhost."""

import contextlib
import functools
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from memssl_keras.embedding.run import BASE, MODEL, REVISION


def unit_vectors(count, width=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_rows(path, vectors, model="m", revision="r", names=None, contents=None, base="/photos", **columns):
    """A file as `memssl embed` writes it; `contents` are what stands for the bytes of the pictures."""
    count, width = vectors.shape
    contents = contents or [f"picture {i}" for i in range(count)]
    table = pa.table(
        {
            "image": pa.array(names or [f"{i}.jpg" for i in range(count)], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), width),
            "image_hash": [hashlib.blake2b(c.encode(), digest_size=16).hexdigest() for c in contents],
            **columns,
        },
        metadata=None,
    )
    about = {MODEL: model.encode(), REVISION: revision.encode(), BASE: base.encode()}
    pq.write_table(table.replace_schema_metadata(about), path)
    return path


class Server:
    """`milvus-lite server` on a folder; `uri` leads there."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.process = f"http://127.0.0.1:{self.port}", None
        self.start()

    def start(self):
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.folder)]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        # What a shell runs in the background ignores Ctrl-C, and so would the server that it starts.
        hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet, preexec_fn=hears)
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self.process.poll() is None, "the server ended at once"
            time.sleep(0.1)
        raise AssertionError("the server does not listen")

    def stop(self, how=signal.SIGINT):
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(30)
