"""From the place of an image to its views, whatever holds the images."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from memssl_keras.data.names import name_of
from memssl_keras.data.order import image_generator
from memssl_keras.data.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop
from memssl_keras.images import ImageError
from memssl_keras.images.jpeg import read_fast


def normalise(
    view: torch.Tensor, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
) -> torch.Tensor:
    """uint8 tensor `(…, W, 3)` → float32 with a mean and standard deviation per channel; floats pass unchanged."""
    if view.dtype != torch.uint8:
        return view.float()
    # Whole rows of pixels as one dimension: broadcast over the 3 channels alone, this takes 15 times as long.
    means, stds = (torch.tensor(tuple(c), device=view.device).repeat(view.shape[-2]) for c in (mean, std))
    rows = view.float().flatten(-2)
    return torch.addcmul(-means / stds, rows, 1 / (255 * stds), out=rows).view(view.shape)


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


class ViewsOfImages(Dataset):
    """(epoch, index) → the V views of one image, and {name: reason} of those that were unreadable.

    In the place of an unreadable image comes the next one that can be read, with the draws of that place: the same
    views whatever the number of workers and processes.
    """

    def __init__(self, images: Any, views: MultiCrop, seed: int, most: int):
        self.images, self.views, self.seed, self.most = images, views, seed, most

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, index = key
        places = (i % len(self) for i in range(index, index + len(self)))
        images = ((self.images[i], functools.partial(self.name, i)) for i in places)
        return _first_readable(images, self.most, self._views_of(epoch, index))

    def _views_of(self, epoch, index):
        return lambda image: self.views(image, image_generator(self.seed, epoch, index))

    def name(self, index: int) -> str:
        """What an image is called in the list of unreadable ones."""
        return name_of(self.images, index)


class ViewsOfPairs(ViewsOfImages):
    """The same where the views after global view 1 may be of another image of the group.

    An image that takes the place of an unreadable one has no partner; an unreadable partner has the image itself in
    its place.
    """

    def __getitem__(self, key):
        epoch, index = key
        rng = image_generator(self.seed, epoch, index)
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


class ViewsWithTargets(ViewsOfImages):
    """(epoch, index) → the views of one image and, behind them, its target `(D,)`.

    The image that takes the place of an unreadable one brings its own target.
    """

    def __getitem__(self, key):
        epoch, index = key
        reasons = {}
        for place in (i % len(self) for i in range(index, index + len(self))):
            target, name = self.images.targets[place], functools.partial(self.name, place)
            views, more = _first_readable([(self.images[place], name)], 0, self._views_of(epoch, index))
            if views is not None and np.isfinite(target).all():
                return [*views, target], reasons
            reasons |= more or {name(): "the teacher could not read it"}
            if len(reasons) > self.most:
                break
        return None, reasons


class ViewsOfStream(Dataset):
    """The same for a batch of a stream, where the next readable image of the batch is the replacement."""

    def __init__(self, length: int, views: MultiCrop, seed: int):
        self.length, self.views, self.seed = length, views, seed

    def __len__(self):  # without it, Keras takes the number of steps for unknown
        return self.length

    def __getitems__(self, keys):
        return [self._sample(keys[i:] + keys[:i]) for i in range(len(keys))]

    def _sample(self, keys):
        epoch, index = keys[0][:2]
        images = ((image, lambda name=name: name) for _, _, name, image in keys)
        return _first_readable(
            images, len(keys), lambda image: self.views(image, image_generator(self.seed, epoch, index))
        )


class ReadyViews(Dataset):
    """(epoch, index) → the V ready views of one image."""

    def __init__(self, views: Sequence):
        self.views = views

    def __len__(self):
        return len(self.views[0])

    def __getitem__(self, key):
        return [np.asarray(view[key[1]]) for view in self.views], {}


class LoaderViews(IterableDataset):
    """Another loader's batches as views: made here where it yields images, passed on where it yields views."""

    def __init__(self, loader: Any, views: MultiCrop, seed: int):
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
                self.views(image, image_generator(self.seed, self.epoch, next(counter)))
                for image in pictures[0].numpy()
            ]
            yield (stack_views(made),)


class SizedLoaderViews(LoaderViews):
    """The same over a loader that knows its length; Keras takes a `__len__` at its word."""

    def __len__(self):
        return len(self.loader)


def stack_views(samples: Iterable[Sequence[np.ndarray]]) -> list[torch.Tensor]:
    """Views of B images → V tensors `(B, h, w, 3)`."""
    return [torch.from_numpy(np.stack(view)) for view in zip(*samples, strict=True)]
