"""A checkpoint of another library, or a run of `memssl pretrain`, as a folder of ours with its card."""

import pathlib

from memssl_keras.files import write_bytes
from memssl_keras.pretrained import from_pretrained, save_pretrained
from memssl_keras.weights.opening import SUFFIXES, open_checkpoint
from memssl_keras.weights.training_state import of_checkpoint, write_training
from memssl_keras.zoo.card import write_card
from memssl_keras.zoo.memory import remove_memory


def convert(
    source,
    folder,
    *,
    branch="teacher",
    num_heads=None,
    image_size=None,
    exports=(),
    half=False,
    encoder=None,
    **hub,
):
    """Write a checkpoint or a repository of another library as a folder of ours.

    Its card says where it came from; a run of `memssl pretrain` keeps its `run.json` instead. A MaSSL checkpoint's head
    and memory go into `training/`, see `memssl_keras.weights.training_state`, unless its student is asked for.

    Args:
        source: A file, or what `from_pretrained` takes.
        folder: Where to.
        branch: "teacher" or "student", of a training checkpoint.
        num_heads: Attention heads, where nothing tells them.
        image_size: Side in pixels of the square images that positions are for, where nothing tells the shape of their
            grid.
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
    training, path = None, pathlib.Path(source)
    if path.is_file():
        encoder, converted = open_checkpoint(source, branch, num_heads, image_size)
        origin = f"{converted.family} {path.name}"
        if converted.training and branch == "teacher":
            training = of_checkpoint(converted.training)
    elif not path.exists() and path.suffix in SUFFIXES:
        raise FileNotFoundError(f"{path}: no such file")
    else:
        encoder = encoder or from_pretrained(source, num_heads=num_heads, image_size=image_size, **hub)
        origin = path.name if path.is_dir() else source
    save_pretrained(encoder, folder, exports=exports, half=half)
    if training:
        write_training(folder, **training)
    run, folder = path / "run.json", pathlib.Path(folder)
    if own_run := run.is_file():
        content = run.read_bytes()
        write_bytes(folder / run.name, content)
    remove_memory(folder)  # of the weights that were there before
    facts = {"whitening": "", "memory": "", **({} if own_run else {"origin": str(origin)})}
    write_card(folder, folder.resolve().name, **facts)
    return encoder
