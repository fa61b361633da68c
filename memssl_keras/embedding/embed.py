"""What `memssl embed` does: a model's vectors of whatever holds images, as one Parquet file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memssl_keras.data.several import open_sources
from memssl_keras.data.sources import ImageSource
from memssl_keras.embedding.run import write_embeddings, write_unreadable
from memssl_keras.embedding.write_index import Written, check_index, write_index
from memssl_keras.export.runtime import OnnxEncoder
from memssl_keras.images import ImageError

ENGINES = ("local", "ray")


class Embedded(NamedTuple):
    """What was embedded, and what was skipped."""

    source: ImageSource
    failures: list[tuple[int, ImageError]]  # position and reason of each image that was skipped
    unreadable_csv: Path  # lists them; not there where nothing was skipped
    embed_dim: int
    written: Written | None = None  # into an index, where one was named


def embed(
    data: Sequence[str],
    model: str,
    out: str | os.PathLike,
    *,
    split: str | None = None,
    column: str | None = None,
    variant: str | None = None,
    threads: int | None = None,
    providers: Sequence[str] = ("cpu",),
    scaled_decoding: bool = True,
    image_size: int | None = None,
    batch_size: int = 32,
    engine: str = "local",
    actors: int = 2,
    address: str | None = None,
    to: str | None = None,
    begin: Callable[[int], Callable[[int], object]] = lambda total: lambda count: None,
) -> Embedded:
    """Embed images into a Parquet file, on ONNX Runtime; interrupted, the same call resumes.

    Args:
        data: Images, folders of them, Parquet, WebDataset shards or `hub:OWNER/NAME`, as `open_sources` takes them.
        model: As `OnnxEncoder.from_pretrained` takes it.
        out: The file to write.
        split: As `open_sources` takes it, with `column`.
        column: Likewise.
        variant: As `OnnxEncoder.from_pretrained` takes it, with `threads`, `providers`, `scaled_decoding` and
            `image_size`.
        threads: Likewise; with Ray, of each process, 1 by default.
        providers: Likewise.
        scaled_decoding: Likewise.
        image_size: Likewise; it is kept in the file, and `memssl search` embeds queries at it.
        batch_size: Images that run at once.
        engine: "local", or "ray" for a pool of processes.
        actors: With Ray: processes of the pool.
        address: With Ray: a running cluster that shares these files.
        to: An index to write the file into once it is whole, as `write_index` takes it; it is looked at first.
        begin: Called with the number of images; what it returns is called with the number done since the last call.

    Raises:
        ValueError, FileNotFoundError: naming what is wrong with the data, the model or the engine.

    Example:
        >>> from memssl_keras.embedding.embed import embed
        >>> embed(["photos/"], "massl_vitn4.cifar10", "photos.parquet")  # doctest: +SKIP
    """
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}: expected {' or '.join(map(repr, ENGINES))}")
    settings: dict[str, Any] = {"variant": variant, "threads": threads, "providers": list(providers)}
    settings |= {"scaled_decoding": scaled_decoding, "image_size": image_size}
    encoder = OnnxEncoder.from_pretrained(model, **settings)
    source = open_sources(data, split=split, column=column)
    name, revision, size = named(model, variant), encoder.revision(), encoder.preprocessing.image_size
    if to:
        check_index(to, name, revision, encoder.embed_dim, size)
    advance = begin(len(source))
    if engine == "local":
        failures = write_embeddings(encoder, source, out, name, batch_size, advance)
    else:
        from memssl_keras.embedding.ray_engine import embed_with_ray

        failures = embed_with_ray(
            {"data": data, "split": split, "column": column},
            {"name_or_folder": model, **settings, "threads": threads or 1},
            {"path": str(out), "model": name, "revision": revision, "image_size": size},
            batch_size=batch_size,
            actors=actors,
            address=address,
            embed_dim=encoder.embed_dim,
            advance=advance,
        )
    unreadable = write_unreadable(out, failures)
    return Embedded(source, failures, unreadable, encoder.embed_dim, write_index(out, to) if to else None)


def named(model: str, variant: str | None) -> str:
    """What an index calls its model: `MODEL@VARIANT`, and the model's name alone in float32."""
    return str(model) if variant in (None, "fp32") else f"{model}@{variant}"
