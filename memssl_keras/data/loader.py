"""Anything that holds images → batches of views, reproducible from a seed whatever the number of workers."""

import functools
import itertools
import os
import pathlib
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from memssl_keras.data.batches import Batches, to_uint8, yields_batches
from memssl_keras.data.columns import Column
from memssl_keras.data.huggingface import Stream, is_stream, open_data
from memssl_keras.data.pairs import Paired
from memssl_keras.data.sources import ImageSource
from memssl_keras.data.unreadable import Unreadable
from memssl_keras.data.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop
from memssl_keras.images.jpeg import read_fast
from memssl_keras.images.read import ImageError


def normalise(view, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """uint8 tensor `(…, W, 3)` → float32 with a mean and standard deviation per channel; floats pass unchanged."""
    if view.dtype != torch.uint8:
        return view.float()
    # Whole rows of pixels as one dimension: broadcast over the 3 channels alone, this takes 15 times as long.
    mean, std = (torch.tensor(tuple(c), device=view.device).repeat(view.shape[-2]) for c in (mean, std))
    rows = view.float().flatten(-2)
    return torch.addcmul(-mean / std, rows, 1 / (255 * std), out=rows).view(view.shape)


def _generator(seed, epoch, index):
    """The generator of one image in one epoch: counter-based, so that it needs no history."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 40) + index]))


def epoch_order(length, seed, epoch):
    """The order `(length,)` in which an epoch shows the images of a data set; its remainder of a batch is left out."""
    return _generator(seed, epoch, (1 << 40) - 1).permutation(length)


class _Order(Sampler):
    """One process's part of batches of (epoch, index), in an order that the seed and the epoch alone decide.

    The parts of all processes, one after the other, are the batch of a single process.
    """

    def __init__(self, length, batch_size, seed, rank=0, world_size=1):
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


class _StreamOrder(_Order):
    """Batches of (epoch, index, name, encoded image), which are read here, once, and decoded by the workers.

    So neither order nor views depend on the number of workers, nor on how the data is cut into files.
    """

    def __init__(self, stream, *place):
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


def _first_readable(images, most, make):
    """`make` of the first image that can be read, and {name: reason} of those before it.

    Args:
        images: Pairs of an image and a function that names it.
        most: Unreadable images after which there is no point in going on.
        make: Called with the image, `(H, W, 3)` uint8.
    """
    reasons = {}
    for image, name in images:
        try:
            return make(read_fast(image)), reasons
        except ImageError as error:
            reasons[name()] = error.reason
        if len(reasons) > most:
            break
    return None, reasons


class _ViewsOfImages(Dataset):
    """(epoch, index) → the V views of one image, and {name: reason} of those that were unreadable.

    In the place of an unreadable image comes the next one that can be read, with the draws of that place: the same
    views whatever the number of workers and processes.
    """

    def __init__(self, images, views, seed, most):
        self.images, self.views, self.seed, self.most = images, views, seed, most

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, index = key
        places = (i % len(self) for i in range(index, index + len(self)))
        images = ((self.images[i], functools.partial(self.name, i)) for i in places)
        return _first_readable(
            images, self.most, lambda image: self.views(image, _generator(self.seed, epoch, index))
        )

    def name(self, index):
        """What an image is called in the list of unreadable ones."""
        if hasattr(self.images, "name"):
            return self.images.name(index)
        image = self.images[index]
        return str(image) if isinstance(image, (str, pathlib.Path)) else f"image {index}"


class _ViewsOfPairs(_ViewsOfImages):
    """The same where the views after global view 1 may be of another image of the group.

    An image that takes the place of an unreadable one has no partner; an unreadable partner has the image itself in
    its place.
    """

    def __getitem__(self, key):
        epoch, index = key
        rng = _generator(self.seed, epoch, index)
        picture, reasons = self._read(range(index, index + len(self)), self.most)
        if picture is None:
            return None, reasons
        partner = None if reasons else self.images.partner(index, rng)
        other = None
        if partner is not None:
            other, reasons = self._read([partner], 0)
        return self.views(picture, rng, other), reasons

    def _read(self, places, most):
        places = (i % len(self) for i in places)
        images = ((self.images[i], functools.partial(self.name, i)) for i in places)
        return _first_readable(images, most, lambda picture: picture)


class _ViewsOfStream(Dataset):
    """The same for a batch of a stream, where the next readable image of the batch is the replacement."""

    def __init__(self, length, views, seed):
        self.length, self.views, self.seed = length, views, seed

    def __len__(self):  # without it, Keras takes the number of steps for unknown
        return self.length

    def __getitems__(self, keys):
        return [self._sample(keys[i:] + keys[:i]) for i in range(len(keys))]

    def _sample(self, keys):
        epoch, index = keys[0][:2]
        images = ((image, lambda name=name: name) for _, _, name, image in keys)
        return _first_readable(
            images, len(keys), lambda image: self.views(image, _generator(self.seed, epoch, index))
        )


class _ReadyViews(Dataset):
    """(epoch, index) → the V ready views of one image."""

    def __init__(self, views):
        self.views = views

    def __len__(self):
        return len(self.views[0])

    def __getitem__(self, key):
        return [np.asarray(view[key[1]]) for view in self.views], {}


class _LoaderViews(IterableDataset):
    """Another loader's batches as views: made here where it yields images, passed on where it yields views."""

    def __init__(self, loader, views, seed):
        self.loader, self.views, self.seed = loader, views, seed
        self.epoch = self.start = 0

    def __iter__(self):
        return itertools.islice(self._batches(), self.start, None)

    def _batches(self):
        counter = itertools.count()
        for batch in self.loader:
            batch = list(batch.values()) if isinstance(batch, dict) else batch
            parts = list(batch) if isinstance(batch, (list, tuple)) else [batch]
            pictures = [torch.as_tensor(part) for part in parts if getattr(part, "ndim", 0) == 4]
            if len(pictures) > 1:
                yield (pictures,)
                continue
            if not pictures or pictures[0].dtype != torch.uint8 or pictures[0].shape[-1] != 3:
                got = ", ".join(
                    f"{getattr(p, 'dtype', type(p).__name__)} {tuple(getattr(p, 'shape', ()))}" for p in parts
                )
                raise ValueError(
                    f"the loader yields {got}: expected a batch of images (B, H, W, 3) uint8 or a list of views"
                )
            made = [
                self.views(image, _generator(self.seed, self.epoch, next(counter)))
                for image in pictures[0].numpy()
            ]
            yield (stack_views(made),)


class _SizedLoaderViews(_LoaderViews):
    """The same over a loader that knows its length; Keras takes a `__len__` at its word."""

    def __len__(self):
        return len(self.loader)


def stack_views(samples):
    """Views of B images → V tensors `(B, h, w, 3)`."""
    return [torch.from_numpy(np.stack(view)) for view in zip(*samples, strict=True)]


def _collate(samples):
    """Pairs of views and reasons of B images → (V tensors `(B, h, w, 3)`,), and all reasons where there are any."""
    reasons = {}
    for _, more in samples:
        reasons |= more
    whole = all(views is not None for views, _ in samples)
    views = stack_views(views for views, _ in samples) if whole else None
    return (views, reasons) if reasons else (views,)


class _Batches(DataLoader):
    """A `DataLoader` that starts when its first batch is asked for, and notes what its workers could not read.

    Keras asks for the iterator of an epoch at the end of the one before, which is too early to know its order.
    Batches are as `MaSSL.train_step` takes them: a tuple that holds the list of V tensors `(B, h, w, 3)`.
    """

    waited = 0.0  # seconds, over all loaders of the process
    unreadable = ended = None

    def end(self):
        """Let the workers go when they are asked to."""
        if self.ended:
            self.ended.set()

    def __iter__(self):
        start = time.perf_counter()
        for views, *reasons in super().__iter__():
            _Batches.waited += time.perf_counter() - start
            if reasons:
                self.unreadable.note(*reasons, complete=views is not None)
            yield (views,)
            start = time.perf_counter()


def seconds_waited():
    """Seconds that this process has waited for batches of `view_loader` so far; the difference of two calls counts."""
    return _Batches.waited


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
    x,
    *,
    views=None,
    batch_size=64,
    workers=0,
    seed=0,
    rank=0,
    world_size=1,
    max_unreadable=0.001,
    unreadable_csv=None,
):
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
        sized = hasattr(x.dataset, "__len__")
        return _Batches((_SizedLoaderViews if sized else _LoaderViews)(x, views, seed), batch_size=None)
    images = _as_images(x)
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
    if isinstance(images, Stream):
        data, order = _ViewsOfStream(length, views, seed), _StreamOrder(images, *place)
    else:
        of_images = _ViewsOfPairs if isinstance(images, Paired) else _ViewsOfImages
        data = _ReadyViews(images) if ready else of_images(images, views, seed, unreadable.limit)
        order = _Order(length, *place)
    ended = torch.multiprocessing.Event()
    loader = _Batches(
        data,
        batch_sampler=order,
        collate_fn=_collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=functools.partial(_start_worker, ended),
        pin_memory=torch.cuda.is_available(),
    )
    loader.unreadable, loader.ended = unreadable, ended
    return loader


