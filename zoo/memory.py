"""A training memory as a part of a model's folder: its vectors, the pictures they were of, and the head that made them.

- `memory/vectors.safetensors`: `vectors` `(K, D)` float16, of unit length, in the order of the slots; in its metadata
  `block_size`, the teacher's `temperature`, and the SHA-256 of the weights and of the head that they belong to.
- `memory/pictures.parquet`: K rows in the same order: `image` (`bytes`, `path`), a thumbnail, and `index`, its place
  in the training data; null and -1 where a slot has its random start. With `name`, where the data had such a column.
  Its metadata holds `credits`: whose pictures they are, and under which licence.
- `onnx/head.onnx`: from the encoder's feature, of any variant, to what is compared with the vectors.

A model may come with all three, or with none of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.sources import ImageSource, open_source
from memssl_keras.files import replace_file, sha256
from memssl_keras.images.read import read_image
from memssl_keras.weights.config import HEAD as HEAD_FILE
from memssl_keras.weights.layout import WEIGHTS

VECTORS, PICTURES, HEAD = "memory/vectors.safetensors", "memory/pictures.parquet", f"onnx/{HEAD_FILE}"
PARTS = (VECTORS, PICTURES, HEAD)
LICENCES = "memory/LICENSES.md"  # the licences of the pictures in full, where they ask for it
FORMAT_VERSION = "1"


@dataclasses.dataclass(frozen=True)
class ShippedMemory:
    """A memory as it was at the end of training.

    Attributes:
        vectors: float32 `(K, D)`, of unit length.
        indices: int64 `(K,)`: place of each slot's picture in the training data; -1 where it has none.
        names: What to call each slot's picture, where the data had names; else None.
        source: The thumbnails, K of them.
        block_size: Slots of a block, P; it divides K.
        temperature: The teacher's, above 0.
        credits: Whose pictures they are.
        head: The head's ONNX file.
        key: Changes with the vectors.
    """

    vectors: np.ndarray
    indices: np.ndarray
    names: list | None
    source: ImageSource
    block_size: int
    temperature: float
    credits: str
    head: Path
    key: str

    def __len__(self):
        return len(self.vectors)

    def read(self, slot: int) -> np.ndarray:
        """The thumbnail of a slot, uint8 `(H, W, 3)`.

        Raises:
            ImageError: it has none, or it is damaged.
        """
        return read_image(self.source[slot])


def write_memory(
    folder: PathLike,
    vectors: np.ndarray,
    *,
    indices: Sequence[int],
    pictures: Sequence[bytes | None],
    block_size: int,
    temperature: float,
    credits: str,
    names: Sequence[str | None] | None = None,
) -> None:
    """Write vectors and pictures into the folder of a model that holds `model.safetensors` and `onnx/head.onnx`.

    Args:
        folder: The model's folder.
        vectors: `(K, D)`, of unit length.
        indices: K integers, -1 where a slot has its random start.
        pictures: K thumbnails as bytes of image files, None where there is none.
        block_size: Slots of a block; it divides K.
        temperature: The teacher's.
        credits: Whose pictures they are, and under which licence.
        names: K texts or None.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import save

    folder = Path(folder)
    texts = {"block_size": str(int(block_size)), "temperature": repr(float(temperature))}
    texts |= {"weights": sha256(folder / WEIGHTS), "head": sha256(folder / HEAD)}
    content = save(
        {"vectors": np.asarray(vectors, np.float16)}, metadata={"format_version": FORMAT_VERSION, **texts}
    )
    kinds = {"image": {"_type": "Image"}, "index": {"dtype": "int64", "_type": "Value"}}
    columns = {
        "image": pa.array(
            [None if data is None else {"bytes": data, "path": None} for data in pictures],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "index": pa.array(np.asarray(indices, np.int64)),
    }
    if names is not None:
        columns["name"], kinds["name"] = pa.array(names, pa.string()), {"dtype": "string", "_type": "Value"}
    table = pa.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": kinds}}), "credits": credits}
    )
    replace_file(folder / PICTURES, lambda path: pq.write_table(table, path, compression="zstd"))
    replace_file(folder / VECTORS, lambda path: path.write_bytes(content))


