"""Checkpoints of DINOv2, with and without registers.

Layer scale is `ls1.gamma` and `ls2.gamma`; `mask_token` is for pretraining alone; blocks may be in chunks,
`blocks.CHUNK.INDEX`. The giant's gated MLP (`mlp.w12`, `mlp.w3`) is not supported.

References:
    Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024 (arXiv 2304.07193).
    Darcet et al., Vision Transformers Need Registers, ICLR 2024 (arXiv 2309.16588).
"""

from __future__ import annotations

from typing import Any

from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.readers.family import Converted, arrays, pick, renamed, under, without


def read(checkpoint: Any, network: str = "teacher") -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint."""
    both = any(isinstance(checkpoint.get(name), dict) for name in ("teacher", "student"))
    if both:
        state = under(renamed(arrays(pick(checkpoint, network)), (r"^module\.", "")), "backbone.")
    else:
        state = arrays(checkpoint.get("state_dict", checkpoint.get("model", checkpoint)))
    if not {"mask_token", "register_tokens"} & state.keys() or "cls_token" not in state:
        return None
    square = both or "mask_token" in state  # its training takes no other images
    state = renamed(without(state, "mask_token"), (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."))
    registers = "register_tokens" in state
    preprocessing = Preprocessing(224, 256) if state["pos_embed"].shape[1] > 257 else None
    positions = "antialias" if registers else "dino"
    return Converted(
        "DINOv2 checkpoint",
        state,
        preprocessing=preprocessing,
        positions=positions,
        one_model=not both,
        square=square,
    )
