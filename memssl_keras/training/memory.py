"""The memory: a FIFO queue of past embeddings, which views are compared with in random blocks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
from keras import layers


@keras.saving.register_keras_serializable("memssl_keras")
class Memory(layers.Layer):
    """FIFO memory of `size` unit vectors of width `dim`, cut at random into blocks of `block_size`.

    It starts as random unit vectors. Its three variables (the vectors, the pointer to the oldest one and the
    number of embeddings written so far) are saved with the model that owns it.

    Args:
        size: Number of slots K.
        dim: Width D of the embeddings.
        block_size: Slots per block P; it divides `size`.
        seed: Seed of the initial vectors and of every permutation.
        storage: "float32", or "float16" for half the bytes; similarities are float32 all the same.

    Raises:
        ValueError: where `block_size` does not divide `size`, a size is below 1, or there is no such storage.

    Example:
        >>> import torch
        >>> from memssl_keras import Memory
        >>> memory = Memory(size=8, dim=4, block_size=2)
        >>> memory.update(torch.eye(4)[:3])
        >>> memory.filled
        0.375
        >>> memory.permutation(step=0).shape  # four blocks of two slots, one after the other
        torch.Size([8])

    References:
        Silva et al., Learning from Memory, ICML 2024 (arXiv 2407.17486).
    """

    def __init__(
        self,
        size: int = 131072,
        dim: int = 256,
        block_size: int = 16384,
        seed: int = 0,
        storage: str = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", trainable=False, **kwargs)
        if storage not in ("float32", "float16"):
            raise ValueError(f"memory storage={storage!r}: expected 'float32' or 'float16'")
        for name, value in {"size": size, "dim": dim, "block_size": block_size}.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"memory {name}={value!r}: expected an integer of at least 1")
        if size % block_size:
            divisors = [b for b in range(1, size + 1) if size % b == 0]
            near = sorted(sorted(divisors, key=lambda b: abs(b - block_size))[:4])
            raise ValueError(
                f"block_size={block_size} does not divide memory size={size}; "
                f"the nearest that do are {', '.join(map(str, near))}"
            )
        self.size, self.dim, self.block_size, self.seed, self.storage = size, dim, block_size, seed, storage
        vectors = np.random.default_rng(seed).standard_normal((size, dim), dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = self.add_weight(
            shape=(size, dim),
            initializer=lambda *_, **__: vectors,
            dtype=storage,
            trainable=False,
            name="vectors",
        )
        self.pointer = self._counter("pointer")
        self.written = self._counter("written")
        self.build((size, dim))

    def build(self, input_shape: Any) -> None:
        self.built = True

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """Of the vectors, for `summary`."""
        return (self.size, self.dim)

    def _counter(self, name):
        return self.add_weight(shape=(), initializer="zeros", dtype="int64", trainable=False, name=name)

    @property
    def filled(self) -> Any:
        """Share of slots that hold real embeddings, 0 … 1."""
        return min(int(self.written.value) / self.size, 1.0)

    def permutation(self, step: int) -> torch.Tensor:
        """Random order of the slots `(K,)`, int64, whose consecutive runs of P are the blocks of this step.

        It depends on the seed and the step alone, so that all processes of a run, and a run that was resumed,
        draw the same blocks.
        """
        generator = np.random.Generator(np.random.Philox(key=[self.seed, int(step)]))
        return torch.from_numpy(generator.permutation(self.size)).to(self.vectors.value.device)

    @torch.no_grad()
    def update(self, embeddings: torch.Tensor) -> None:
        """Overwrite the oldest slots with `embeddings` `(N, D)`; N may be any number, the pointer wraps."""
        vectors, count = self.vectors.value, len(embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dim:
            raise ValueError(f"embeddings have shape {tuple(embeddings.shape)}: expected (N, {self.dim})")
        start = int(self.pointer.value)
        # Of more embeddings than slots, the last ones survive.
        kept = embeddings[-self.size :].to(vectors.dtype)
        first = start + count - len(kept)
        slots = torch.arange(first, first + len(kept), device=vectors.device) % self.size
        # In place: Keras's own slice update copies the whole memory.
        vectors.data.index_copy_(0, slots, kept)
        self.pointer.assign((start + count) % self.size)
        self.written.assign(int(self.written.value) + count)

    def get_config(self) -> dict[str, Any]:
        names = ("name", "size", "dim", "block_size", "seed", "storage")
        return {name: getattr(self, name) for name in names}
