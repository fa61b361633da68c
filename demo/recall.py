"""What a step of training would compare a picture with: the memory in random blocks, and what is nearest in each."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime

from memssl_keras.demo.models import THREADS, Model, at_own_size
from memssl_keras.zoo.hub import find_folder
from memssl_keras.zoo.memory import PARTS, ShippedMemory, read_memory

NEAREST = 6  # pictures that are shown of a block
MOST_NEAREST = 100


class Block(NamedTuple):
    """A block of the memory, and the nearest in it, the most similar first."""

    slots: np.ndarray  # int64 (k,): slots of the memory
    similarities: np.ndarray  # float32 (k,): cosine to the query
    shares: np.ndarray  # float32 (k,): softmax over the whole block at the teacher's temperature


class Recall:
    """Looks a picture up in the memory that a model ships.

    Args:
        model: a `Model`; any variant of it will do.
        memory: its `ShippedMemory`.

    Raises:
        ValueError: the head is damaged, or fits neither the encoder nor the memory.
    """

    def __init__(self, model: Model, memory: ShippedMemory):
        self.memory, self._encoder = memory, model.encoder
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = THREADS
        try:
            self._head = onnxruntime.InferenceSession(
                str(memory.head), options, providers=["CPUExecutionProvider"]
            )
            ends = [*self._head.get_inputs(), *self._head.get_outputs()]
            found = [(end.name, end.shape[-1]) for end in ends]
        except Exception as error:  # ONNX Runtime's exception classes share no public base
            raise ValueError(f"{model.name}: its head is damaged ({error})") from None
        width, dim = model.encoder.embed_dim, memory.vectors.shape[1]
        if found != [("feature", width), ("embedding", dim)]:
            raise ValueError(
                f"{model.name}: its head maps {found}; expected feature {width}, embedding {dim}"
            )

    @property
    def blocks(self) -> int:
        """Blocks of the memory."""
        return len(self.memory) // self.memory.block_size

    def vector(self, pixels: np.ndarray) -> np.ndarray:
        """The unit vector `(D,)` of a picture, uint8 `(H, W, 3)`, that is compared with the memory."""
        return self._head.run(["embedding"], {"feature": self._encoder.features(pixels)})[0][0]

    def look_up(self, pixels: np.ndarray, draw: int = 0, k: int = NEAREST) -> list[Block]:
        """Cut the memory into its blocks, as a step of training does, and find what is nearest in each.

        Args:
            pixels: the picture, uint8 `(H, W, 3)`.
            draw: number of the permutation; the same number cuts the same blocks.
            k: nearest to give of each block, 1 to 100; fewer come back of smaller blocks.

        Raises:
            ValueError: `draw` or `k` is out of range.
        """
        if not 0 <= draw < 2**63:
            raise ValueError(f"draw: got {draw}; expected a number from 0 on")
        if not 1 <= k <= MOST_NEAREST:
            raise ValueError(f"k: got {k}; expected 1 to {MOST_NEAREST}")
        generator = np.random.Generator(np.random.Philox(key=[0, draw]))  # as `Memory.permutation` does
        cut = generator.permutation(len(self.memory)).reshape(-1, self.memory.block_size)
        similarities = self.memory.vectors @ self.vector(pixels)
        return [self._nearest(slots, similarities[slots], k) for slots in cut]

    def _nearest(self, slots, similarities, k):
        logits = similarities / self.memory.temperature
        weights = np.exp(logits - logits.max())
        best = np.argsort(-similarities, kind="stable")[:k]
        return Block(slots[best], similarities[best], (weights / weights.sum())[best])


def open_recall(model: Model) -> Recall | None:
    """The memory that a model ships, ready to look pictures up in; None where it ships none, or where the encoder sees
    pictures at another size than the memory's.

    Of a model on the Hub it is fetched now.

    Raises:
        ValueError, OSError: it is damaged, or cannot be fetched.
    """
    if not at_own_size(model.encoder) or Path(model.source).is_file():
        return None
    memory = read_memory(find_folder(model.source, lambda config: [(part, "") for part in PARTS]))
    return Recall(model, memory) if memory else None
