"""Files of embeddings made by hand."""

import hashlib

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
