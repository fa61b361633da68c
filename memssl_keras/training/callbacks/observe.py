"""Callbacks that show whether a run learns: online k-NN, the memory's health, and a warning before it collapses."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import torch

from memssl_keras.data.columns import labelled
from memssl_keras.evaluate.protocols.features import extract
from memssl_keras.evaluate.protocols.knn import knn_accuracy
from memssl_keras.training import distributed

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder


def _with_labels(name, images, labels):
    if labels is None and hasattr(images, "cast_column"):
        return labelled(images)
    if images is None or labels is None or len(images) != len(labels):
        counts = [None if part is None else len(part) for part in (images, labels)]
        raise ValueError(
            f"{name}: got {counts[0]} images and {counts[1]} labels; expected as many of each, or a "
            "datasets.Dataset with both"
        )
    return images, labels


class OnlineKNN(keras.callbacks.Callback):
    """k-NN accuracy of the teacher's encoder on labelled images, as `knn` among the epoch's metrics.

    Several processes share the work of embedding them.

    Args:
        train: Images that may vote, as `read_image` takes them; or a `datasets.Dataset` with an image and a
            ClassLabel column.
        train_labels: Their integer labels; not with a `datasets.Dataset`, which brings its own.
        test: Images to classify, in either form.
        test_labels: Their integer labels.
        every: Epochs between two measurements; the last epoch is always measured, others report NaN.
        k: Neighbours that vote.
        temperature: Temperature of the vote.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.training.callbacks.observe import OnlineKNN
        >>> images, labels = np.zeros((8, 32, 32, 3), "uint8"), np.arange(8) % 2
        >>> online = OnlineKNN(images, labels, images, labels, k=2)  # model.fit(…, callbacks=[online])
        >>> # OnlineKNN(load_dataset("cifar10", split="train"), test=load_dataset("cifar10", split="test"))
    """

    def __init__(
        self,
        train: Any,
        train_labels: Any = None,
        test: Any = None,
        test_labels: Any = None,
        every: int = 1,
        k: int = 20,
        temperature: float = 0.07,
    ):
        super().__init__()
        train, train_labels = _with_labels("train", train, train_labels)
        test, test_labels = _with_labels("test", test, test_labels)
        if every < 1:
            raise ValueError(f"every={every}: expected 1 epoch or more")
        if not 1 <= k <= len(train):
            raise ValueError(f"k={k}: expected 1 … {len(train)}, the number of images that may vote")
        self.train, self.train_labels = train, train_labels
        self.test, self.test_labels = test, test_labels
        self.every, self.k, self.temperature = every, k, temperature

    def measure(self, encoder: Encoder) -> float:
        """Accuracy of an encoder, 0 … 1."""

        def features(images):
            return extract(encoder.embed, images)

        train, test = (distributed.interleaved(features, images) for images in (self.train, self.test))
        return knn_accuracy(train, self.train_labels, test, self.test_labels, self.k, self.temperature)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        due = (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]
        logs["knn"] = self.measure(self.model.encoder) if due else math.nan


class MemoryHealth(keras.callbacks.Callback):
    """State of the memory after each epoch, among the epoch's metrics; warns when a run slides into collapse.

    `memory_age` is the mean number of steps since the vectors in memory were written, `block_entropy` the
    teacher's entropy as a share of the largest possible one, log P, and `memory_nearest` the mean cosine
    similarity of a vector in memory to its nearest neighbour there: near 1, the memory holds one concept only.

    Args:
        sample: Vectors whose neighbours are looked for.
        uniform: Share of the largest entropy above which similarities count as uniform.
        narrow: Spread below which embeddings count as alike.
    """

    ADVICE = (
        "the teacher compares every image alike with everything in memory. What usually helps, in this order: a lower "
        "teacher temperature, batch norm in the head, a lower learning rate at the start, fewer slots per block"
    )

    def __init__(self, sample: int = 512, uniform: float = 0.97, narrow: float = 0.2):
        super().__init__()
        self.sample, self.uniform, self.narrow = sample, uniform, narrow

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        memory, steps = self.model.memory, max(self.model.step, 1)
        written = int(memory.written.value)
        held = min(written, memory.size)
        # Slots are overwritten in turn: ages are spread evenly from 0 to the time of one round.
        logs["memory_age"] = held / 2 / max(written / steps, 1e-12)
        logs["block_entropy"] = float(logs["teacher_entropy"]) / max(math.log(memory.block_size), 1e-12)
        logs["memory_nearest"] = self._nearest(memory.vectors.value[:held])
        if logs["block_entropy"] > self.uniform and logs["spread"] < self.narrow:
            warnings.warn(
                f"after epoch {epoch + 1} the teacher's entropy is {logs['block_entropy']:.0%} of the largest possible "
                f"and the spread of its embeddings {float(logs['spread']):.2f}: {self.ADVICE}",
                stacklevel=2,
            )

    @torch.no_grad()
    def _nearest(self, vectors):
        if len(vectors) < 2:
            return math.nan
        rows = torch.from_numpy(np.random.default_rng(0).permutation(len(vectors))[: self.sample])
        rows = rows.to(vectors.device)
        similarities = vectors[rows].float() @ vectors.float().T
        similarities[torch.arange(len(rows), device=rows.device), rows] = -1
        return float(similarities.amax(1).mean())