def read_memory(folder: PathLike) -> ShippedMemory | None:
    """The memory of a model's folder; None where it ships none.

    Raises:
        ValueError: a part of it is missing or damaged, of a newer format, or does not fit the others.
    """
    folder = Path(folder)
    missing = [part for part in PARTS if not (folder / part).is_file()]
    if VECTORS in missing and PICTURES in missing:
        return None
    if missing:
        raise ValueError(f"{folder}: its memory lacks {', '.join(missing)}; expected {', '.join(PARTS)}")
    vectors, about = _read_vectors(folder / VECTORS)
    source = open_source(folder / PICTURES)
    _check_pictures(folder / PICTURES, source, len(vectors))
    try:
        block, temperature = int(about["block_size"]), float(about["temperature"])
    except (KeyError, ValueError):
        raise ValueError(
            f"{folder / VECTORS}: got {about}; expected block_size and temperature, numbers"
        ) from None
    if block < 1 or not len(vectors) or len(vectors) % block:
        raise ValueError(f"{folder / VECTORS}: block_size={block} does not divide its {len(vectors)} vectors")
    if not 0 < temperature < np.inf:
        raise ValueError(f"{folder / VECTORS}: temperature={temperature}; expected a number above 0")
    import pyarrow.parquet as pq

    credits = (pq.read_schema(folder / PICTURES).metadata or {}).get(b"credits", b"").decode()
    named = source.columns.get("name")
    return ShippedMemory(
        vectors,
        source.columns["index"].to_numpy(),
        named.to_pylist() if named is not None else None,
        source,
        block,
        temperature,
        credits,
        folder / HEAD,
        sha256(folder / VECTORS)[:12],
    )


def _check_pictures(path, source, count):
    """Raises ValueError where these are not `count` pictures with their places, each within the file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    index, name = source.columns.get("index"), source.columns.get("name")
    if len(source) != count or index is None or index.type != pa.int64() or index.null_count:
        raise ValueError(f"{path}: got {len(source)} rows; expected {count}, with image and index")
    if name is not None and name.type != pa.string():
        raise ValueError(f"{path}: name is of {name.type}; expected texts")
    image = pq.read_table(path, columns=["image"]).column("image")
    kept = pa.types.is_struct(image.type) and {field.name for field in image.type} == {"bytes", "path"}
    # A path would be one of this computer, whose file the page would show.
    if not kept or pc.struct_field(image, "path").null_count != count:
        raise ValueError(f"{path}: expected the pictures themselves, as bytes, and no paths")


def _read_vectors(path):
    """Vectors, float32 and of unit length, and metadata."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about, vectors = file.metadata() or {}, file.get_tensor("vectors").astype(np.float32)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged, or no memory ({error})") from None
    if about.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {about.get('format_version')!r}; this version of memssl-keras reads "
            f"{FORMAT_VERSION!r}"
        )
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if vectors.ndim != 2 or not np.all(np.abs(lengths - 1) < 0.01):
        raise ValueError(f"{path}: got an array {vectors.shape}; expected vectors (K, D) of unit length")
    return vectors / lengths, about


def remove_memory(folder: PathLike) -> None:
    """Take the memory out of a folder, such as one whose weights are replaced."""
    for part in (*PARTS, LICENCES):
        (Path(folder) / part).unlink(missing_ok=True)


def problem(folder: PathLike) -> str | None:
    """What is wrong with the memory of a folder, in words; None where nothing is, or where it ships none.

    Beside what `read_memory` says: whether it is one of these weights and of this head.
    """
    folder = Path(folder)
    try:
        memory = read_memory(folder)
    except ValueError as error:
        return str(error)
    if memory is None:
        return None
    _, about = _read_vectors(folder / VECTORS)
    for name, file in (("weights", WEIGHTS), ("head", HEAD)):
        if about.get(name) != sha256(folder / file):
            return f"{VECTORS} belongs to another {file}"
    return None
