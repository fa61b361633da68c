"""A model by its name, and an encoder to a folder in every form that is asked for."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetensors.numpy import save

from memssl_keras.annotations import PathLike
from memssl_keras.encoders import Encoder
from memssl_keras.files import replace_file, write_bytes
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights import layout
from memssl_keras.weights.config import is_ours
from memssl_keras.weights.folder import at_image_size, halved, names_of, read_encoder, write_encoder
from memssl_keras.weights.layout import WEIGHTS
from memssl_keras.weights.opening import open_checkpoint, open_repository
from memssl_keras.weights.readers.transformers import write as transformers_state
from memssl_keras.weights.torch_names import to_state
from memssl_keras.zoo.hub import find_folder

if TYPE_CHECKING:
    import keras


def save_pretrained(
    encoder: keras.Model,
    folder: PathLike,
    *,
    preprocessing: Preprocessing | None = None,
    exports: str | Sequence[str] = (),
    half: bool = False,
) -> None:
    """Write a folder that `from_pretrained` reads; that of a ViT is also read by timm, and with `exports` by others.

    `config.json`, `preprocessor_config.json` and `model.safetensors` are always written. A ViT's position embedding is
    resized to the image size of the preprocessing.

    Args:
        encoder: A `ViT`, or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        folder: Folder to write; made if missing. Other files in it stay.
        preprocessing: A `Preprocessing` in place of the encoder's own.
        exports: Any of "transformers" (`transformers.safetensors`: the same weights under the names that transformers
            needs), "keras" (`model.keras`, for `keras.saving.load_model` after `import memssl_keras.encoders`),
            and "fp32", "fp16" and "int8" (`onnx/`, for ONNX Runtime, transformers.js and optimum; see `export_onnx`).
        half: Store the safetensors in float16, in half the bytes; they are read as float32 again.

    Raises:
        ValueError: for an unknown export, or "transformers" for an encoder that is not a `ViT`.
        ParityError: where an ONNX file fails verification against the encoder.

    Example:
        >>> import tempfile
        >>> from memssl_keras import ViT, from_pretrained
        >>> encoder = ViT(embed_dim=48, depth=1, num_heads=3, patch_size=8, image_size=32)
        >>> folder = tempfile.mkdtemp()
        >>> encoder.save_pretrained(folder)
        >>> from_pretrained(folder).embed_dim
        48
    """
    exports = [exports] if isinstance(exports, str) else list(exports)
    if unknown := [name for name in exports if name not in layout.EXPORTS]:
        raise ValueError(f"exports={unknown[0]!r}: expected some of {', '.join(layout.EXPORTS)}")
    encoder = Encoder.wrap(encoder)
    if "transformers" in exports:
        _check_transformers(encoder)
    encoder = write_encoder(encoder, folder, preprocessing, half, whole="keras" in exports)
    if half and exports:  # of the weights that were written
        encoder = read_encoder(folder)
    write_exports(encoder, folder, exports, preprocessing, half)


def _check_transformers(encoder):
    if not encoder.gives_tokens:
        raise ValueError(
            f"exports='transformers': {type(encoder).__name__} has no counterpart; expected a ViT"
        )


def write_exports(
    encoder: Encoder,
    folder: PathLike,
    exports: Sequence[str],
    preprocessing: Preprocessing | None = None,
    half: bool = False,
) -> None:
    """Write some of the `exports` of `save_pretrained` into the folder of a saved encoder."""
    folder = pathlib.Path(folder)
    if "keras" in exports:
        replace_file(folder / layout.KERAS_MODEL, lambda path: encoder.save(path, overwrite=True))
    if "transformers" in exports:
        _check_transformers(encoder)
        state = transformers_state(to_state(names_of(encoder)), layout.model_type_of(encoder.get_config()))
        content = save(halved(state) if half else state, metadata={"format": "pt"})
        write_bytes(folder / layout.TRANSFORMERS_WEIGHTS, content)
    if variants := [name for name in exports if name not in ("keras", "transformers")]:
        from memssl_keras.export.onnx import export_onnx  # needs the package onnx

        export_onnx(encoder, folder, variants=variants, preprocessing=preprocessing)


def from_pretrained(
    name_or_repo_or_folder: PathLike,
    *,
    revision: str | None = None,
    cache_dir: PathLike | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
    network: str = "teacher",
    num_heads: int | None = None,
    trained_size: int | None = None,
    image_size: int | None = None,
) -> Encoder:
    """Load a Keras encoder: a bundled model, a Hub repository, a folder, or a checkpoint file of another library.

    Of a repository only `config.json` and the weights are downloaded, into the Hub's cache; a second call does not
    download them again. Repositories of transformers (ViT, ViTMSN, Dinov2 with or without registers) and of timm
    (plain ViTs and ResNets) load with their preprocessing. `memssl_keras.weights.opening` lists the checkpoints.

    Args:
        name_or_repo_or_folder: One of `list_models()`, `owner/name`, a folder that `save_pretrained`, transformers or
            timm wrote, or a file.
        revision: Branch, tag or commit of a repository.
        cache_dir: Folder to use instead of the Hub's cache.
        local_files_only: Use only files that are in the cache.
        token: Access token for the Hub; True for the stored one, False for none.
        force_download: Download again even if the files are in the cache.
        network: Network of a training checkpoint in a file: "teacher" or "student".
        num_heads: Number of attention heads of a checkpoint in a file, if its width does not tell it.
        trained_size: Side in pixels of the square images that a checkpoint was trained on. Only needed if an error asks
            for it: few files do not tell the shape of their patch grid. It changes nothing else.
        image_size: Side in pixels of the square that pictures are preprocessed to before the encoder sees them, in
            place of the model's own; `resize_size` grows in proportion. A ViT takes multiples of its patch, and its
            position embedding is resized; a ResNet takes any. `save_pretrained` and `export_onnx` keep it.

    Raises:
        UnknownModel: where there is no folder, file, bundled model or repository of this name.
        HubError: where a repository cannot be downloaded.
        ValueError: for a folder without a model, one of a newer format, weights that do not fit or are damaged, or an
            image size that the encoder does not take.

    Example:
        >>> from memssl_keras import from_pretrained
        >>> from_pretrained("massl_vitn4.cifar10").embed_dim
        128
        >>> from_pretrained("massl_vitn4.cifar10", image_size=64).preprocess.image_size
        64
    """
    if pathlib.Path(name_or_repo_or_folder).is_file():
        return open_checkpoint(name_or_repo_or_folder, network, num_heads, trained_size, image_size)[0]
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
        return open_repository(folder, num_heads, trained_size, image_size)
    encoder = read_encoder(folder)
    return encoder if image_size is None else at_image_size(encoder, image_size)


def _weights_of(config):
    if is_ours(config):
        return [(WEIGHTS,)]
    return [(WEIGHTS, "pytorch_model.bin"), ("preprocessor_config.json", "")]


def _is_foreign(folder):
    """Whether a folder is one of transformers or timm, which lack our entries in `config.json`."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False  # `read_config` says what is wrong
    return isinstance(config, dict) and len(config) > 0 and not is_ours(config)
