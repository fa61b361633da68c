"""Throughput of the multi-crop views beside the same pipeline written plainly with Pillow, on one core.

Both decode a 500 × 375 JPEG, make 2 views of 224 px and 10 of 96 px, and give normalised float32. The plain one
takes each step as Pillow and the usual transform libraries on top of it do: crop, resize, enhance, blur.
"""

import io
import math
import statistics
import time
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from memssl_keras.views import MultiCrop, sample_crop


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
    """One view of a Pillow image, every step by Pillow; the draws and their order are those of `MultiCrop`."""
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


def _plain(data, views, rng):
    import torch

    picture = Image.open(io.BytesIO(data)).convert("RGB")
    for index in range(views.count):
        view = torch.from_numpy(np.array(plain_view(picture, index, views, rng)))
        yield ((view.permute(2, 0, 1).float() / 255) - _MEAN) / _STD


def _ours(data, views, rng):
    import torch

    from memssl_keras.data import normalise
    from memssl_keras.images import read_image

    for view in views(read_image(data), rng):
        yield normalise(torch.from_numpy(np.ascontiguousarray(view)))


def benchmark_views(
    images: Annotated[int, typer.Option(min=1, help="Images per round.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each, in turn; the median counts.")] = 7,
):
    """Images per second and core of the multi-crop views, 2 × 224 px and 10 × 96 px of 500 × 375 JPEGs."""
    global _MEAN, _STD
    import cv2
    import torch
    from rich.console import Console
    from rich.table import Table

    from memssl_keras.data import IMAGENET_MEAN, IMAGENET_STD

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    _MEAN, _STD = (torch.tensor(c).view(3, 1, 1) for c in (IMAGENET_MEAN, IMAGENET_STD))
    files = [photo(np.random.default_rng(i)) for i in range(images)]
    views, seconds = MultiCrop(), {"plain Pillow": [], "MultiCrop": []}
    for _ in range(rounds + 1):
        for name, make in (("plain Pillow", _plain), ("MultiCrop", _ours)):
            start = time.perf_counter()
            for i, data in enumerate(files):
                for view in make(data, views, np.random.default_rng(i)):
                    assert math.isfinite(float(view[0, 0, 0]))
            seconds[name].append(time.perf_counter() - start)
    table = Table(
        "views", "images per second and core", "faster", title="2 × 224 + 10 × 96 px of 500 × 375 JPEGs"
    )
    plain = statistics.median(seconds["plain Pillow"][1:])
    for name, measured in seconds.items():
        median = statistics.median(measured[1:])
        table.add_row(name, f"{images / median:.1f}", f"{plain / median:.2f} ×")
    Console().print(table)
