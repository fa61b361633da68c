"""Embedding on a pool of Ray's actors, on this machine or on a cluster that shares its files.

Ray Data hands out chunks of an `EmbeddingRun`; each actor opens the images and the model once and writes the
chunks' files. An actor that dies is replaced and its chunk given out again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from typing import Any

import numpy as np

from memssl_keras.data.several import open_sources
from memssl_keras.embedding.run import EmbeddingRun
from memssl_keras.export.runtime import OnnxEncoder


class Embedder:
    """An actor: opens the data and the model, and writes chunks of a run."""

    def __init__(self, data: dict[str, Any], model: dict[str, Any], run: dict[str, Any], batch_size: int):
        self.encoder = OnnxEncoder.from_pretrained(**model)
        self.run = EmbeddingRun(open_sources(**data), embed_dim=self.encoder.embed_dim, **run)
        self.batch_size = batch_size

    def __call__(self, batch):
        for number in batch["chunk"]:
            if not self.run.is_done(int(number)):  # written by an actor that died before it said so
                self.run.write(int(number), self.encoder, self.batch_size)
        return {"chunk": np.asarray(batch["chunk"])}


def embed_with_ray(
    data: dict[str, Any],
    model: dict[str, Any],
    run: dict[str, Any],
    *,
    batch_size: int = 32,
    actors: int = 2,
    address: str | None = None,
    embed_dim: int,
    advance: Callable[[int], object] = lambda count: None,
) -> list:
    """Embed a source into a Parquet file as `write_embeddings` does: the same rows, in the same order.

    Args:
        data: Arguments of `open_sources`; its paths are read by every actor.
        model: Arguments of `OnnxEncoder.from_pretrained`, the threads per actor.
        run: `path`, `model`, `revision`, `image_size` and `chunk`, as `EmbeddingRun` takes them.
        batch_size: Images that run at once.
        actors: Processes of the pool.
        address: Of a running cluster, such as `"auto"`; by default the one that this process is connected to, or
            Ray is started on this machine and stopped.
        embed_dim: D.
        advance: Called with the number of images done since the last call.

    Returns:
        The skipped images, as (position, `ImageError`).

    Raises:
        ValueError: where Ray is not installed or no cluster answers at `address`.
    """
    whole = EmbeddingRun(open_sources(**data), embed_dim=embed_dim, **run)
    ray, started = _connect(address, actors)
    try:
        with whole.lock():
            return _run(ray, whole, (data, model, run, batch_size), actors, advance)
    finally:
        if started:
            ray.shutdown()


def _run(ray, whole, arguments, actors, advance):
    todo = whole.start()
    advance(whole.done(todo))
    if todo:
        chunks = ray.data.from_items([{"chunk": number} for number in todo], override_num_blocks=len(todo))
        done = chunks.map_batches(
            Embedder,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=1,
        )
        for row in done.iter_rows():
            advance(whole.size(int(row["chunk"])))
    return whole.join()


def _check_address(address, timeout=5.0):
    """Ask at `HOST:PORT` whether anybody answers: Ray itself asks for minutes, and then ends the process."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"address={address!r}: no Ray cluster answers there ({error})") from None


def _connect(address, actors):
    """Ray, and whether it was started or connected to for this run."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise ValueError("engine='ray': Ray is not installed; pip install 'memssl-keras[ray]'") from None
    if ray.is_initialized():
        return ray, False
    _check_address(address)
    quiet = {"logging_level": "error", "log_to_driver": False}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            cpus = max(actors, os.cpu_count() or 1)
            ray.init(num_cpus=cpus, include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f"address={address!r}: no Ray cluster answers there ({error})") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # after the context, with which Ray sets up its own
    return ray, True
