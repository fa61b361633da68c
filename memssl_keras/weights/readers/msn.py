"""Checkpoints of MSN: `target_encoder` is the teacher, `encoder` the student; the head `fc` is left out.

References:
    Assran et al., Masked Siamese Networks for Label-Efficient Learning, ECCV 2022 (arXiv 2204.07141).
"""

from __future__ import annotations

from typing import Any

from memssl_keras.weights.readers.family import Converted, arrays, bilinear_at_224, pick, renamed, without


def read(checkpoint: Any, network: str = "teacher") -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint."""
    names = {"teacher": "target_encoder", "student": "encoder"}
    held = {kind: checkpoint[name] for kind, name in names.items() if isinstance(checkpoint.get(name), dict)}
    if "teacher" not in held:
        return None
    state = renamed(arrays(pick(held, network)), (r"^module\.", ""))
    state = without(state, "fc.", "pred.")
    return Converted(
        "MSN checkpoint", state, preprocessing=bilinear_at_224(state), one_model=False, square=True
    )
