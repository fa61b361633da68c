"""What continued pretraining needs beside the encoder, in files of their own in the folder `training/`.

`student.safetensors` is the student (`backbone.*`, `head.*`), `teacher_head.safetensors` the teacher's head,
`memory.safetensors` the memory (`vectors` `(K, D)`, `pointer`, `written`), `config.json` the arguments of `MaSSL` that
shape them. Who only wants embeddings fetches none of them.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from memssl_keras.annotations import PathLike
from memssl_keras.files import write_bytes
from memssl_keras.weights.folder import at_image_size, names_of, native_size, read_encoder, write_encoder
from memssl_keras.weights.positions import resize
from memssl_keras.weights.torch_names import head_names, load_state, to_state
from memssl_keras.zoo.hub import find_folder

FOLDER = "training"
FILES = ("config.json", "student.safetensors", "teacher_head.safetensors", "memory.safetensors")


def branch_names(branch: Any) -> dict[str, tuple]:
    """Torch name → (variable, layout) of a student or teacher: `backbone.*` and `head.*`."""

    names = {f"backbone.{name}": entry for name, entry in names_of(branch.encoder).items()}
    return names | {f"head.{name}": entry for name, entry in head_names(branch.head).items()}


def write_training(
    folder: PathLike,
    student: dict[str, np.ndarray],
    teacher: dict[str, np.ndarray],
    memory: dict[str, np.ndarray],
    config: dict[str, Any],
) -> None:
    """Write the four files.

    Args:
        folder: Folder of the encoder.
        student: Arrays of both parts of the student, under torch's names.
        teacher: Likewise of the teacher; its head is written.
        memory: `vectors`, `pointer` and `written`.
        config: Arguments of `MaSSL`.
    """

    head = {name: array for name, array in teacher.items() if name.startswith("head.")}
    counters = {name: np.array([memory[name]], "int64") for name in ("pointer", "written")}
    contents = {
        "student.safetensors": save(student, metadata={"format": "pt"}),
        "teacher_head.safetensors": save(head, metadata={"format": "pt"}),
        "memory.safetensors": save({"vectors": memory["vectors"], **counters}),
        "config.json": (json.dumps(config, indent=2) + "\n").encode(),
    }
    for name, content in contents.items():
        write_bytes(pathlib.Path(folder) / FOLDER / name, content)


def of_checkpoint(training: dict[str, Any]) -> dict[str, Any]:
    """`write_training`'s arguments for what `memssl_keras.weights.readers.massl` read.

    The reference does not say how much of its memory is filled; it is taken to be full.
    """
    student, vectors = training["student"], training["memory"]["vectors"]
    hidden, size = student["head.mlp.0.weight"].shape[0], len(vectors)
    block = training["memory"]["block_size"]
    config = {
        "memory_size": size,
        "block_size": int(block) if block and size % int(block) == 0 else size,
        "hidden_dim": hidden,
        "output_dim": vectors.shape[1],
        "batch_norm": "head.mlp.1.running_mean" in student,
    }
    memory = {"vectors": vectors, "pointer": training["memory"]["pointer"], "written": size}
    return {"student": student, "teacher": training["teacher"], "memory": memory, "config": config}


def save_training(model: Any, folder: PathLike) -> None:
    """Write a `MaSSL`'s teacher's encoder, as `save_pretrained` does, and its training state beside it."""

    names = ("memory_size", "block_size", "hidden_dim", "output_dim", "batch_norm", "memory_storage")
    settings = model.get_config()
    write_encoder(model.encoder, folder)
    memory = {"vectors": model.memory.vectors.numpy()}
    memory |= {name: int(getattr(model.memory, name).numpy()) for name in ("pointer", "written")}
    student, teacher = (to_state(branch_names(branch)) for branch in (model.student, model.teacher))
    if "backbone.pos_embed" in student:  # as the teacher's are written
        student["backbone.pos_embed"] = resize(student["backbone.pos_embed"], _side(model.encoder))
    write_training(folder, student, teacher, memory, {name: settings[name] for name in names})


def load_training(
    cls, model: PathLike, settings: dict[str, Any], hub: dict[str, Any], image_size: int | None = None
) -> Any:
    """A `MaSSL` with the weights and memory that `write_training` wrote; see `MaSSL.from_pretrained`."""

    needed = [("model.safetensors",), *((f"{FOLDER}/{name}",) for name in FILES)]
    folder = find_folder(model, lambda config: needed, **hub)
    state = folder / FOLDER
    if missing := [name for name in FILES if not (state / name).is_file()]:
        raise FileNotFoundError(
            f"{state}: no {', '.join(missing)}; the model has no training state. Start one from its encoder: "
            "MaSSL(from_pretrained(model), …)"
        )
    try:
        student, head, memory = (load_file(state / name) for name in FILES[1:])
    except SafetensorError as error:
        raise ValueError(f"{state}: a file is damaged ({error})") from None
    config = json.loads((state / "config.json").read_text(encoding="utf-8"))
    teacher, encoder = (_at(read_encoder(folder), image_size) for _ in range(2))
    massl = cls(encoder, **(config | settings))
    if "backbone.pos_embed" in student:
        student["backbone.pos_embed"] = resize(student["backbone.pos_embed"], _side(encoder))
    load_state(branch_names(massl.student), student, source=str(state / FILES[1]))
    load_state(
        branch_names(massl.teacher),
        head | {f"backbone.{name}": array for name, array in to_state(names_of(teacher)).items()},
        source=str(state / FILES[2]),
    )
    if (
        memory.keys() != {"vectors", "pointer", "written"}
        or memory["vectors"].shape != massl.memory.vectors.shape
    ):
        raise ValueError(
            f"{state / FILES[3]}: expected vectors {tuple(massl.memory.vectors.shape)}, pointer and written"
        )
    massl.memory.vectors.assign(memory["vectors"])
    for name in ("pointer", "written"):
        getattr(massl.memory, name).assign(int(memory[name][0]))
    return massl


def _at(encoder, image_size):
    return encoder if image_size is None else at_image_size(encoder, image_size)


def _side(encoder):
    """Patches along a side of the pictures that a ViT's folder has positions for."""
    return native_size(encoder, encoder.preprocess) // encoder.patch_size
