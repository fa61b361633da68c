"""Anything that holds images → batches of views, reproducible from a seed whatever the number of workers."""

import itertools
import signal
import time

import keras
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from memssl_keras.images import ImageError
from memssl_keras.jpeg import read_fast
from memssl_keras.sources import ImageSource
from memssl_keras.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop


def normalise(view):
    """uint8 tensor `(…, W, 3)` → float32 with ImageNet's mean and standard deviation; floats pass unchanged."""
    if view.dtype != torch.uint8:
        return view.float()
    # Whole rows of pixels as one dimension: broadcast over the 3 channels alone, this takes 15 times as long.
    mean, std = (
        torch.tensor(c, device=view.device).repeat(view.shape[-2]) for c in (IMAGENET_MEAN, IMAGENET_STD)
    )
    rows = view.float().flatten(-2)
    return torch.addcmul(-mean / std, rows, 1 / (255 * std), out=rows).view(view.shape)


def _generator(seed, epoch, index):
    """The generator of one image in one epoch: counter-based, so that it needs no history."""
    return np.random.Generator(np.random.Philox(key=[seed, (epoch << 40) + index]))


class _Order(Sampler):
    """Batches of (epoch, index) in an order that the seed and the epoch alone decide."""

    def __init__(self, length, batch_size, seed, rank=0, world_size=1):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.share = rank, batch_size // world_size
        self.epoch = self.start = 0

    def __len__(self):
        return self.length // self.batch_size

    def __iter__(self):
        order = _generator(self.seed, self.epoch, (1 << 40) - 1).permutation(self.length)
        for i in range(self.start, len(self)):
            first = i * self.batch_size + self.rank * self.share
            yield [(self.epoch, int(j)) for j in order[first : first + self.share]]


class _ViewsOfImages(Dataset):
    """(epoch, index) → the V views of one image."""

    def __init__(self, images, views, seed):
        self.images, self.views, self.seed = images, views, seed

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, index = key
        try:
            return self.views(read_fast(self.images[index]), _generator(self.seed, epoch, index))
        except ImageError as error:
            return error  # raised by `_Loader`: torch would wrap it, with a worker's traceback for a message


class _ReadyViews(Dataset):
    """(epoch, index) → the V ready views of one image."""

    def __init__(self, views):
        self.views = views

    def __len__(self):
        return len(self.views[0])

    def __getitem__(self, key):
        return [np.asarray(view[key[1]]) for view in self.views]


class _Column:
    """The image column of a `datasets.Dataset` as a sequence of what `read_image` takes."""

    def __init__(self, dataset):
        import datasets

        found = [name for name, feature in dataset.features.items() if isinstance(feature, datasets.Image)]
        if len(found) != 1:
            raise ValueError(
                f"x has {len(found)} image columns ({', '.join(found) or 'none'}) among "
                f"{', '.join(dataset.features)}: expected exactly one; select_columns leaves one"
            )
        self.column = found[0]
        # Undecoded: `read_image` sees the file itself, and turns, flattens and reports it in its own way.
        undecoded = datasets.Image(decode=False)
        self.dataset = dataset.select_columns(self.column).cast_column(self.column, undecoded)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        row = self.dataset[index][self.column]
        return row["bytes"] if row["bytes"] is not None else row["path"]


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
                yield ([normalise(p) for p in pictures],)
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
            yield collate(made)


class _SizedLoaderViews(_LoaderViews):
    """The same over a loader that knows its length; Keras takes a `__len__` at its word."""

    def __len__(self):
        return len(self.loader)


def collate(samples):
    """Views of B images → one batch for `MaSSL.train_step`: a tuple that holds the list of V tensors `(B, h, w, 3)`."""
    for sample in samples:
        if isinstance(sample, ImageError):
            return sample
    return ([torch.from_numpy(np.stack(view)) for view in zip(*samples, strict=True)],)


class _Batches(DataLoader):
    """A `DataLoader` that starts when its first batch is asked for, and raises what its workers could not read.

    Keras asks for the iterator of an epoch at the end of the one before, which is too early to know its order.
    """

    waited = 0.0  # seconds, over all loaders of the process

    def __iter__(self):
        start = time.perf_counter()
        for batch in super().__iter__():
            _Batches.waited += time.perf_counter() - start
            if isinstance(batch, ImageError):
                raise batch
            yield batch
            start = time.perf_counter()


def seconds_waited():
    """Seconds that this process has waited for batches of `view_loader` so far; the difference of two calls counts."""
    return _Batches.waited


def _start_worker(_):
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # What asks a whole group of processes to end asks the workers too: they stay for the step that is saved.
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(30))


def view_loader(x, *, views=None, batch_size=64, workers=0, seed=0, rank=0, world_size=1):
    """A torch `DataLoader` whose batches are views; see `MaSSL.fit` for what `x` may be.

    Order and views of an image follow from `seed`, the epoch and the image's place alone.
    """
    views = views or MultiCrop()
    if isinstance(x, DataLoader):
        sized = hasattr(x.dataset, "__len__")
        return _Batches((_SizedLoaderViews if sized else _LoaderViews)(x, views, seed), batch_size=None)
    images = _as_images(x)
    ready = isinstance(images, list) and _are_views(images)
    data = _ReadyViews(images) if ready else _ViewsOfImages(images, views, seed)
    length = len(data)
    if batch_size % world_size:
        raise ValueError(
            f"batch_size={batch_size}: expected a multiple of the number of processes, {world_size}"
        )
    if length < batch_size:
        raise ValueError(f"x holds {length} images, fewer than batch_size={batch_size}")
    return _Batches(
        data,
        batch_sampler=_Order(length, batch_size, seed, rank, world_size),
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        pin_memory=torch.cuda.is_available(),
    )


def _are_views(x):
    shapes = [getattr(view, "shape", ()) for view in x]
    return len(x) > 1 and all(len(s) == 4 and s[0] == shapes[0][0] and s[-1] == 3 for s in shapes)


def _as_images(x):
    if isinstance(x, (np.ndarray, torch.Tensor)):
        if x.ndim != 4 or x.shape[-1] != 3 or str(x.dtype).split(".")[-1] != "uint8":
            raise ValueError(f"x is {x.dtype} {tuple(x.shape)}: expected images (N, H, W, 3) uint8")
        return x.numpy() if isinstance(x, torch.Tensor) else x
    if isinstance(x, (list, tuple)):
        return list(x)
    if isinstance(x, ImageSource):
        return x
    if hasattr(x, "features") and hasattr(x, "cast_column") and hasattr(x, "__len__"):
        return _Column(x)
    raise ValueError(
        f"x is a {type(x).__name__}: expected an array (N, H, W, 3) uint8, a list of paths, images or views, "
        f"a datasets.Dataset, an ImageSource or a torch DataLoader"
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
        for variable, value in self.carried:  # Keras has just reset them
            variable.assign(value)
        self.initial_batch, self.carried = 0, []
