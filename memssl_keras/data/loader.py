"""Images of any kind to batches of views; a seed reproduces them, whatever the number of workers."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
import time
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from memssl_keras.annotations import PathLike
from memssl_keras.data.batches import Batches, to_uint8, yields_batches
from memssl_keras.data.columns import Column
from memssl_keras.data.held_out import Rows
from memssl_keras.data.huggingface import Stream, is_stream, open_data
from memssl_keras.data.order import Order, StreamOrder
from memssl_keras.data.pairs import Paired
from memssl_keras.data.sources import ImageSource
from memssl_keras.data.targets import WithTargets
from memssl_keras.data.unreadable import Unreadable
from memssl_keras.data.view_sets import (
    LoaderViews,
    ReadyViews,
    SizedLoaderViews,
    ViewsOfImages,
    ViewsOfPairs,
    ViewsOfStream,
    ViewsWithTargets,
    stack_views,
)
from memssl_keras.data.views import MultiCrop


def _collate(samples):
    """Pairs of views and reasons of B images → (V tensors `(B, h, w, 3)`,), and all reasons where there are any."""
    reasons = {}
    for _, more in samples:
        reasons |= more
    whole = all(views is not None for views, _ in samples)
    views = stack_views(views for views, _ in samples) if whole else None
    return (views, reasons) if reasons else (views,)


class ViewLoader(DataLoader):
    """A `DataLoader` that starts when its first batch is asked for, and records images its workers could not read.

    Keras asks for the iterator of an epoch at the end of the one before, which is too early to know its order.
    Batches are as `MaSSL.train_step` takes them: a tuple that holds the list of V tensors `(B, h, w, 3)`.
    """

    waited = 0.0  # seconds, over all loaders of the process
    unreadable: Unreadable | None = None
    ended: Any = None  # an event of `multiprocessing`: that training has ended
    order: Order | LoaderViews  # where epoch and start are kept

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Say which epoch is iterated over next: order and views follow from it and the seed, not from the run.

        Args:
            epoch: Its number, from 0 on.
            start: Batches at its beginning to skip.
        """
        self.order.epoch, self.order.start = epoch, start
        # The epochs of a stream need not show the same images: what is seen counts.
        if isinstance(self.order, StreamOrder) and self.unreadable is not None:
            self.unreadable.images = (epoch + 1) * len(self.order.stream)

    def news(self) -> str:
        """What has become unreadable since the last call, in words; empty where nothing has."""
        return "" if self.unreadable is None else self.unreadable.news()

    def end(self) -> None:
        """Let the workers go when they are asked to."""
        if self.ended:
            self.ended.set()

    def __iter__(self):
        start = time.perf_counter()
        for views, *reasons in super().__iter__():
            ViewLoader.waited += time.perf_counter() - start
            if reasons:
                self.unreadable.note(*reasons, complete=views is not None)
            yield (views,)
            start = time.perf_counter()


def seconds_waited() -> float:
    """Seconds that this process has waited for batches of `view_loader` so far; the difference of two calls counts."""
    return ViewLoader.waited


