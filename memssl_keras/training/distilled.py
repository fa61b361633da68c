"""Distillation into a small encoder: a student learns to match a frozen teacher's similarities to the memory.

References:
    Fang et al., SEED: Self-supervised Distillation for Visual Representation, ICLR 2021 (arXiv 2101.04731), for
    similarities to a queue of a frozen teacher's embeddings as what is distilled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import torch

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import data_key
from memssl_keras.data.huggingface import Stream
from memssl_keras.data.pairs import Paired
from memssl_keras.data.targets import WithTargets
from memssl_keras.evaluate.cache import FeatureCache
from memssl_keras.evaluate.embedders import Embedder
from memssl_keras.images import read_image
from memssl_keras.training.massl import MaSSL

TEACHER = "teacher"  # folder of a run in which the teacher's features are kept


@keras.saving.register_keras_serializable("memssl_keras")
class DistilledMaSSL(MaSSL):
    """MaSSL with a frozen encoder of any kind as teacher.

    The frozen teacher is not part of the model: `WithTargets` adds its embeddings of whole images to the batches. The
    memory is a FIFO queue of these embeddings. From each view, the student learns to match the similarities between
    the memory's random blocks and the teacher's embedding of the whole image, with the loss of `MaSSL`. The attribute
    `teacher` is the exponential moving average (EMA) of the student; its encoder is the one to keep.

    Args:
        encoder: The student's encoder. The other arguments are those of `MaSSL`; `output_dim` is the width of the
            frozen teacher's embeddings.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import AdamW, MultiCrop, ResNet
        >>> from memssl_keras.data.targets import WithTargets
        >>> from memssl_keras.training.distilled import DistilledMaSSL
        >>> student = ResNet((1,), 8, "half")
        >>> model = DistilledMaSSL(student, memory_size=32, block_size=16, hidden_dim=16, output_dim=6)
        >>> model.compile(AdamW(1e-3))
        >>> rng = np.random.default_rng(0)
        >>> images, targets = rng.integers(0, 256, (32, 16, 16, 3), "uint8"), rng.standard_normal((32, 6))
        >>> views = MultiCrop(16, 8, local_views=0)
        >>> history = model.fit(WithTargets(images, targets), views=views, batch_size=8, epochs=1, verbose=0)
    """

    def _views_and_targets(self, views):
        *views, targets = views
        if targets.ndim != 2 or targets.shape[1] != self.memory.dim:
            raise ValueError(
                f"x: its batches end with {tuple(targets.shape)}; expected targets (B, {self.memory.dim}), as "
                "WithTargets(images, targets) brings them"
            )
        # Two global views have one whole image: either is compared with what the teacher made of it.
        unit = torch.nn.functional.normalize(targets.float(), dim=1)
        return self.normalised(views), unit.repeat(2, 1)

    @torch.no_grad()
    def _update_teacher(self):
        super()._update_teacher()
        # It is shown nothing, so that its running means and variances follow the student's too.
        followers = {id(variable) for variable, _ in self._followed}
        for mean, one in zip(self.teacher.weights, self.student.weights, strict=True):
            if id(mean) not in followers:
                mean.value.lerp_(one.value, 1 - self.teacher_momentum)

    @torch.no_grad()
    def fill(self, targets: np.ndarray) -> None:
        """Fill the memory with the teacher's embeddings `(N, D)`, in a random order that the model's seed decides.

        If there are more embeddings than slots, some are not used; if fewer, some are used several times. Rows of NaN
        are skipped.
        """
        known = targets[np.isfinite(targets).all(axis=1)]
        drawn = np.random.default_rng(self.seed).permutation(len(known))
        drawn = np.resize(drawn, self.memory.size)
        unit = torch.nn.functional.normalize(torch.from_numpy(known[drawn]), dim=1)
        self.memory.update(unit.to(self._device))


def with_targets(
    teacher: Embedder,
    images: Any,
    folder: PathLike,
    track: Callable[[Iterable], Iterable] = iter,
) -> WithTargets:
    """Images together with a teacher's mean-centred embeddings of them.

    Args:
        teacher: An `Embedder`, such as `open_embedder` returns.
        images: A sequence of what `read_image` takes.
        folder: Folder where embeddings are cached, so that an interrupted run need not compute them again.
        track: Wraps the chunks of images, for a progress bar.

    Raises:
        ValueError: where none of the images can be read, the teacher does not return features, or the images are a
            `Stream` or `Paired`, whose elements cannot be embedded once each.
    """
    if isinstance(images, (Stream, Paired)):
        raise ValueError(
            f"images: got a {type(images).__name__}; expected a sequence of images, each of which is embedded once"
        )
    key = data_key(_identity(images[row]) for row in range(len(images)))
    features = FeatureCache(folder).features(teacher, images, key, track)
    return WithTargets(images, features - np.nanmean(features, axis=0))


def _identity(image):
    """Path or bytes, by which an image is known again."""
    return image if isinstance(image, (str, os.PathLike, bytes)) else read_image(image).tobytes()
