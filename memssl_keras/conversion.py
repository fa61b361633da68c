"""What `memssl convert` and `memssl whiten` do: a checkpoint, or a run of `memssl pretrain`, as a folder of ours."""

from __future__ import annotations

import pathlib
import warnings
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from memssl_keras.encoders import Encoder
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.files import read_json, write_bytes
from memssl_keras.images import ImageError
from memssl_keras.pretrained import from_pretrained, save_pretrained
from memssl_keras.weights.checkpoint import SUFFIXES
from memssl_keras.weights.config import is_ours
from memssl_keras.weights.layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS
from memssl_keras.weights.opening import open_checkpoint
from memssl_keras.weights.training_state import FILES as STATE_FILES
from memssl_keras.weights.training_state import FOLDER as STATE
from memssl_keras.weights.training_state import of_checkpoint, write_training
from memssl_keras.zoo.card import write_card
from memssl_keras.zoo.memory import LICENCES, PARTS

WHITENED_OVER = 10_000  # images whose features are enough for mean and covariance


def convert(
    source: str | pathlib.Path,
    folder: str | pathlib.Path,
    *,
    network: str = "teacher",
    num_heads: int | None = None,
    trained_size: int | None = None,
    image_size: int | None = None,
    exports: Sequence[str] = (),
    half: bool = False,
    **hub,
) -> Encoder:
    """Write a checkpoint or a repository of another library as a folder of ours.

    Its card says where it came from; a run of `memssl pretrain` keeps its `run.json` instead. A MaSSL checkpoint's head
    and memory go into `training/`, see `memssl_keras.weights.training_state`, unless its student is asked for.

    Args:
        source: A file, or what `from_pretrained` takes.
        folder: Where to.
        network: "teacher" or "student", of a training checkpoint.
        num_heads: Attention heads, where nothing tells them.
        trained_size: Side in pixels of the square images that a checkpoint was trained on, where nothing tells the
            shape of its patch grid.
        image_size: As `from_pretrained` takes it; the folder's preprocessing and positions are at this size.
        exports: As `save_pretrained` takes them.
        half: Likewise.
        **hub: `revision`, `cache_dir`, `local_files_only`, `token` and `force_download`.

    Returns:
        The encoder.

    Raises:
        CheckpointError: where the checkpoint is of no known family, is damaged, holds something that could be
            executed, or does not fit; nothing is written.
        ValueError: where `folder` is the source itself, or for an image size that the encoder does not take.
    """
    training, path = None, pathlib.Path(source)
    if path.is_dir() and path.resolve() == pathlib.Path(folder).resolve():
        raise ValueError(f"folder={folder}: is what is converted; expected another one")
    if path.is_file():
        encoder, converted = open_checkpoint(source, network, num_heads, trained_size, image_size)
        origin = f"{converted.family} {path.name}"
        if converted.training and network == "teacher":
            training = of_checkpoint(converted.training)
    elif not path.exists() and path.suffix in SUFFIXES:
        raise FileNotFoundError(f"{path}: no such file")
    else:
        encoder = from_pretrained(
            source, num_heads=num_heads, trained_size=trained_size, image_size=image_size, **hub
        )
        origin = path.name if path.is_dir() else str(source)
    _write(encoder, folder, path, training, exports=exports, half=half, origin=origin)
    return encoder