def _start_worker(ended, _):
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)

    def end(number, frame):
        if ended.is_set():
            os._exit(0)

    # What asks a whole group of processes to end asks the workers too: they stay for the step that is saved, however
    # long it takes, until the training has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def view_loader(
    x: Any,
    *,
    views: MultiCrop | None = None,
    batch_size: int = 64,
    workers: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    max_unreadable: float = 0.001,
    unreadable_csv: PathLike | None = None,
) -> ViewLoader:
    """A torch `DataLoader` whose batches are views; see `MaSSL.fit` for what `x` may be.

    Order and views of an image follow from `seed`, the epoch and the image's place alone.

    Args:
        x: Images or ready views.
        views: A `MultiCrop`.
        batch_size: Images per step, of all processes together.
        workers: Processes that make views; 0 makes them in this one.
        seed: Seed of order and views.
        rank: Which of `world_size` processes this is. It gets its part of each batch: the parts of all ranks, one
            after the other, are the batch that a single process would have had. Of a `Stream`, it gets a part of the
            images instead; a `DataLoader` is taken to yield this rank's part already.
        world_size: Number of processes.
        max_unreadable: Share of the images that may be unreadable; see `Unreadable`.
        unreadable_csv: File that lists them; with rank 1, `unreadable.csv` becomes `unreadable-1.csv`.

    Raises:
        ValueError: for data of another form, fewer images than `batch_size`, or a `batch_size` that `world_size`
            does not divide.
    """
    views = views or MultiCrop()
    if yields_batches(x):
        x = Batches(x)
    if isinstance(x, DataLoader | Batches):
        of_loader = SizedLoaderViews if hasattr(x.dataset, "__len__") else LoaderViews
        made = of_loader(x, views, seed)
        loader = ViewLoader(made, batch_size=None)
        loader.order = made
        return loader
    images = image_sequence(x)
    if len(images) == 0:
        raise ValueError("x holds 0 images: expected as many as batch_size, or more")
    length = len(images[0]) if (ready := _are_views(images)) else len(images)
    if length < batch_size:
        raise ValueError(f"x holds {length} images, fewer than batch_size={batch_size}")
    if batch_size % world_size:
        raise ValueError(
            f"batch_size={batch_size} is not a multiple of world_size={world_size}: expected the images of all "
            "processes together, as many for each"
        )
    if unreadable_csv and rank:
        unreadable_csv = pathlib.Path(unreadable_csv)
        unreadable_csv = unreadable_csv.with_stem(f"{unreadable_csv.stem}-{rank}")
    unreadable = Unreadable(max_unreadable, length, unreadable_csv)
    place = (batch_size, seed, rank, world_size)
    data: Any
    order: Order
    if isinstance(images, Stream):
        data, order = ViewsOfStream(length, views, seed), StreamOrder(images, *place)
    else:
        of_images = {Paired: ViewsOfPairs, WithTargets: ViewsWithTargets}.get(type(images), ViewsOfImages)
        data = ReadyViews(images) if ready else of_images(images, views, seed, unreadable.limit)
        order = Order(length, *place)
    ended = torch.multiprocessing.Event()
    loader = ViewLoader(
        data,
        batch_sampler=order,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=functools.partial(_start_worker, ended),
        pin_memory=torch.cuda.is_available(),
    )
    loader.order, loader.unreadable, loader.ended = order, unreadable, ended
    return loader


def _are_views(x):
    if not isinstance(x, list):
        return False
    shapes = [getattr(view, "shape", ()) for view in x]
    return len(x) > 1 and all(len(s) == 4 and s[0] == shapes[0][0] and s[-1] == 3 for s in shapes)


def image_sequence(x: Any) -> Any:
    """What `MaSSL.fit` takes as images, as a sequence or `Stream`: a folder is opened, and arrays are uint8 then.

    Raises:
        ValueError: for anything else, or as `open_data` and `to_uint8` do.
    """
    if isinstance(x, (np.ndarray, torch.Tensor)):
        return to_uint8(x.numpy() if isinstance(x, torch.Tensor) else x)
    if isinstance(x, (str, os.PathLike)):
        return open_data(x)
    if isinstance(x, (list, tuple)):
        return list(x)
    if isinstance(x, (ImageSource, Column, Stream, Paired, Rows, WithTargets)):
        return x
    if is_stream(x):
        raise ValueError(
            "x is a datasets.IterableDataset, which does not tell how many images it holds: "
            "expected Stream(x, images_per_epoch=…) from memssl_keras"
        )
    if hasattr(x, "features") and hasattr(x, "cast_column") and hasattr(x, "__len__"):
        return Column(x)
    raise ValueError(
        f"x is a {type(x).__name__}: expected an array (N, H, W, 3) uint8, a list of paths, images or views, "
        f"a datasets.Dataset, a Stream, an ImageSource or a torch DataLoader"
    )
