"""An encoder to and from a folder of our own format.

The folder holds `config.json` (architecture and preprocessing) and `model.safetensors`: a ViT's weights under the names
that torch's ViTs share, another model's under its Keras paths. What else other libraries read is described in
`memssl_keras.weights.layout`.

Formats of `config.json`: 2 is written. In 1, which is read, a ResNet stood as the whole graph of its layers.
"""

from __future__ import annotations

import json
import pathlib
import re
import tempfile
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from memssl_keras.annotations import PathLike
from memssl_keras.encoders import Encoder, ViT, WrappedEncoder
from memssl_keras.files import write_bytes, write_json
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights import layout
from memssl_keras.weights.config import FORMAT_VERSION, read_config
from memssl_keras.weights.layout import WEIGHTS
from memssl_keras.weights.positions import resize
from memssl_keras.weights.torch_names import encoder_names, load_state, to_state

_NOT_ARCHITECTURE = ("name", "trainable", "frozen", "dtype", "preprocessing")


def config_of(encoder: Encoder, preprocessing: Preprocessing | None = None) -> dict[str, Any]:
    """What stands in `config.json` for an encoder: our entries, and those of the libraries in `weights.layout`.

    A ViT's `image_size` is the one that images are preprocessed to, see `memssl_keras.weights.positions`.
    """
    preprocessing = preprocessing or encoder.preprocess
    config = {"format_version": FORMAT_VERSION, "library_name": "memssl-keras", "model_type": "keras"}
    config |= {"embed_dim": encoder.embed_dim, "preprocessing": preprocessing.to_dict()}
    if not isinstance(encoder, ViT):
        content = keras.saving.serialize_keras_object(encoder)
        content["config"] |= {"preprocessing": None, "trainable": True}  # preprocessing stands once, above
        for name in ("dtype", "frozen"):  # of a run
            content["config"].pop(name, None)
        return config | {"keras_config": content}
    settings = {k: v for k, v in encoder.get_config().items() if k not in _NOT_ARCHITECTURE}
    settings["image_size"] = native_size(encoder, preprocessing)
    readers = layout.transformers_config(settings, preprocessing) | layout.timm_config(
        settings, preprocessing
    )
    return config | readers | {"keras_config": settings}


