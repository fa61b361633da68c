"""Throughput of the multi-crop views beside the same pipeline written plainly with Pillow, on one core.

Both decode a 500 × 375 JPEG, make 2 views of 224 px and 10 of 96 px, and give normalised float32. The plain one
takes each step as Pillow and the usual transform libraries on top of it do: crop, resize, enhance, blur. Where
torchvision imports, its own transforms are a third. Seconds are those of the processor, so that other
processes on the machine count little.
"""

import importlib
import io
import statistics
import time
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from memssl_keras.data.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop, sample_crop


def photo(rng, height=375, width=500):
    """A JPEG with the spectrum of a photograph: noise whose amplitude falls with the frequency."""
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = 1 / np.maximum(np.hypot(y, x), 1 / width)
    channels = []
    for _ in range(3):
        noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falloff, (height, width))
        channels.append(np.clip(128 + 48 * noise / noise.std(), 0, 255))
    buffer = io.BytesIO()
    Image.fromarray(np.stack(channels, -1).astype("uint8")).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _hue(image, turn):
    h, s, v = image.convert("HSV").split()
    h = Image.fromarray((np.asarray(h).astype("int16") + int(turn * 255)).astype("uint8"))
    return Image.merge("HSV", (h, s, v)).convert("RGB")


def plain_view(picture, index, views, rng):
    """One view of a Pillow image, every step by Pillow, drawn as the method defines it."""
    size, scale = (
        (views.global_size, views.global_scale) if index < 2 else (views.local_size, views.local_scale)
    )
    left, top, width, height = sample_crop(picture.height, picture.width, scale, rng)
    view = picture.crop((left, top, left + width, top + height)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    if rng.random() < views.flip:
        view = ImageOps.mirror(view)
    if rng.random() < views.jitter:
        brightness, contrast, saturation, hue = views.jitter_strength
        steps = (
            (lambda i, f: ImageEnhance.Brightness(i).enhance(f), 1 - brightness, 1 + brightness),
            (lambda i, f: ImageEnhance.Contrast(i).enhance(f), 1 - contrast, 1 + contrast),
            (lambda i, f: ImageEnhance.Color(i).enhance(f), 1 - saturation, 1 + saturation),
            (_hue, -hue, hue),
        )
        for step in rng.permutation(4):
            function, low, high = steps[step]
            view = function(view, rng.uniform(low, high))
    if rng.random() < views.grey:
        view = view.convert("L").convert("RGB")
    if rng.random() < views.blur[min(index, 2)]:
        view = view.filter(ImageFilter.GaussianBlur(rng.uniform(*views.blur_sigma)))
    if index == 1 and rng.random() < views.solarize:
        view = ImageOps.solarize(view, 128)
    return view


def _to_tensor(view):
    import torch

    mean, std = (torch.tensor(c).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
    tensor = torch.from_numpy(np.array(view)).permute(2, 0, 1).contiguous().float().div(255)
    return tensor.sub_(mean).div_(std)


def plain_batches(files, views):
    """Batches of normalised views by Pillow, from the bytes of JPEGs."""
    import torch

    made = []
    for i, data in enumerate(files):
        picture, rng = Image.open(io.BytesIO(data)).convert("RGB"), np.random.default_rng(i)
        made.append([_to_tensor(plain_view(picture, index, views, rng)) for index in range(views.count)])
    return [torch.stack(view) for view in zip(*made, strict=True)]


def our_batches(files, views):
    """The same by the library, as `MaSSL.fit` takes them: collated as uint8 and normalised batch by batch."""
    from memssl_keras.data.view_sets import normalise, stack_views
    from memssl_keras.images.jpeg import read_fast

    made = [views(read_fast(data), np.random.default_rng(i)) for i, data in enumerate(files)]
    return [normalise(view) for view in stack_views(made)]


def torchvision_batches(files, views):
    """The same by torchvision's transforms on Pillow images."""
    import torch
    from torchvision import transforms as tv

    def blur(image):
        return image.filter(ImageFilter.GaussianBlur(float(torch.empty(1).uniform_(*views.blur_sigma))))

    def view(size, scale, blurred, solarized):
        steps = [
            tv.RandomResizedCrop(size, scale, interpolation=tv.InterpolationMode.BICUBIC),
            tv.RandomHorizontalFlip(views.flip),
            tv.RandomApply([tv.ColorJitter(*views.jitter_strength)], views.jitter),
            tv.RandomGrayscale(views.grey),
            tv.RandomApply([tv.Lambda(blur)], blurred),
            tv.RandomSolarize(128, solarized),
            tv.ToTensor(),
            tv.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
        return tv.Compose(steps)

    large = [
        view(views.global_size, views.global_scale, blurred, solarized)
        for blurred, solarized in zip(views.blur[:2], (0, views.solarize), strict=True)
    ]
    small = [view(views.local_size, views.local_scale, views.blur[2], 0)] * views.local_views
    made = []
    for data in files:
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        made.append([transform(picture) for transform in large + small])
    return [torch.stack(view) for view in zip(*made, strict=True)]


def _makers():
    makers = {"plain Pillow": plain_batches, "MultiCrop": our_batches}
    try:
        importlib.import_module("torchvision.transforms")
    except (
        Exception
    ):  # not installed, or a wheel without the operators of this torch, which is a RuntimeError
        return makers
    return {"torchvision": torchvision_batches, **makers}


def benchmark_views(
    images: Annotated[int, typer.Option(min=1, help="Images per round, one batch.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each, in turn; the median counts.")] = 7,
):
    """Images per second of one core, of the multi-crop views: 2 × 224 px and 10 × 96 px of 500 × 375 JPEGs."""
    import cv2
    import torch
    from rich.console import Console
    from rich.table import Table

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    files = [photo(np.random.default_rng(i)) for i in range(images)]
    views, makers = MultiCrop(), _makers()
    seconds = {name: [] for name in makers}
    for _ in range(rounds + 1):
        for name, make in makers.items():
            start = time.process_time()
            batch = make(files, views)
            seconds[name].append(time.process_time() - start)
            if [len(view) for view in batch] != [images] * views.count:
                raise RuntimeError(f"{name} made {[tuple(view.shape) for view in batch]}")
    table = Table(
        "views", "images per second and core", "faster", title="2 × 224 + 10 × 96 px of 500 × 375 JPEGs"
    )
    for name, measured in seconds.items():
        each = zip(seconds["plain Pillow"][1:], measured[1:], strict=True)
        faster = statistics.median(plain / ours for plain, ours in each)  # of neighbours in time
        table.add_row(name, f"{images / statistics.median(measured[1:]):.1f}", f"{faster:.2f} ×")
    Console().print(table)
