"""Which image comes when: orders that seed and epoch alone decide, whatever the number of workers and processes."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch.utils.data import Sampler


def image_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of one image in one epoch: counter-based, so that it needs no history."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 40) + index]))


def epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """The order `(length,)` in which an epoch shows the images of a data set; its remainder of a batch is left out."""
    return image_generator(seed, epoch, (1 << 40) - 1).permutation(length)


class Order(Sampler):
    """One process's part of batches of (epoch, index), in an order that the seed and the epoch alone decide.

    The parts of all processes, one after the other, are the batch of a single process.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = self.start = 0

    def __len__(self):
        return self.length // self.batch_size

    def __iter__(self):
        order = epoch_order(self.length, self.seed, self.epoch)
        part = self.batch_size // self.world_size
        for i in range(self.start, len(self)):
            first = i * self.batch_size + self.rank * part
            yield [(self.epoch, int(j)) for j in order[first : first + part]]


class StreamOrder(Order):
    """Batches of (epoch, index, name, encoded image), which are read here, once, and decoded by the workers.

    So neither order nor views depend on the number of workers, nor on how the data is cut into files.
    """

    def __init__(self, stream: Any, *place: int):
        super().__init__(len(stream), *place)
        self.stream = stream

    def __iter__(self):
        images = self.stream.read(self.epoch, self.seed, self.rank, self.world_size)
        part = self.batch_size // self.world_size
        images = itertools.islice(images, self.start * part, None)
        with ThreadPoolExecutor(1) as reader:  # reads the next batch while the model trains
            batches = [reader.submit(lambda: list(itertools.islice(images, part)))]
            for i in range(self.start, len(self)):
                batch = batches.pop().result()
                if i + 1 < len(self):
                    batches.append(reader.submit(lambda: list(itertools.islice(images, part))))
                yield [(self.epoch, *image) for image in batch]