def native_size(encoder: Encoder, preprocessing: Preprocessing) -> int:
    """The largest multiple of the patch within the size that images are preprocessed to."""
    return max(preprocessing.image_size // encoder.patch_size, 1) * encoder.patch_size


def write_config(encoder: Encoder, folder: PathLike, preprocessing: Preprocessing | None = None) -> None:
    """Write `folder/config.json` and `folder/preprocessor_config.json` beside weights that are there.

    Raises:
        ValueError: where those weights have their positions at another image size.
    """
    encoder = Encoder.wrap(encoder)
    folder, preprocessing = pathlib.Path(folder), preprocessing or encoder.preprocess
    if isinstance(encoder, ViT) and (folder / WEIGHTS).is_file() and (folder / "config.json").is_file():
        before = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        size = before.get("keras_config", {}).get("image_size")
        if size != native_size(encoder, preprocessing):
            raise ValueError(
                f"preprocessing.image_size={preprocessing.image_size}: the weights in {folder} are for {size} px; "
                "save_pretrained with that preprocessing first, or choose another folder"
            )
    _write_configs(encoder, folder, preprocessing)


def _write_configs(encoder, folder, preprocessing):
    write_json(folder / "preprocessor_config.json", layout.preprocessor_config(preprocessing))
    write_json(folder / "config.json", config_of(encoder, preprocessing))


def names_of(encoder: Encoder, format_version: int = FORMAT_VERSION) -> dict[str, Any]:
    """Name → (variable, layout) of an encoder's weights, as `model.safetensors` has them."""
    if isinstance(encoder, ViT):
        return encoder_names(encoder)
    if isinstance(encoder, WrappedEncoder) and format_version > 1:
        # Names of other models hold numbers that Keras counts up in a process: the order of the weights is what stays.
        kinds = [re.sub(r"_\d+$", "", v.name) for v in encoder.weights]
        named = zip(kinds, encoder.weights, strict=True)
        return {f"{number:04d}.{kind}": (v, "same") for number, (kind, v) in enumerate(named)}
    return {v.path: (v, "same") for v in encoder.weights}


def write_encoder(
    encoder: Encoder,
    folder: PathLike,
    preprocessing: Preprocessing | None = None,
    half: bool = False,
    whole: bool = False,
) -> Encoder:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors`; other files in the folder stay.

    Args:
        encoder: An `Encoder`.
        folder: Where to; made if missing.
        preprocessing: A `Preprocessing` in place of the encoder's own.
        half: Write the weights in float16.
        whole: Give the encoder that is returned that preprocessing, too.

    Returns:
        The encoder that was written: of a ViT one whose positions are at the size that images are preprocessed to.

    Raises:
        ValueError: for half, where a weight is beyond float16; or for a model of other libraries that does not come
            back from its configuration.
    """
    folder, preprocessing = pathlib.Path(folder), preprocessing or encoder.preprocess
    encoder = _native(encoder, preprocessing, whole)
    state = to_state(names_of(encoder))
    if isinstance(encoder, ViT) and encoder.register_tokens:  # timm's mark of DINOv2's way with registers
        state["mask_token"] = np.zeros((1, encoder.embed_dim), "float32")
    content = save(halved(state) if half else state, metadata={"format": "pt"})
    if isinstance(encoder, WrappedEncoder):
        _check_comes_back(encoder, content, preprocessing)
    write_bytes(folder / WEIGHTS, content)
    _write_configs(encoder, folder, preprocessing)
    return encoder


def _check_comes_back(encoder, content, preprocessing):
    """Raise ValueError where what would be written of somebody's model cannot be read back; nothing is written then."""
    with tempfile.TemporaryDirectory() as scratch:
        write_bytes(pathlib.Path(scratch) / WEIGHTS, content)
        _write_configs(encoder, pathlib.Path(scratch), preprocessing)
        try:
            read_encoder(scratch)
        except (
            Exception
        ) as error:  # whatever Keras makes of a configuration that does not hold all of a model
            raise ValueError(
                f"encoder={encoder.name}: cannot be saved, as it does not come back from its configuration "
                f"({' '.join(str(error).split())[:300]}); layers of your own need get_config and "
                "keras.saving.register_keras_serializable"
            ) from error


def halved(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays in float16.

    Raises:
        ValueError: where a weight is beyond its range.
    """
    with np.errstate(over="ignore"):
        small = {name: array.astype(np.float16) for name, array in state.items()}
    if beyond := [name for name, array in small.items() if not np.isfinite(array).all()]:
        raise ValueError(f"half=True: {beyond[0]} is beyond float16, whose largest number is 65504")
    return small


def _native(encoder, preprocessing, whole):
    """A ViT whose positions are at the size that images are preprocessed to: the encoder itself, or a new one."""
    if not isinstance(encoder, ViT):
        return encoder
    size, settings = native_size(encoder, preprocessing), preprocessing.to_dict()
    if size == encoder.image_size and not (whole and encoder.preprocessing != settings):
        return encoder
    config = encoder.get_config() | {"image_size": size, "preprocessing": settings}
    native, state = ViT.from_config(config), to_state(encoder_names(encoder))
    state["pos_embed"] = resize(state["pos_embed"], size // encoder.patch_size)
    load_state(encoder_names(native), state)
    return native


def at_image_size(encoder: Encoder, image_size: int) -> Encoder:
    """An encoder whose pictures are preprocessed to another size: itself, or of a ViT one with resized positions.

    Args:
        encoder: An `Encoder`.
        image_size: Side of its square input, in pixels.

    Raises:
        ValueError: where the encoder does not take that size.
    """
    before = encoder.preprocess
    if before == (preprocessing := before.at(image_size, encoder.patch_size)):
        return encoder
    encoder.check_image_size(image_size)
    encoder = _native(encoder, preprocessing, whole=True)
    encoder.preprocessing = preprocessing.to_dict()
    return encoder


def read_encoder(folder: PathLike) -> Encoder:
    """The encoder of a folder that `save_pretrained` wrote.

    Raises:
        FileNotFoundError: where there is no `config.json`.
        ValueError: where it is of a newer format or another kind, or the weights are missing, damaged or do not fit.
    """
    folder = pathlib.Path(folder)
    config = read_config(folder)
    kind, settings = config.get("model_type"), config.get("keras_config")
    if kind not in (*layout.VIT_TYPES, "keras") or not isinstance(settings, dict):
        raise ValueError(
            f"{folder}: model_type={kind!r}; expected 'vit' or 'keras' and the encoder's keras_config"
        )
    if kind == "keras":
        # The first versions said float32; now the global policy counts, as for every Keras model.
        given = settings.get("config", {})
        settings = {**settings, "config": {name: given[name] for name in given if name != "dtype"}}
        encoder = Encoder.wrap(keras.saving.deserialize_keras_object(settings, safe_mode=True))
        encoder.preprocessing = config["preprocessing"]
    else:
        encoder = ViT(**settings, preprocessing=config["preprocessing"])
    path = folder / WEIGHTS
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the folder holds no Keras weights") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error})") from None
    if isinstance(encoder, ViT) and encoder.register_tokens:
        state.pop("mask_token", None)
    state = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in state.items()}
    load_state(names_of(encoder, config["format_version"]), state, source=str(path))
    return encoder
