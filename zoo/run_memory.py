"""From a run of `memssl pretrain` and its pictures to a memory that a model ships."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file

from memssl_keras.data.held_out import hold_out
from memssl_keras.data.huggingface import Stream
from memssl_keras.data.loader import view_loader
from memssl_keras.data.views import MultiCrop
from memssl_keras.export.head import export_head
from memssl_keras.images import ImageError, read_image
from memssl_keras.pretrained import from_pretrained
from memssl_keras.training.checkpoints import Checkpoints
from memssl_keras.training.distilled import DistilledMaSSL
from memssl_keras.training.massl import MaSSL  # which also registers what a checkpoint may hold
from memssl_keras.training.replay import images_in_memory
from memssl_keras.training.whiten import whitening_of, with_whitening
from memssl_keras.weights.folder import names_of
from memssl_keras.weights.layout import WEIGHTS
from memssl_keras.weights.torch_names import to_state
from memssl_keras.zoo.card import write_card
from memssl_keras.zoo.memory import HEAD, PICTURES, VECTORS, write_memory

THUMBNAIL = 48  # pixels of the longer side
_QUALITY = 80
# Of the way from any vector in memory to a picture's own: the teacher has moved on by one step since.
_ALIKE = 0.8


class RunMemory(NamedTuple):
    """What the last checkpoint of a run holds, and which pictures it is of."""

    model: MaSSL
    images: object  # what it was trained on
    slots: np.ndarray  # int64 (K,): places in the images, -1 for random starts


def memory_of_run(run: str | Path, images: Any) -> RunMemory:
    """Find out which pictures the memory of a run is of, and make sure that they are these.

    The views of its last step are made once more, and what the teacher makes of them is compared with what lies in
    memory.

    Args:
        run: The folder of a run that was done, or stopped at the end of an epoch.
        images: The pictures that it was trained on, as `open_data` gives them: all, in the same order.

    Raises:
        ValueError: there is no such run, it stopped within an epoch, it was distilled or its views are of pairs of
            pictures, its settings were changed on its way, or the pictures are others.
    """
    model, settings, state = model_of_run(run)
    if isinstance(model, DistilledMaSSL):
        raise ValueError(
            f"{run}: a distilled run, whose memory holds another encoder's embeddings; expected one without --teacher"
        )
    if settings.get("pairs"):
        raise ValueError(
            f"{run}: its views are of pairs of pictures (--group), which are not replayed; expected a run without"
        )
    if isinstance(images, Stream):
        raise ValueError("memory: a stream keeps no order that could be replayed; expected the data at rest")
    if (held := settings.get("held_out")) and held < len(images):
        images = hold_out(images, held)[0]  # of all pictures, those that it was trained on
    if len(images) != settings["images"]:
        raise ValueError(
            f"memory: got {len(images):,} pictures; {run} was trained on {settings['images']:,}. Expected the same "
            "data, with the same split and column"
        )
    batch, memory = settings["batch_size"], model.memory
    written = int(memory.written.value)
    steps = state["epoch"] * (settings["images"] // batch)
    if written != steps * batch or int(memory.pointer.value) != written % memory.size:
        raise ValueError(
            f"{run}: its memory was written {written:,} times, where {steps:,} steps of {batch:,} are in run.json: its "
            "settings were changed on its way, and the order of its pictures cannot be replayed"
        )
    slots = images_in_memory(
        len(images), batch_size=batch, seed=settings["seed"], memory_size=memory.size, written=written
    )
    if written:
        _check_pictures(model, images, settings, state["epoch"] - 1)
    return RunMemory(model, images, slots)


def model_of_run(run: str | Path) -> tuple[MaSSL, dict, dict]:
    """The `MaSSL` of a run's last epoch, the settings in its `run.json`, and where it had come to.

    Raises:
        ValueError: there is no such run, or it stopped within an epoch.
    """
    run = Path(run)
    if not (run / "run.json").is_file() or not (run / WEIGHTS).is_file():
        raise ValueError(f"{run}: no run.json and {WEIGHTS}; expected the folder of a run of memssl pretrain")
    settings = json.loads((run / "run.json").read_text(encoding="utf-8"))
    newest = Checkpoints(run / "checkpoints").newest()
    if newest is None:
        raise ValueError(f"{run / 'checkpoints'}: no checkpoint, which holds head and memory")
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    if state["batch"]:
        raise ValueError(
            f"{run}: stopped within epoch {state['epoch'] + 1}, and its encoder is that of the end of one; the same "
            "memssl pretrain command resumes it"
        )
    model = _load(newest / "model.keras")
    try:
        _model_in(run, model)  # which has a refitted whitening where the run adapted an encoder that has one
    except ValueError:
        raise ValueError(f"{run / WEIGHTS}: not the encoder of {newest.name}, the last checkpoint") from None
    return model, settings, state


def _load(path):
    return keras.saving.load_model(path, compile=False)


def _same_encoder(encoder, folder):
    """Whether a folder's weights are the encoder's, or those in float16; positions may be at another image size."""
    ours, theirs = to_state(names_of(encoder)), load_file(folder / WEIGHTS)
    return ours.keys() == theirs.keys() and all(
        name == "pos_embed" or np.array_equal(array.astype(theirs[name].dtype), theirs[name])
        for name, array in ours.items()
    )


def _check_pictures(model, images, settings, epoch):
    """Raises ValueError where the pictures of the last step are not what was written into memory last."""
    batch = settings["batch_size"]
    crops = MultiCrop(
        **{name: tuple(v) if isinstance(v, list) else v for name, v in settings["views"].items()}
    )
    loader = view_loader(images, views=crops, batch_size=batch, seed=settings["seed"], max_unreadable=1.0)
    loader.set_epoch(epoch, len(loader) - 1)
    ((views,),) = loader
    given, memory, weights = [], model.memory, model.teacher.get_weights()
    model.teacher.fixed_statistics = settings.get("fixed_statistics", False)
    with torch.no_grad():  # batch norm by the batch, as in the step, which changes its running means
        for part in zip(
            *(view.tensor_split(settings.get("accumulate", 1)) for view in views[:2]), strict=True
        ):
            pair = [view.to(memory.vectors.value.device) for view in model.normalised(part)]
            given.append(model.teacher(pair, training=True)[len(part[0]) :])
    model.teacher.set_weights(weights)
    given = torch.cat(given).float()[-memory.size :]
    slots = torch.arange(int(memory.pointer.value) - len(given), int(memory.pointer.value)) % memory.size
    similar = given @ memory.vectors.value[slots].float().T
    own, others = float(similar.diagonal().mean()), float(similar.mean())
    if own < others + _ALIKE * (1 - others):
        raise ValueError(
            f"memory: these are not the pictures that the run was trained on, or not in that order: those of its last "
            f"step have a mean cosine of {own:.2f} to what it wrote into memory, and {others:.2f} to any of it"
        )


def ship_memory(
    memory: RunMemory,
    folder: str | Path,
    credits: str,
    *,
    size: int = THUMBNAIL,
    half: bool = False,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, int]:
    """Write a run's memory into a folder that holds its encoder, and into the folder's card.

    Args:
        memory: What `memory_of_run` gives.
        folder: A model's folder: the run's own, one that `convert` made of the run, or one with PCA whitening.
        credits: Whose pictures they are and under which licence: a line for the card.
        size: Longer side of a thumbnail in pixels; smaller pictures stay as they are.
        half: The head's matrices in float16.
        advance: Called with the number of pictures done since the last call.

    Returns:
        File → bytes of what was written.

    Raises:
        ValueError: no credits, a size below 8, the folder of another encoder, or half and a matrix beyond float16.
        ParityError: ONNX Runtime does not give what the Keras head gives.
    """
    if not credits.strip():
        raise ValueError("credits: got none; expected whose pictures they are and under which licence")
    if size < 8:
        raise ValueError(f"size={size}: expected a thumbnail of at least 8 px")
    folder = Path(folder)
    model = _model_in(folder, memory.model)
    pictures, indices = [], []
    for slot in memory.slots.tolist():
        data, index = (None, -1) if slot < 0 else _thumbnail(memory.images, slot, size)
        pictures.append(data)
        indices.append(index)
        advance(1)
    export_head(model.teacher.head, folder / HEAD, model.encoder.embed_dim, half)
    write_memory(
        folder,
        model.memory.vectors.numpy(),
        indices=indices,
        pictures=pictures,
        block_size=model.memory.block_size,
        temperature=model.teacher_temperature,
        credits=credits.strip(),
        names=_names(memory.images, indices),
    )
    write_card(folder, folder.resolve().name, memory=credits.strip())
    return {part: (folder / part).stat().st_size for part in (VECTORS, PICTURES, HEAD)}


def _model_in(folder, model):
    """The run's model with the encoder that is in a folder: its own, or the same with PCA whitening."""
    if (folder / WEIGHTS).is_file():
        if _same_encoder(model.encoder, folder):
            return model
        encoder = from_pretrained(folder)
        grid, layer = getattr(encoder, "pooling_grid", None), whitening_of(encoder)
        if layer is not None and isinstance(encoder, type(model.encoder)):
            wider = np.ndim(grid) and grid != model.encoder.pooling_grid
            with contextlib.suppress(ValueError):  # of another architecture
                white = with_whitening(model, layer, grid if wider else None)
                if _same_encoder(white.encoder, folder):
                    return white
    raise ValueError(f"{folder}: expected a folder with the run's encoder, as it is or with PCA whitening")


def _thumbnail(images, index, size):
    """WebP of the picture at `index`, or of the next that can be read, which took its place; and where that is."""
    for place in range(index, index + len(images)):
        try:
            picture = Image.fromarray(read_image(images[place % len(images)]))
        except ImageError:
            continue
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=_QUALITY, method=6)
        return buffer.getvalue(), place % len(images)
    raise ValueError("memory: none of the pictures can be read")


def _names(images, indices):
    """The column `name` of the training data, slot by slot, where there is one of texts."""
    import pyarrow as pa

    column = getattr(images, "columns", {}).get("name")
    if column is None or not pa.types.is_string(column.type):
        return None
    return [None if index < 0 else column[index].as_py() for index in indices]