def whiten_run(
    run: str | pathlib.Path,
    images: Any,
    folder: str | pathlib.Path,
    *,
    rank: int = 256,
    shrinkage: float = 0.1,
    power: float = 1.0,
    reduce: bool = False,
    pooling_grid: Sequence[int] | None = None,
    exports: Sequence[str] = (),
    half: bool = False,
) -> tuple[Encoder, int]:
    """Write the encoder of a run with a last linear layer that makes its features white, as a folder of its own.

    Args:
        run: The folder of a run of `memssl pretrain` with a `ResNet` or another functional model.
        images: Unlabelled ones, a sequence as `open_data` gives; of more than 10,000, so many are drawn. Unreadable
            ones are skipped, with a warning.
        folder: Where to; another folder than the run's.
        rank: As `memssl_keras.whiten` takes it, with `shrinkage`, `power`, `reduce` and `pooling_grid`.
        exports: As `save_pretrained` takes them.
        half: Likewise.

    Returns:
        The encoder with PCA whitening, and the number of images that it was fitted to.

    Raises:
        ValueError: where `folder` is the run's own, `run` is no run that was done, or as `whiten` does; nothing is
            written.
    """
    from memssl_keras.training.whiten import whiten, whitening_of
    from memssl_keras.zoo.run_memory import model_of_run

    if pathlib.Path(run).resolve() == pathlib.Path(folder).resolve():
        raise ValueError(f"folder={folder}: the folder of the run; expected another one")
    model, _, _ = model_of_run(run)
    rows = np.random.default_rng(0).permutation(len(images))[:WHITENED_OVER]
    chosen = (images[int(row)] for row in rows)
    lost: list[ImageError] = []
    encoder = whiten(
        model,
        chosen,
        shrinkage=shrinkage,
        rank=rank,
        pooling_grid=pooling_grid,
        power=power,
        reduce=reduce,
        on_error=lost.append,
    ).encoder
    fitted, layer = len(rows) - len(lost), cast(Whitening, whitening_of(encoder))
    _warn_of_whitening(layer.rank, fitted, lost)
    said = (
        f"After training, PCA whitening was fitted as a last linear layer, over {fitted:,} of {len(images):,} "
        f"pictures without labels (shrinkage {shrinkage}, rank {rank}, power {power})."
    )
    if reduce:
        said += f" Features are reduced to its {encoder.embed_dim} axes."
    if pooling_grid:
        maps = [f"a {n} × {n} grid of the map of stage {i}" for i, n in enumerate(pooling_grid, 1) if n]
        said += f" The features are means over {', '.join(reversed(maps))}."
    _write(encoder, folder, pathlib.Path(run), exports=exports, half=half, whitening=said)
    return encoder, fitted


def _warn_of_whitening(axes, fitted, lost):
    """Warn of pictures that were skipped, and of too few for so many axes."""
    if lost:
        named = ", ".join(map(str, lost[:3])) + (", …" if len(lost) > 3 else "")
        warnings.warn(f"unreadable pictures skipped in the whitening: {len(lost):,} ({named})", stacklevel=3)
    if fitted < axes:
        warnings.warn(
            f"the whitening of {axes} axes is fitted to {fitted:,} pictures, which say little of as many directions; "
            "expected several times as many, or a smaller rank",
            stacklevel=3,
        )


def _write(encoder, folder, source, training=None, *, exports, half, origin="", whitening=""):
    """The folder of an encoder, with what is known of its training."""
    folder, run = pathlib.Path(folder), source / "run.json"
    derived = _derived(folder)
    save_pretrained(encoder, folder, exports=exports, half=half)
    for path, before in derived.items():
        if _state(path) == before:  # not written just now
            path.unlink()
    if training:
        write_training(folder, **training)
    facts = {"whitening": whitening, "memory": ""}
    if run.is_file():
        write_bytes(folder / run.name, run.read_bytes())
    else:
        facts["origin"] = origin
    write_card(folder, folder.resolve().name, **facts)


def _derived(folder):
    """What was made of the weights that are replaced, such as graphs and scores, each with its state."""
    if not is_ours(read_json(folder / "config.json")):
        return {}
    names = [TRANSFORMERS_WEIGHTS, KERAS_MODEL, "results.json", "run.json", "card.json"]
    names += [f"{STATE}/{name}" for name in STATE_FILES]
    names += [*PARTS, LICENCES]
    paths = {*(folder / name for name in names), *folder.glob("onnx/*")}
    return {path: _state(path) for path in paths if path.is_file()}


def _state(path):
    """What changes when a file is written: its inode where it is replaced, else its time, which may be coarse."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None
