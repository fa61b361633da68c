"""Checkpoints of DINO and iBOT, as their training writes them.

Beside the backbone there are a head with prototypes, and in iBOT a masked token; neither is part of the encoder.
iBOT calls layer scale `gamma_1` and `gamma_2`. Files of one network stand under `state_dict` or bare; bare ones
without head have timm's names and are read by `memssl_keras.weights.readers.timm`.

References:
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294).
    Zhou et al., iBOT: Image BERT Pre-Training with Online Tokenizer, ICLR 2022 (arXiv 2111.07832).
"""

from __future__ import annotations

from typing import Any

from memssl_keras.weights.readers.family import Converted, arrays, pick, renamed, under, without

_HEADS = ("head.", "head2.", "masked_embed")
_MARKS = ("head.mlp.", "head2.", "masked_embed")
_NAMES = ((r"^module\.", ""), (r"\.gamma_([12])$", r".ls\1.gamma"))


def read(checkpoint: Any, network: str = "teacher") -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint."""
    both = any(isinstance(checkpoint.get(name), dict) for name in ("teacher", "student"))
    if both:
        state = arrays(pick(checkpoint, network))
    else:
        state = arrays(checkpoint.get("state_dict", checkpoint))
        marks = ("backbone.", "module.backbone.", "head.mlp.", "masked_embed")
        if not any(name.startswith(marks) for name in state):
            return None
    # A head is a mark of their own training, which takes square images alone.
    square = both or any(name.removeprefix("module.").startswith(_MARKS) for name in state)
    state = without(renamed(state, *_NAMES), *_HEADS)
    if any(name.startswith(("dino_head.", "ibot_head.")) for name in state) or "backbone.mask_token" in state:
        return None  # DINOv2
    inside = under(state, "backbone.")
    state = without(state, "backbone.") | without(inside, *_HEADS)
    return Converted("DINO or iBOT checkpoint", state, one_model=not both, square=square)
