"""What the families have in common: names under a prefix, and the architecture that shapes tell."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np

from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.readers.grid import grid_side

# Heads of the published widths of ViTs; shapes do not tell their number.
HEADS = {192: 3, 384: 6, 768: 12, 1024: 16}
_BLOCK = re.compile(r"blocks\.(\d+)\.")


@dataclasses.dataclass
class Converted:
    """A checkpoint of any family, in this package's terms.

    Attributes:
        family: Name for messages.
        state: Weights of the backbone under the names of `torch_names.encoder_names`, float32 arrays.
        num_heads: Attention heads, where the family or its configuration says so.
        norm_epsilon: Of layer norm.
        preprocessing: Its authors' `Preprocessing`; None stands for that of `preprocessing_of`.
        positions: How the family resizes positions, "dino", "torch" or "antialias"; see `positions.resize`.
        one_model: Whether there is no student beside a teacher to choose from.
        square: Whether its images are known to be square, see `grid`.
        training: What continued pretraining needs: `student`, `teacher` and `memory`, see the reader of MaSSL.
    """

    family: str
    state: dict
    num_heads: int | None = None
    norm_epsilon: float = 1e-6
    preprocessing: Any = None
    positions: str = "dino"
    one_model: bool = True
    square: bool = False
    training: dict | None = None


def arrays(state: Any) -> dict[str, np.ndarray]:
    """Torch tensors of any float type as float32 arrays; what is no tensor is left out."""
    return {
        name: tensor.detach().float().numpy() for name, tensor in state.items() if hasattr(tensor, "detach")
    }


def under(state: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Entries whose name starts with `prefix`, without it."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def without(state: dict[str, np.ndarray], *prefixes: str) -> dict[str, np.ndarray]:
    """Entries whose name starts with none of the prefixes: heads, and what only pretraining uses."""
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}


def renamed(state: dict[str, np.ndarray], *rules: tuple[str, str]) -> dict[str, np.ndarray]:
    """Entries under new names: each rule is a pattern and a replacement as `re.sub` takes them."""
    for pattern, replacement in rules:
        compiled = re.compile(pattern)
        state = {compiled.sub(replacement, name): value for name, value in state.items()}
    return state


def pick(checkpoint: dict[str, Any], network: str) -> Any:
    """`checkpoint[network]` of a training checkpoint with a student and a teacher."""
    if network not in ("teacher", "student"):
        raise CheckpointError(f"network={network!r}: expected 'teacher' or 'student'")
    if network not in checkpoint:
        held = [name for name in ("teacher", "student") if name in checkpoint]
        raise CheckpointError(
            f"network={network!r}: the checkpoint holds only {', '.join(held) or 'one model'}"
        )
    return checkpoint[network]


def bilinear_at_224(state: dict[str, np.ndarray]) -> Preprocessing | None:
    """The `Preprocessing` of those who resize with torchvision's default; None for models of another size."""
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3:
        return None
    side = math.isqrt(max(positions.shape[1] - 1, 0)) * patches.shape[-1]
    return Preprocessing(224, 256, "bilinear") if side == 224 else None


def architecture(
    converted: Converted, num_heads: int | None = None, trained_size: int | None = None
) -> dict[str, Any]:
    """`ViT`'s arguments, from the shapes of a backbone's weights.

    Raises:
        CheckpointError: where a weight that tells a size is missing, or the number of heads or the shape of the grid is
            not known.
    """
    state = converted.state
    telling = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
    missing = [name for name in telling if name not in state]
    if missing:
        raise CheckpointError(
            f"{converted.family}: missing {', '.join(missing)}; expected a ViT with a CLS token, learned positions "
            f"and a plain MLP; the checkpoint has {_some(state)}"
        )
    for name, rank in (("pos_embed", 3), ("patch_embed.proj.weight", 4)):
        if state[name].ndim != rank:
            raise CheckpointError(
                f"{converted.family}: {name} has shape {state[name].shape}, expected {rank} axes"
            )
    width, patch = state["patch_embed.proj.weight"].shape[0], state["patch_embed.proj.weight"].shape[-1]
    side = grid_side(state["pos_embed"], patch, converted.square, trained_size)
    blocks = [int(found[1]) for name in state if (found := _BLOCK.match(name))]
    heads = num_heads or converted.num_heads or HEADS.get(width)
    if not heads:
        raise CheckpointError(
            f"num_heads: a checkpoint does not tell its attention heads, and width {width} is none of "
            f"{', '.join(map(str, HEADS))}; pass num_heads, on the command line --num-heads"
        )
    if width % heads:
        raise CheckpointError(f"num_heads={heads}: expected a divisor of the width, {width}")
    gamma = state.get("blocks.0.ls1.gamma")
    registers = state.get("register_tokens")
    ratio = state["blocks.0.mlp.fc1.weight"].shape[0] / width
    return {
        "embed_dim": width,
        "depth": max(blocks) + 1,
        "num_heads": heads,
        "patch_size": patch,
        "image_size": side * patch,
        "mlp_ratio": int(ratio) if ratio.is_integer() else ratio,
        "layer_scale": None if gamma is None else float(np.abs(gamma).mean()),
        "register_tokens": 0 if registers is None else registers.shape[1],
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "norm_epsilon": converted.norm_epsilon,
    }


def _some(state):
    names = sorted(state)
    return (
        ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        if names
        else "nothing"
    )
