"""Save an encoder as a folder, get it back, and embed images with it.

The folder holds `config.json` (architecture and preprocessing) and `model.safetensors` (a ViT's weights under
the names that torch's ViTs share, another model's under its Keras paths). `export_onnx` adds `onnx/model.onnx`.
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

from memssl_keras.convert.torch_names import encoder_names, load_state, to_state
from memssl_keras.vit import ViT

WEIGHTS = "model.safetensors"
_NOT_ARCHITECTURE = ("name", "trainable", "dtype", "preprocessing")


def preprocessing_of(encoder):
    """The `Preprocessing` of an encoder: its own, or ImageNet's constants at its image size.

    Below 128 px whole pictures are resized, nothing is cropped away.
    """
    from memssl_keras.export.preprocess import Preprocessing

    if getattr(encoder, "preprocessing", None):
        return Preprocessing.from_dict(encoder.preprocessing)
    size = getattr(encoder, "image_size", None) or (encoder.input_shape[1] if encoder.input_shape[1] else 224)
    return Preprocessing(image_size=size, resize_size=round(size * 256 / 224) if size >= 128 else size)


def config_of(encoder, preprocessing=None):
    """What stands in `config.json` for an encoder."""
    is_vit = isinstance(encoder, ViT)
    architecture = encoder.get_config() if is_vit else keras.saving.serialize_keras_object(encoder)
    return {
        "format_version": 1,
        "library_name": "memssl-keras",
        "model_type": "vit" if is_vit else "keras",
        "embed_dim": encoder.output_shape[-1],
        "architecture": {k: v for k, v in architecture.items() if k not in _NOT_ARCHITECTURE or not is_vit},
        "preprocessing": (preprocessing or preprocessing_of(encoder)).to_dict(),
    }


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
    """Write `folder/config.json`."""
    text = json.dumps(config_of(encoder, preprocessing), indent=2) + "\n"
    replace_file(pathlib.Path(folder) / "config.json", lambda path: path.write_text(text, encoding="utf-8"))


def _keras_names(encoder):
    names = {v.path: (v, "same") for v in encoder.weights}
    if len(names) != len(encoder.weights):
        raise ValueError(
            f"encoder={encoder.name}: two weights share a path; give its layers names of their own"
        )
    return names


def _names(encoder):
    return encoder_names(encoder) if isinstance(encoder, ViT) else _keras_names(encoder)


def save_pretrained(encoder, folder, *, preprocessing=None):
    """Write `config.json` and `model.safetensors`.

    Args:
        encoder: A `ViT`, or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        folder: Where to; made if missing, other files in it stay.
        preprocessing: A `Preprocessing` in place of the encoder's own.

    Example:
        >>> import tempfile
        >>> from memssl_keras import ViT, from_pretrained
        >>> encoder = ViT(embed_dim=48, depth=1, num_heads=3, patch_size=8, image_size=32)
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder)
        >>> from_pretrained(folder).embed_dim
        48
    """
    state = to_state(_names(encoder))
    content = save(state, metadata={"format": "pt"})
    replace_file(pathlib.Path(folder) / WEIGHTS, lambda path: path.write_bytes(content))
    write_config(encoder, folder, preprocessing)


def from_pretrained(name_or_folder):
    """The encoder of a bundled model or of a folder that `save_pretrained` wrote.

    Raises:
        ValueError: for an unknown name, a folder without a model, or weights that do not fit or are damaged.
    """
    from memssl_keras.export.folder import read_config
    from memssl_keras.zoo.registry import resolve

    folder = pathlib.Path(name_or_folder)
    folder = folder if folder.is_dir() else resolve(str(name_or_folder))
    config = read_config(folder)
    if config.get("model_type") == "vit":
        encoder = ViT(**config["architecture"], preprocessing=config["preprocessing"])
    elif config.get("model_type") == "keras":
        encoder = keras.saving.deserialize_keras_object(config["architecture"], safe_mode=True)
        encoder.preprocessing = config["preprocessing"]
    else:
        raise ValueError(f"{folder}: model_type={config.get('model_type')!r}; expected 'vit' or 'keras'")
    path = folder / WEIGHTS
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; the folder holds no Keras weights") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or not a safetensors file ({error})") from None
    state = {k: v.astype(np.float32) if v.dtype == np.float16 else v for k, v in state.items()}
    load_state(_names(encoder), state, source=str(path))
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
