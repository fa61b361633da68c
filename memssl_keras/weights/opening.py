"""Checkpoints of others: ViTs of MaSSL's reference, DINO, iBOT, DINOv2, MSN, MoCo v3, timm, transformers; ResNets.

Each family has a module with `read(checkpoint, network)`, which gives a `Converted` or None where the file is not of
its family. Loading is strict: every missing, unexpected and misshapen weight is named.
"""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.encoders.base import Encoder
from memssl_keras.encoders.resnet import ResNet
from memssl_keras.encoders.vit import ViT
from memssl_keras.files import read_json
from memssl_keras.weights.checkpoint import CheckpointError, read_checkpoint
from memssl_keras.weights.folder import at_image_size
from memssl_keras.weights.positions import resize
from memssl_keras.weights.readers import dino, dinov2, massl, mocov3, msn, resnet, timm, transformers
from memssl_keras.weights.readers.family import Converted, architecture
from memssl_keras.weights.readers.wrappings import inner_keys, unwrapped
from memssl_keras.weights.torch_names import encoder_names, load_state

FAMILIES = (massl, resnet, dino, dinov2, msn, mocov3, transformers, timm)  # the surest marks first
_TAKES = {
    timm: ("config",),
    resnet: ("config",),
    transformers: ("config", "preprocessor"),
}  # of the files of a repository


def read_family(
    checkpoint: Any, network: str = "teacher", source: str = "checkpoint", **files: Any
) -> Converted:
    """A checkpoint in this package's terms.

    Args:
        checkpoint: What `read_checkpoint` gives.
        network: "teacher" or "student", where there are both.
        source: Its name in messages.
        **files: `config` and `preprocessor`, the JSON files of a repository.

    Raises:
        CheckpointError: where it is of no known family, or its family cannot be taken.
    """
    for content, chosen in unwrapped(checkpoint, network):
        if found := _read_as_any(content, "teacher" if chosen else network, source, files):
            return found
    raise CheckpointError(
        f"{source}: of no known family; expected a ViT of MaSSL, DINO, iBOT, DINOv2, MSN, MoCo v3, timm or "
        f"transformers, or a ResNet under torchvision's names; the file has {inner_keys(checkpoint)}"
    )


def _read_as_any(checkpoint, network, source, files):
    """A `Converted` of the first family that a checkpoint is of; None where it is of none."""
    for family in FAMILIES:
        try:
            found = family.read(
                checkpoint, network, **{key: files.get(key) for key in _TAKES.get(family, ())}
            )
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from None
        if found and found.one_model and network != "teacher":
            raise CheckpointError(
                f"{source}: network={network!r}: a {found.family} holds one model; expected 'teacher'"
            )
        if found and (resnet.MARK in found.state or "patch_embed.proj.weight" in found.state):
            return found
    return None


def to_encoder(
    converted: Converted,
    source: PathLike,
    num_heads: int | None = None,
    trained_size: int | None = None,
    image_size: int | None = None,
) -> Encoder:
    """A `ViT` with a family's weights, positions at the size that its preprocessing gives; or a `ResNet`.

    Args:
        converted: What `read_family` returned.
        source: The file, for messages.
        num_heads: As `open_checkpoint` takes it, with `trained_size` and `image_size`.
        trained_size: Likewise.
        image_size: Likewise.

    Raises:
        CheckpointError: naming every missing, unexpected and misshapen weight of `source`.
        ValueError: for an image size that the encoder does not take.
    """
    if resnet.MARK in converted.state:
        return _sized(_to_resnet(converted, source), image_size)
    try:
        settings = architecture(converted, num_heads, trained_size)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    preprocessing, state = converted.preprocessing, dict(converted.state)
    _check_finite(state, source)
    if preprocessing:
        if image_size is not None:
            # Positions are resized once, from those that were trained, as the family does it.
            preprocessing = preprocessing.at(image_size, settings["patch_size"])
        side = max(preprocessing.image_size // settings["patch_size"], 1)
        state["pos_embed"] = resize(state["pos_embed"], side, converted.positions)
        settings["image_size"] = side * settings["patch_size"]
    encoder = ViT(**settings, preprocessing=preprocessing.to_dict() if preprocessing else None)
    try:
        load_state(encoder_names(encoder), state, source=f"{source} ({converted.family})")
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return encoder if preprocessing else _sized(encoder, image_size)


def _sized(encoder, image_size):
    return encoder if image_size is None else at_image_size(encoder, image_size)


def _to_resnet(converted, source):
    _check_finite(converted.state, source)
    try:
        settings = resnet.architecture(converted.state, converted.family)
        encoder = ResNet(**settings, preprocessing=converted.preprocessing.to_dict())
        load_state(resnet.resnet_names(encoder), converted.state, source=f"{source} ({converted.family})")
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return encoder


def _check_finite(state, source):
    if bad := [name for name, array in state.items() if not np.isfinite(array).all()]:
        raise CheckpointError(
            f"{source}: {bad[0]} holds NaN or infinity, as {len(bad)} of {len(state)} weights do"
        )


def open_checkpoint(
    path: PathLike,
    network: str = "teacher",
    num_heads: int | None = None,
    trained_size: int | None = None,
    image_size: int | None = None,
) -> tuple[Encoder, Converted]:
    """The encoder in a checkpoint file, and the `Converted` that it came from.

    Args:
        path: `.safetensors`, or what `torch.save` wrote.
        network: "teacher" or "student", where the file holds both.
        num_heads: Attention heads, where neither the family nor the width tells them.
        trained_size: Side in pixels of the square images that the file's positions are for, where nothing tells the
            shape of their grid.
        image_size: Side in pixels of the square that pictures are preprocessed to from now on, in place of the
            family's own.

    Raises:
        CheckpointError: see `read_checkpoint`, `read_family` and `to_encoder`.
        ValueError: for an image size that the encoder does not take.
    """

    converted = read_family(read_checkpoint(path), network, str(path))
    return to_encoder(converted, str(path), num_heads, trained_size, image_size), converted


def open_repository(
    folder: PathLike,
    num_heads: int | None = None,
    trained_size: int | None = None,
    image_size: int | None = None,
) -> Encoder:
    """The encoder in a folder that timm or transformers wrote, preprocessing included.

    Args:
        folder: The folder.
        num_heads: As `open_checkpoint` takes it, with `trained_size` and `image_size`.
        trained_size: Likewise.
        image_size: Likewise.

    Raises:
        CheckpointError: where its weights are of another kind of model, or do not fit.
        ValueError: for an image size that the encoder does not take.
        FileNotFoundError: where there are no weights.
    """

    folder = pathlib.Path(folder)
    files = {
        "config": _json(folder / "config.json"),
        "preprocessor": _json(folder / "preprocessor_config.json"),
    }
    names = [name for name in ("model.safetensors", "pytorch_model.bin") if (folder / name).is_file()]
    if not names:
        raise FileNotFoundError(f"{folder}: expected model.safetensors or pytorch_model.bin")
    path = folder / names[0]
    converted = read_family(read_checkpoint(path), source=str(path), **files)
    return to_encoder(converted, str(path), num_heads, trained_size, image_size)


def _json(path):
    try:
        return read_json(path)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
