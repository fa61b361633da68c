"""Which images the memory of a run holds: the order of its training, replayed."""

from __future__ import annotations

import numpy as np

from memssl_keras.data.order import epoch_order


def images_in_memory(
    length: int, *, batch_size: int, seed: int, memory_size: int, written: int
) -> np.ndarray:
    """The image that each slot of a memory holds, from the order in which `view_loader` shows them.

    That order follows from the seed and the epoch alone. Number of processes, workers and parts of a step make no
    difference: the memory is fed with a step's images in the order of the batch.

    Args:
        length: Images of the data set, N.
        batch_size: Images of a step, of all processes together.
        seed: Seed of the order: that of the run, or of `MaSSL.fit`.
        memory_size: Slots K.
        written: Embeddings written so far: steps × batch size, what `Memory.written` counts.

    Returns:
        int64 `(K,)`: index of each slot's image, 0 … N - 1; -1 where the slot has its random start.

    Raises:
        ValueError: where a size is below 1, a batch holds more images than there are, or `written` is no multiple
            of it.

    Example:
        >>> from memssl_keras.training.replay import images_in_memory
        >>> slots = images_in_memory(5, batch_size=2, seed=0, memory_size=6, written=4)
        >>> sorted(slots[:4].tolist()) == sorted(set(slots[:4].tolist())), slots[4:].tolist()
        (True, [-1, -1])
    """
    for name, value in {"length": length, "batch_size": batch_size, "memory_size": memory_size}.items():
        if value < 1:
            raise ValueError(f"{name}={value}: expected at least 1")
    if batch_size > length:
        raise ValueError(f"batch_size={batch_size}: expected at most the {length} images")
    if written < 0 or written % batch_size:
        raise ValueError(f"written={written}: expected a multiple of batch_size={batch_size}")
    slots = np.full(memory_size, -1, np.int64)
    whole = length // batch_size * batch_size  # of an epoch; the remainder is dropped
    place = max(0, written - memory_size)
    while place < written:
        epoch, start = divmod(place, whole)
        stop = min(whole, start + written - place)
        places = np.arange(place, place + stop - start) % memory_size
        slots[places] = epoch_order(length, seed, epoch)[start:stop]
        place += stop - start
    return slots
