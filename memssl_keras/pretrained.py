"""Save an encoder as a folder, get it back, and embed images with it.

The folder holds `config.json` (architecture and preprocessing) and `model.safetensors` (a ViT's weights under
the names that torch's ViTs share, another model's under its Keras paths). What else other libraries read is described
in `memssl_keras.weights.layout`.
"""

import itertools
import json
import os
import pathlib

import keras
import numpy as np
from keras import ops
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from memssl_keras.encoders.vit import ViT
from memssl_keras.weights.torch_names import encoder_names, load_state, to_state

WEIGHTS = "model.safetensors"
_NOT_ARCHITECTURE = ("name", "trainable", "dtype", "preprocessing")


def preprocessing_of(encoder):
    """The `Preprocessing` of an encoder: its own, or ImageNet's constants at its image size.

    Below 128 px whole pictures are resized, nothing is cropped away.
    """
    from memssl_keras.images.preprocess import Preprocessing

    if getattr(encoder, "preprocessing", None):
        return Preprocessing.from_dict(encoder.preprocessing)
    size = getattr(encoder, "image_size", None) or (encoder.input_shape[1] if encoder.input_shape[1] else 224)
    return Preprocessing(image_size=size, resize_size=round(size * 256 / 224) if size >= 128 else size)


def config_of(encoder, preprocessing=None):
    """What stands in `config.json` for an encoder: our entries, and those of the libraries in `zoo.layout`.

    A ViT's `image_size` is the one that images are preprocessed to, see `memssl_keras.weights.positions`.
    """
    from memssl_keras.weights.layout import timm_config, transformers_config

    preprocessing = preprocessing or preprocessing_of(encoder)
    config = {"format_version": 1, "library_name": "memssl-keras", "model_type": "keras"}
    config |= {"embed_dim": encoder.output_shape[-1], "preprocessing": preprocessing.to_dict()}
    if not isinstance(encoder, ViT):
        return config | {"keras_config": keras.saving.serialize_keras_object(encoder)}
    settings = {k: v for k, v in encoder.get_config().items() if k not in _NOT_ARCHITECTURE}
    settings["image_size"] = native_size(encoder, preprocessing)
    readers = transformers_config(settings, preprocessing) | timm_config(settings, preprocessing)
    return config | readers | {"keras_config": settings}


