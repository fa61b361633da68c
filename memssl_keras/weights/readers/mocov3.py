"""Checkpoints of MoCo v3: the momentum encoder is the teacher, the base encoder the student.

Its small ViT has 12 heads, not 6. Projector (`head`) and predictor are left out.

References:
    Chen, Xie and He, An Empirical Study of Training Self-Supervised Vision Transformers, ICCV 2021
        (arXiv 2104.02057).
"""

from __future__ import annotations

from typing import Any

from memssl_keras.weights.readers.family import (
    Converted,
    arrays,
    bilinear_at_224,
    pick,
    renamed,
    under,
    without,
)

_BRANCHES = {"teacher": "momentum_encoder.", "student": "base_encoder."}


def read(checkpoint: Any, network: str = "teacher") -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint."""
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict):
        return None
    state = renamed(arrays(state), (r"^module\.", ""))
    held = {kind: found for kind, prefix in _BRANCHES.items() if (found := under(state, prefix))}
    if not held:
        return None
    state = without(pick(held, network), "head.")
    width = state["cls_token"].shape[-1] if "cls_token" in state else None
    heads = 12 if width in (384, 768) else None
    preprocessing = bilinear_at_224(state)
    return Converted(
        "MoCo v3 checkpoint",
        state,
        num_heads=heads,
        preprocessing=preprocessing,
        one_model=False,
        square=True,
    )