def _are_views(x):
    if not isinstance(x, list):
        return False
    shapes = [getattr(view, "shape", ()) for view in x]
    return len(x) > 1 and all(len(s) == 4 and s[0] == shapes[0][0] and s[-1] == 3 for s in shapes)


def _as_images(x):
    if isinstance(x, (np.ndarray, torch.Tensor)):
        return to_uint8(x.numpy() if isinstance(x, torch.Tensor) else x)
    if isinstance(x, (str, pathlib.Path)):
        return open_data(x)
    if isinstance(x, (list, tuple)):
        return list(x)
    if isinstance(x, (ImageSource, Column, Stream, Paired)):
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


class EpochOrder(keras.callbacks.Callback):
    """Tells the loader which epoch begins, so that order and views follow the epoch and not the run.

    Args:
        loader: What `view_loader` returned.
        initial_batch: Batches of the first epoch that were trained on before. They are left out, and the
            metrics that the model holds when training starts go on.
    """

    def __init__(self, loader, initial_batch=0):
        super().__init__()
        self.loader, self.initial_batch = loader, initial_batch

    def on_train_begin(self, logs=None):
        variables = [v for metric in self.model.metrics for v in metric.variables]
        self.carried = [(v, v.numpy().copy()) for v in variables] if self.initial_batch else []

    def on_epoch_begin(self, epoch, logs=None):
        views = self.loader.dataset
        source = views if isinstance(views, _LoaderViews) else self.loader.batch_sampler
        source.epoch, source.start = epoch, self.initial_batch
        if isinstance(source, _StreamOrder):  # its epochs need not show the same images: what is seen counts
            self.loader.unreadable.images = (epoch + 1) * len(source.stream)
        for variable, value in self.carried:  # Keras has just reset them
            variable.assign(value)
        self.initial_batch, self.carried = 0, []

    def on_epoch_end(self, epoch, logs=None):
        if self.loader.unreadable is not None and (news := self.loader.unreadable.news()):
            warnings.warn(news, stacklevel=2)