def native_size(encoder, preprocessing):
    """The largest multiple of the patch within the size that images are preprocessed to."""
    return max(preprocessing.image_size // encoder.patch_size, 1) * encoder.patch_size


def replace_file(path, write):
    """Call `write(temporary path)` and move the result to `path`: the old file or the whole new one is there."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")  # with its suffix, which ONNX Runtime goes by
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_config(encoder, folder, preprocessing=None):
    """Write `folder/config.json` and `folder/preprocessor_config.json` beside weights that are there.

    Raises:
        ValueError: where those weights have their positions at another image size.
    """
    folder, preprocessing = pathlib.Path(folder), preprocessing or preprocessing_of(encoder)
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
    from memssl_keras.weights.layout import preprocessor_config

    _write_json(folder / "preprocessor_config.json", preprocessor_config(preprocessing))
    _write_json(folder / "config.json", config_of(encoder, preprocessing))


def _write_json(path, content):
    text = json.dumps(content, indent=2) + "\n"
    replace_file(path, lambda part: part.write_text(text, encoding="utf-8"))


def _keras_names(encoder):
    names = {v.path: (v, "same") for v in encoder.weights}
    if len(names) != len(encoder.weights):
        raise ValueError(
            f"encoder={encoder.name}: two weights share a path; give its layers names of their own"
        )
    return names


def names_of(encoder):
    """Name → (variable, layout) of an encoder's weights, as `model.safetensors` has them."""
    return encoder_names(encoder) if isinstance(encoder, ViT) else _keras_names(encoder)


def save_pretrained(encoder, folder, *, preprocessing=None, exports=(), half=False):
    """Write a folder that `from_pretrained` reads, and timm; with `exports` also others.

    `config.json`, `preprocessor_config.json` and `model.safetensors` are always written. A ViT's positions are
    written at the size that images are preprocessed to.

    Args:
        encoder: A `ViT`, or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        folder: Where to; made if missing, other files in it stay.
        preprocessing: A `Preprocessing` in place of the encoder's own.
        exports: Any of "transformers" (`transformers.safetensors`: the same weights under its names, which it cannot
            do without), "keras" (`model.keras`, for `keras.saving.load_model` after `import memssl_keras.encoders`),
            and "fp32", "fp16" and "int8" (`onnx/`, for ONNX Runtime, transformers.js and optimum; see `export_onnx`).
        half: Write the safetensors in float16, half the bytes; they are read as float32 again.

    Raises:
        ValueError: for another export, or "transformers" of what is no `ViT`.
        ParityError: where an ONNX file does not give what the encoder gives.

    Example:
        >>> import tempfile
        >>> from memssl_keras import ViT, from_pretrained
        >>> encoder = ViT(embed_dim=48, depth=1, num_heads=3, patch_size=8, image_size=32)
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder)
        >>> from_pretrained(folder).embed_dim
        48
    """
    from memssl_keras.weights.layout import EXPORTS

    exports = [exports] if isinstance(exports, str) else list(exports)
    if unknown := [name for name in exports if name not in EXPORTS]:
        raise ValueError(f"exports={unknown[0]!r}: expected some of {', '.join(EXPORTS)}")
    folder, preprocessing = pathlib.Path(folder), preprocessing or preprocessing_of(encoder)
    encoder = _native(encoder, preprocessing, whole="keras" in exports)
    state = to_state(names_of(encoder))
    if isinstance(encoder, ViT) and encoder.register_tokens:  # timm's mark of DINOv2's way with registers
        state["mask_token"] = np.zeros((1, encoder.embed_dim), "float32")
    state = halved(state) if half else state
    content = save(state, metadata={"format": "pt"})
    replace_file(folder / WEIGHTS, lambda path: path.write_bytes(content))
    _write_configs(encoder, folder, preprocessing)
    if half and exports:  # of the weights that were written
        encoder = read_encoder(folder)
    write_exports(encoder, folder, exports, preprocessing, half)


def halved(state):
    """Arrays in float16.

    Raises:
        ValueError: where a weight is beyond its range.
    """
    with np.errstate(over="ignore"):
        small = {name: array.astype(np.float16) for name, array in state.items()}
    if beyond := [name for name, array in small.items() if not np.isfinite(array).all()]:
        raise ValueError(f"half=True: {beyond[0]} is beyond float16, whose largest number is 65504")
    return small


def write_exports(encoder, folder, exports, preprocessing=None, half=False):
    """Write some of the `exports` of `save_pretrained` into the folder of a saved encoder."""
    from memssl_keras.weights import layout

    folder = pathlib.Path(folder)
    if "keras" in exports:
        replace_file(folder / layout.KERAS_MODEL, lambda path: encoder.save(path, overwrite=True))
    if "transformers" in exports:
        if not isinstance(encoder, ViT):
            raise ValueError(
                f"exports='transformers': {type(encoder).__name__} has no counterpart; expected a ViT"
            )
        from memssl_keras.weights.readers.transformers import write

        state = write(to_state(encoder_names(encoder)), layout.model_type_of(encoder.get_config()))
        content = save(halved(state) if half else state, metadata={"format": "pt"})
        replace_file(folder / layout.TRANSFORMERS_WEIGHTS, lambda path: path.write_bytes(content))
    if variants := [name for name in exports if name not in ("keras", "transformers")]:
        from memssl_keras.export.onnx import export_onnx

        export_onnx(encoder, folder, variants=variants, preprocessing=preprocessing)


def _native(encoder, preprocessing, whole):
    """A ViT whose positions are at the size that images are preprocessed to: the encoder itself, or a new one.

    With `whole` it holds that preprocessing, too.
    """
    if not isinstance(encoder, ViT):
        return encoder
    size, settings = native_size(encoder, preprocessing), preprocessing.to_dict()
    if size == encoder.image_size and not (whole and encoder.preprocessing != settings):
        return encoder
    from memssl_keras.weights.positions import resize

    config = encoder.get_config() | {"image_size": size, "preprocessing": settings}
    native, state = ViT.from_config(config), to_state(encoder_names(encoder))
    state["pos_embed"] = resize(state["pos_embed"], size // encoder.patch_size)
    load_state(encoder_names(native), state)
    return native


def from_pretrained(
    name_or_repo_or_folder,
    *,
    revision=None,
    cache_dir=None,
    local_files_only=False,
    token=None,
    force_download=False,
    branch="teacher",
    num_heads=None,
):
    """The Keras encoder of a zoo name, a Hub repository, a folder, or a checkpoint file of another library.

    Of a repository only `config.json` and the weights are fetched, into the Hub's cache; a second call touches no
    network. Repositories of transformers (ViT, ViTMSN, Dinov2, with registers, too) and timm (plain ViTs) give an
    encoder with their preprocessing; see `memssl_keras.weights.opening` for the checkpoints.

    Args:
        name_or_repo_or_folder: One of `list_models()`, `owner/name`, a folder that `save_pretrained`, transformers or
            timm wrote, or a file.
        revision: Branch, tag or commit of a repository.
        cache_dir: In place of the Hub's own cache.
        local_files_only: Never touch the network.
        token: Access token for the Hub; True for the stored one, False for none.
        force_download: Fetch again what is cached.
        branch: Of a training checkpoint in a file, "teacher" or "student".
        num_heads: Attention heads of a checkpoint in a file, where its width does not tell them.

    Raises:
        UnknownModel: for what is neither a folder, nor a file, nor a name, nor a repository.
        HubError: where a repository cannot be fetched.
        ValueError: for a folder without a model, one of a newer format, or weights that do not fit or are damaged.

    Example:
        >>> from memssl_keras import from_pretrained
        >>> from_pretrained("massl_vitn4.cifar10").embed_dim
        128
    """
    from memssl_keras.weights import opening as convert
    from memssl_keras.zoo.hub import find_folder

    if pathlib.Path(name_or_repo_or_folder).is_file():
        return convert.open_checkpoint(name_or_repo_or_folder, branch, num_heads)[0]
    folder = find_folder(
        name_or_repo_or_folder,
        _weights_of,
        revision=revision,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        token=token,
        force_download=force_download,
    )
    if _is_foreign(folder):
        return convert.open_repository(folder, num_heads)
    return read_encoder(folder)


def _weights_of(config):
    if "format_version" in config:
        return [(WEIGHTS,)]
    return [(WEIGHTS, "pytorch_model.bin"), ("preprocessor_config.json", "")]


def _is_foreign(folder):
    """Whether a folder is one of transformers or timm, which lack our entries in `config.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False  # `read_config` says what is wrong
    ours = ("format_version", "embed_dim", "keras_config")
    return isinstance(config, dict) and not any(key in config for key in ours) and len(config) > 0


def read_encoder(folder):
    """The encoder of a folder that `save_pretrained` wrote.

    Raises:
        FileNotFoundError: where there is no `config.json`.
        ValueError: where it is of a newer format or another kind, or the weights are missing, damaged or do not fit.
    """
    from memssl_keras.export.folder import read_config
    from memssl_keras.weights.layout import VIT_TYPES

    folder = pathlib.Path(folder)
    config = read_config(folder)
    kind, settings = config.get("model_type"), config.get("keras_config")
    if kind not in (*VIT_TYPES, "keras") or not isinstance(settings, dict):
        raise ValueError(
            f"{folder}: model_type={kind!r}; expected 'vit' or 'keras' and the encoder's keras_config"
        )
    if kind == "keras":
        encoder = keras.saving.deserialize_keras_object(settings, safe_mode=True)
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
    if kind != "keras" and encoder.register_tokens:
        state.pop("mask_token", None)
    state = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in state.items()}
    load_state(names_of(encoder), state, source=str(path))
    return encoder


def embed(encoder, images, batch_size=32, preprocessing=None):
    """Unit vectors `(N, D)` float32 of images, preprocessed as the encoder's configuration says.

    Args:
        encoder: A `ViT` or another Keras encoder.
        images: Paths, bytes of image files, PIL images or uint8 arrays; one, or any number of them, or an array
            `(N, H, W, 3)`.
        batch_size: Images per forward pass.
        preprocessing: A `Preprocessing` in place of the encoder's own.
    """
    preprocess = preprocessing or preprocessing_of(encoder)
    single = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    remaining = iter([images] if single or getattr(images, "ndim", 4) < 4 else images)
    batches = iter(lambda: list(itertools.islice(remaining, batch_size)), [])
    vectors = [encoder.predict_on_batch(preprocess.batch(batch)) for batch in batches]
    if not vectors:
        return np.zeros((0, encoder.output_shape[-1]), "float32")
    vectors = ops.convert_to_numpy(np.concatenate(vectors)).astype("float32")
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
