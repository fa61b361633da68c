"""What was taught as one file: safetensors, so that a file from a stranger is data and never code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from memssl_keras.demo.taught import MOST_EXAMPLES, SIDE, Taught, class_name
from memssl_keras.files import write_bytes

FORMAT = "memssl-keras taught 1"
MOST_BYTES = 64 * 2**20


def write_taught(path, taught: Taught, model: str, revision: str) -> Path:
    """Write examples, their classes and the model that embedded them.

    Args:
        path: the file; what was there is replaced once the new one is whole.
        taught: what to keep.
        model: the model's name, to be said when another one is asked.
        revision: `OnnxEncoder.revision` of it.

    Returns:
        `path` as a `Path`.

    Raises:
        ValueError: nothing was taught.
    """
    if not len(taught):
        raise ValueError("examples: there are none yet; expected at least one to save")
    about = {"format": FORMAT, "model": model, "revision": revision, "classes": json.dumps(taught.classes)}
    tensors = {"vectors": np.ascontiguousarray(taught.vectors), "pictures": taught.pictures}
    path = Path(path)
    write_bytes(path, save(tensors, about))
    return path


def read_taught(path, model: str, revision: str, embed_dim: int) -> Taught:
    """Read a file of `write_taught`, whoever made it: nothing in it is run, and all of it is checked.

    Args:
        path: the file.
        model, revision, embed_dim: of the model that is to use it.

    Raises:
        ValueError: it is larger than 64 MiB, damaged, of another form, or of another model.
    """
    name = Path(path).name
    if (size := Path(path).stat().st_size) > MOST_BYTES:
        raise ValueError(f"{name}: {size} bytes; expected at most {MOST_BYTES}")
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("format") != FORMAT:
                raise ValueError(
                    f"{name}: format {about.get('format')!r}; expected a file saved on this page"
                )
            if set(file.keys()) != {"vectors", "pictures"}:
                raise ValueError(f"{name}: holds {sorted(file.keys())}; expected vectors and pictures")
            vectors, pictures = file.get_tensor("vectors"), file.get_tensor("pictures")
        classes = json.loads(about.get("classes", ""))
    except (SafetensorError, json.JSONDecodeError, RecursionError, OSError) as error:
        raise ValueError(f"{name}: damaged, or not saved on this page ({error})") from error
    if not isinstance(classes, list) or not 1 <= len(classes) <= MOST_EXAMPLES:
        raise ValueError(f"{name}: expected the classes of 1 to {MOST_EXAMPLES} examples")
    if about.get("revision") != revision:
        raise ValueError(
            f"{name}: taught with {str(about.get('model'))[:80]!r} of another revision; this page runs {model!r}, "
            "whose vectors mean something else"
        )
    count = len(classes)
    shapes = {"vectors": (count, embed_dim), "pictures": (count, SIDE, SIDE, 3)}
    kinds = {"vectors": np.float32, "pictures": np.uint8}
    for key, value in (("vectors", vectors), ("pictures", pictures)):
        if value.shape != shapes[key] or value.dtype != kinds[key]:
            raise ValueError(
                f"{name}: {key} {value.dtype} {value.shape}; expected {np.dtype(kinds[key])} {shapes[key]}"
            )
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.allclose(lengths, 1, atol=1e-3):  # also true of what is not finite
        raise ValueError(f"{name}: vectors of length {lengths.min()} to {lengths.max()}; expected 1")
    return Taught(tuple(map(class_name, classes)), vectors, pictures)
