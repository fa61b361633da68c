"""Training checkpoints of MaSSL's reference: student, teacher, head and memory.

`student` has every name under `module.`, `teacher` only where its head has batch norm. `memory_bank` holds `queue`
`(D, K)` and `queue_ptr`; `args.partition_size` is the size of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.readers.family import Converted, arrays, pick, renamed, under


def _branch(state):
    """Weights of a network under `backbone.` and `head.`, without torch's count of batches."""
    state = renamed(arrays(state), (r"^module\.", ""))
    return {name: array for name, array in state.items() if not name.endswith(".num_batches_tracked")}


def read(checkpoint: Any, network: str = "teacher") -> Converted | None:
    """A `Converted`, or None where this is no MaSSL checkpoint.

    Its `training` holds `student` and `teacher` (`backbone.*`, `head.*`) and `memory` (`vectors` `(K, D)`, `pointer`)
    with `block_size`, where the checkpoint says it.
    """
    if not isinstance(checkpoint.get("memory_bank"), dict):
        return None
    networks = {name: _branch(pick(checkpoint, name)) for name in ("student", "teacher")}
    others = {
        f"{kind}.{name}"
        for kind, state in networks.items()
        for name in state
        if not name.startswith(("backbone.", "head."))
    }
    if others:
        raise CheckpointError(f"MaSSL checkpoint: unexpected {', '.join(sorted(others))}")
    bank = arrays(checkpoint["memory_bank"])
    if missing := [name for name in ("queue", "queue_ptr") if name not in bank]:
        raise CheckpointError(f"MaSSL checkpoint: missing memory_bank.{', memory_bank.'.join(missing)}")
    memory = {
        "vectors": np.ascontiguousarray(bank["queue"].T),
        "pointer": int(bank["queue_ptr"].ravel()[0]),
        "block_size": getattr(checkpoint.get("args"), "partition_size", None),
    }
    return Converted(
        "MaSSL checkpoint",
        under(networks[pick({n: n for n in networks}, network)], "backbone."),
        one_model=False,
        square=True,
        training={**networks, "memory": memory},
    )
