"""`fit` of a self-supervised model: images without labels, several processes, resuming within an epoch."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import torch

from memssl_keras.data.batches import yields_batches
from memssl_keras.data.loader import view_loader
from memssl_keras.data.views import MultiCrop
from memssl_keras.training import distributed
from memssl_keras.training.callbacks.epochs import EpochOrder
from memssl_keras.training.callbacks.observe import OnlineKNN
from memssl_keras.training.randomness import CountedDraws


class FitOnViews(keras.Model):
    """A Keras model that is trained on views of images; `train_step` is given lists of V tensors `(B, h, w, 3)`.

    Subclasses have a `seed`, and say what is set up for training in `_training`.
    """

    def fit(
        self,
        x: Any,
        y: Sequence | None = None,
        *,
        views: MultiCrop | None = None,
        batch_size: int = 64,
        epochs: int = 1,
        workers: int = 0,
        seed: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        initial_batch: int = 0,
        accumulate: int = 1,
        max_unreadable: float = 0.001,
        unreadable_csv: str | os.PathLike | None = None,
        validation_data: tuple | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train on images without labels, or on ready-made views.

        Args:
            x: Images: an array `(N, H, W, 3)`, uint8 or floats on the scale 0 … 255 or 0 … 1, a sequence of paths or
                PIL images, a `datasets.Dataset` with an image column, a `Stream` of what does not fit on the disk, the
                path of a folder of images, or a torch `DataLoader` that yields batches of uint8 images. Or batches of
                images from a `keras.utils.PyDataset`, another iterable of batches, or a generator with
                `steps_per_epoch`. Or ready views: a list of V arrays `(N, h, w, 3)`, or a `DataLoader` that yields
                lists of V tensors `(B, h, w, 3)`; uint8 is normalised as the encoder's preprocessing says, floats are
                taken as they are.
            y: Labels, which training ignores; with `validation_data` they vote in k-NN.
            views: A `MultiCrop`, by default the method's own for ImageNet; unused with ready views.
            batch_size: Images per step, of all processes together; the remainder of an epoch is dropped. A
                `DataLoader` brings its own, and in several processes each one's yields its own share of the step.
            epochs: Epoch to stop after.
            workers: Processes that make views; 0 makes them in this one.
            seed: Seed of order and views; the model's own by default.
            callbacks: Keras callbacks, `Schedules` among them.
            initial_batch: Number of batches of the first epoch that were trained on before an interruption; they are
                skipped, and the epoch's metrics continue from those that the model holds.
            accumulate: Number of parts in which a step's images pass through the encoder, one after the other, to save
                memory. Loss, gradient and memory update are those of the whole batch; batch norm and KoLeo see one
                part at a time.
            max_unreadable: Share of the images that may be unreadable, 0 … 1; other images replace them. Unless the
                share is 0, one unreadable image is always accepted.
            unreadable_csv: File to list the unreadable images in; an existing file is appended to.
            validation_data: A pair of images and labels. After every epoch their k-NN accuracy, with `x` and `y` as
                neighbours, is measured as `knn`.
            **kwargs: `verbose`, `initial_epoch` and `steps_per_epoch` as in Keras.

        Started by `torchrun`, the processes train one model together: each sees its share of every step's images,
        gradients are averaged, and the memory gets the embeddings of all processes in the order of their ranks. All
        start from the weights and memory of the main process.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: for data of another form, fewer images than `batch_size`, or a batch that cannot be divided
                among processes and parts, or is larger than the memory.
            TooManyUnreadable: where the share of unreadable images exceeds `max_unreadable`.
            NonFiniteLoss: where the loss is not finite; the model keeps its state before that step.
            ProcessLost: where another process of the run has died.
        """
        observers = self._check_fit(x, y, validation_data, kwargs)
        distributed.join()
        seed = self.seed if seed is None else seed
        rank, world_size = distributed.rank(), distributed.world_size()
        loader = view_loader(
            x,
            views=views,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_unreadable=max_unreadable,
            unreadable_csv=unreadable_csv,
        )
        brings_batches = isinstance(x, torch.utils.data.DataLoader) or yields_batches(x)
        own = getattr(x, "batch_size", None) if brings_batches else batch_size // world_size
        self._check_batch(own, accumulate)
        callbacks = [
            EpochOrder(loader, initial_batch),
            CountedDraws(seed, rank),
            *observers,
            *(callbacks or []),
        ]
        with warnings.catch_warnings(), distributed.noticing_loss(), self._training(seed, accumulate):
            if initial_batch:  # Keras misses the batches that are left out
                warnings.filterwarnings("ignore", message="Your input ran out of data")
            try:
                return super().fit(loader, epochs=epochs, shuffle=False, callbacks=callbacks, **kwargs)
            finally:
                loader.end()

    def _training(self, seed: int, accumulate: int) -> contextlib.AbstractContextManager:
        """What holds while the model is trained, in `accumulate` parts of a step."""
        raise NotImplementedError

    def _check_fit(self, x, y, validation_data, others):
        """Say in words what makes no sense here; returns the callbacks that labels ask for."""
        if not self.compiled:
            raise ValueError(
                "the model is not compiled: call model.compile(AdamW(5e-4, clipnorm=3.0)) before fit"
            )
        if others.pop("validation_split", 0):
            raise ValueError(
                "validation_split: expected 0; pass validation_data=(images, labels) and y for k-NN"
            )
        if not others.pop("shuffle", True):
            raise ValueError(
                "shuffle=False: expected True; every epoch draws its own order, seed=… repeats it"
            )
        for name in ("class_weight", "sample_weight"):
            if others.pop(name, None) is not None:
                raise ValueError(f"{name}: expected none; every image counts alike")
        if y is not None and validation_data is None:
            warnings.warn("y: labels are ignored, training is self-supervised", stacklevel=3)
        if validation_data is None:
            return []
        if y is None or len(validation_data) != 2:
            raise ValueError(
                "validation_data: expected a pair of images and labels, and the labels of x as y: fit(x, y, "
                "validation_data=(images, labels)) measures k-NN"
            )
        images, labels = validation_data
        return [OnlineKNN(x, np.asarray(y), images, np.asarray(labels), k=min(20, len(x)))]

    def _check_batch(self, own, accumulate):
        """Refuse what cannot be divided; `own` are the images of one process in a step, None where unknown."""
        if accumulate < 1 or (own or accumulate) % accumulate:
            images = f"of the {own} images that a process has in a step" if own else "of 1 or more"
            raise ValueError(f"accumulate={accumulate}: expected a divisor {images}")

    def evaluate(self, *arguments: Any, **options: Any) -> Any:
        """Refused: a self-supervised model has no accuracy of its own."""
        raise ValueError(
            f"{type(self).__name__}.evaluate: a self-supervised model has no labels to be right about; `memssl "
            "evaluate` scores its encoder by k-NN and probes, and fit(x, y, validation_data=…) measures k-NN while it "
            "trains"
        )
