"""Checkpoints of others as `ViT`s: MaSSL's reference, DINO, iBOT, DINOv2, MSN, MoCo v3, timm and transformers.

Each family has a module with `read(checkpoint, branch)`, which gives a `Converted` or None where the file is not of
its family. Loading is strict: every missing, unexpected and misshapen weight is named.
"""

import importlib
import json
import pathlib

FAMILIES = ("massl", "dino", "dinov2", "msn", "mocov3", "transformers", "timm")  # the surest marks first
SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")  # by which a file that is not there is known


def read_family(checkpoint, branch="teacher", source="checkpoint", **files):
    """A checkpoint in this package's terms.

    Args:
        checkpoint: What `read_checkpoint` gives.
        branch: "teacher" or "student", where there are both.
        source: Its name in messages.
        **files: `config` and `preprocessor`, the JSON files of a repository.

    Raises:
        CheckpointError: where it is of no known family, or its family cannot be taken.
    """
    from memssl_keras.weights.checkpoint import CheckpointError

    for name in FAMILIES:
        module = importlib.import_module(f"memssl_keras.weights.readers.{name}")
        takes = {"timm": ("config",), "transformers": ("config", "preprocessor")}.get(name, ())
        try:
            found = module.read(checkpoint, branch, **{key: files.get(key) for key in takes})
        except CheckpointError as error:
            raise CheckpointError(f"{source}: {error}") from None
        if found and found.one_model and branch != "teacher":
            raise CheckpointError(
                f"{source}: branch={branch!r}: a {found.family} holds one model; expected 'teacher'"
            )
        if found:
            return found
    keys = sorted(map(str, checkpoint))
    more = f" and {len(keys) - 6} more" if len(keys) > 6 else ""
    raise CheckpointError(
        f"{source}: of no known family; expected a ViT of MaSSL, DINO, iBOT, DINOv2, MSN, MoCo v3, timm or "
        f"transformers; the file has {', '.join(keys[:6]) or 'no entries'}{more}"
    )


def to_encoder(converted, source, num_heads=None):
    """A `ViT` with a family's weights, positions at the size that its preprocessing gives.

    Raises:
        CheckpointError: naming every missing, unexpected and misshapen weight of `source`.
    """
    from memssl_keras.encoders.vit import ViT
    from memssl_keras.weights.checkpoint import CheckpointError
    from memssl_keras.weights.positions import resize
    from memssl_keras.weights.readers.family import architecture
    from memssl_keras.weights.torch_names import encoder_names, load_state

    try:
        settings = architecture(converted, num_heads)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from None
    preprocessing, state = converted.preprocessing, dict(converted.state)
    if preprocessing:
        side = max(preprocessing.image_size // settings["patch_size"], 1)
        state["pos_embed"] = resize(state["pos_embed"], side, converted.positions)
        settings["image_size"] = side * settings["patch_size"]
    encoder = ViT(**settings, preprocessing=preprocessing.to_dict() if preprocessing else None)
    try:
        load_state(encoder_names(encoder), state, source=f"{source} ({converted.family})")
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    return encoder


def open_checkpoint(path, branch="teacher", num_heads=None):
    """The encoder in a checkpoint file, and the `Converted` that it came from.

    Args:
        path: `.safetensors`, or what `torch.save` wrote.
        branch: "teacher" or "student", where the file holds both.
        num_heads: Attention heads, where neither the family nor the width tells them.

    Raises:
        CheckpointError: see `read_checkpoint`, `read_family` and `to_encoder`.
    """
    from memssl_keras.weights.checkpoint import read_checkpoint

    converted = read_family(read_checkpoint(path), branch, str(path))
    return to_encoder(converted, str(path), num_heads), converted


def convert(source, folder, *, branch="teacher", num_heads=None, exports=(), half=False, encoder=None, **hub):
    """Write a checkpoint or a repository of another library as a folder of ours.

    Its card says where it came from; a run of `memssl pretrain` keeps its `run.json` instead. A MaSSL checkpoint's head
    and memory go into `training/`, see `convert.training`, unless its student is asked for.

    Args:
        source: A file, or what `from_pretrained` takes.
        folder: Where to.
        branch: "teacher" or "student", of a training checkpoint.
        num_heads: Attention heads, where nothing tells them.
        exports: As `save_pretrained` takes them.
        half: Likewise.
        encoder: To be written in place of the one of a run, of which it was made, such as a whitened one.
        **hub: `revision`, `cache_dir`, `local_files_only`, `token` and `force_download`.

    Returns:
        The encoder.

    Raises:
        CheckpointError: where the checkpoint is of no known family, is damaged, holds something that could be
            executed, or does not fit; nothing is written.
    """
    from memssl_keras.pretrained import from_pretrained, replace_file, save_pretrained
    from memssl_keras.weights.training_state import of_checkpoint, write_training
    from memssl_keras.zoo.card import write_card
    from memssl_keras.zoo.memory import remove_memory

    training, path = None, pathlib.Path(source)
    if path.is_file():
        encoder, converted = open_checkpoint(source, branch, num_heads)
        origin = f"{converted.family} {path.name}"
        if converted.training and branch == "teacher":
            training = of_checkpoint(converted.training)
    elif not path.exists() and path.suffix in SUFFIXES:
        raise FileNotFoundError(f"{path}: no such file")
    else:
        encoder = encoder or from_pretrained(source, num_heads=num_heads, **hub)
        origin = path.name if path.is_dir() else source
    save_pretrained(encoder, folder, exports=exports, half=half)
    if training:
        write_training(folder, **training)
    run, folder = path / "run.json", pathlib.Path(folder)
    if own_run := run.is_file():
        content = run.read_bytes()
        replace_file(folder / run.name, lambda part: part.write_bytes(content))
    remove_memory(folder)  # of the weights that were there before
    facts = {"whitening": "", "memory": "", **({} if own_run else {"origin": str(origin)})}
    write_card(folder, folder.resolve().name, **facts)
    return encoder


def open_repository(folder, num_heads=None):
    """The encoder in a folder that timm or transformers wrote, preprocessing included.

    Raises:
        CheckpointError: where its weights are of another kind of model, or do not fit.
        FileNotFoundError: where there are no weights.
    """
    from memssl_keras.weights.checkpoint import read_checkpoint

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
    return to_encoder(converted, str(path), num_heads)


def _json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        from memssl_keras.weights.checkpoint import CheckpointError

        raise CheckpointError(f"{path}: not valid JSON ({error})") from None
