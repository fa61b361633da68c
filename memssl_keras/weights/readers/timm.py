"""timm's ViTs, and bare state dicts, which share their names: DINO's backbones, and what tools of others write.

Registers are `reg_token`; with `no_embed_class` positions are those of patches alone. Classifiers are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.preprocessor import of_timm
from memssl_keras.weights.readers.family import HEADS, Converted, arrays, renamed, without

# Arguments of timm's VisionTransformer that change what it computes, and what this package can run of them.
_PLAIN = {
    "pre_norm": (False, None),
    "final_norm": (True, None),
    "qk_norm": (False, None),
    "class_token": (True, None),
    "pos_embed": ("learn", "learned", None),
    "act_layer": ("gelu", None),
    "global_pool": ("token", "", None),
}


def read(checkpoint: Any, network: str = "teacher", config: dict | None = None) -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint.

    Args:
        checkpoint: A state dict, bare or under `state_dict` or `model`.
        network: Of no use here: there is one model.
        config: The `config.json` of a timm repository, if any.
    """
    state = arrays(checkpoint.get("state_dict", checkpoint.get("model", checkpoint)))
    state = renamed(state, (r"^module\.", ""), (r"\.gamma_([12])$", r".ls\1.gamma"))
    if "patch_embed.proj.weight" not in state:
        return None
    state = without(state, "head.", "pre_logits.")
    if "cls_token" in state and "pos_embed" in state:
        state = _with_class_position(state)
    if not config:
        return Converted("ViT checkpoint", state)
    name = str(config.get("architecture"))
    family = f"timm's {name}"
    if not name.startswith(("vit_", "deit_")) or "quickgelu" in name:
        raise CheckpointError(
            f"{family}: expected one of timm's plain ViTs, vit_* or deit_*, with exact GELU"
        )
    arguments = {"global_pool": config.get("global_pool")} | (config.get("model_args") or {})
    for key, accepted in _PLAIN.items():
        if arguments.get(key) not in accepted:
            raise CheckpointError(f"{family}: {key}={arguments[key]!r}; expected {accepted[0]!r}")
    width = state["patch_embed.proj.weight"].shape[0]
    heads = arguments.get("num_heads") or HEADS.get(width)
    preprocessing = timm_preprocessing(config, family)
    square = _is_square(state, arguments, preprocessing)
    return Converted(family, state, num_heads=heads, preprocessing=preprocessing, square=square)


def _with_class_position(state):
    """`register_tokens`, and a `pos_embed` of CLS and patches, whichever tokens had positions of their own."""
    registers, positions = state.pop("reg_token", None), state["pos_embed"]
    count, extra = 0 if registers is None else registers.shape[1], positions.shape[1]

    def square(number):
        return number >= 0 and int(number**0.5 + 0.5) ** 2 == number

    if square(extra) and (registers is not None or not square(extra - 1)):
        positions = np.concatenate([np.zeros_like(positions[:, :1]), positions], 1)
    elif registers is not None and square(extra - 1 - count):
        registers = registers + positions[:, 1 : 1 + count]
        positions = np.concatenate([positions[:, :1], positions[:, 1 + count :]], 1)
    state["pos_embed"] = positions
    if registers is not None:
        state["register_tokens"] = registers
    return state


def _is_square(state, arguments, preprocessing):
    """Whether a repository's configuration tells that the positions are those of square images.

    `input_size` is what the model was published with: one that was made with another `img_size` has it still.
    """
    size = arguments.get("img_size") or preprocessing.image_size
    if isinstance(size, (list, tuple)):
        if len(set(size)) > 1:
            raise CheckpointError(f"config.json: img_size={size!r}; expected square images")
        size = size[0]
    patches = (size // state["patch_embed.proj.weight"].shape[-1]) ** 2
    return "pos_embed" in state and state["pos_embed"].shape[1] == 1 + patches


def timm_preprocessing(config: dict, family: str) -> Preprocessing:
    """The `Preprocessing` that the `config.json` of a timm repository says.

    Raises:
        CheckpointError: for what this package does not have.
    """
    try:
        return of_timm(config.get("pretrained_cfg") or config)
    except ValueError as error:
        raise CheckpointError(f"{family}: {error}") from None
