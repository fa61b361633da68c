"""What views are made with: resizing, colour and blur of uint8 pixels, at several times Pillow's speed.

The method is defined by what Pillow does, so each operation gives Pillow's pixels: resizing to 1 grey level, colour
and blur to about half a level on average, because Pillow cuts off or rounds more often. torch resizes, OpenCV does
the rest.

References:
    Gwosdek et al., Theoretical Foundations of Gaussian Convolution by Extended Box Filtering, SSVM 2011, for the
        blur that Pillow has.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator

import cv2
import numpy as np


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform draw, several times as fast as `rng.uniform`."""
    return low + (high - low) * rng.random()


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """`image` `(h, w, 3)` uint8 as `(size, size, 3)`: Pillow's antialiased bicubic filter."""
    import torch  # here, so that recipes can be read without it

    # Strides that say channels-last, which spares torch two copies; with a batch of 1 they are ambiguous.
    batch = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(batch, (size, size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


_LUMA = (0.299, 0.587, 0.114)
_COLOUR, _GREY = np.eye(3), np.tile(_LUMA, (3, 1))


def _brightness(image, factor):
    return cv2.convertScaleAbs(image, alpha=factor)


def _contrast(image, factor):
    mean = round(sum(map(operator.mul, _LUMA, cv2.mean(image))))
    return cv2.addWeighted(image, factor, image, 0, mean * (1 - factor))


def _saturation(image, factor):
    return cv2.transform(image, factor * _COLOUR + (1 - factor) * _GREY)


def _hue(image, turn):
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    turns = np.zeros((image.shape[1], 3), np.uint8)
    turns[:, 0] = int(turn * 255) % 256
    hsv += turns  # whole rows at once are several times as fast as the hues alone
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


_ORDERS = tuple(itertools.permutations(range(4)))


def color_jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    brightness: float = 0.4,
    contrast: float = 0.4,
    saturation: float = 0.2,
    hue: float = 0.1,
) -> np.ndarray:
    """Brightness, contrast, saturation and hue, each by a random factor, in random order; uint8 in and out."""
    steps = (
        (_brightness, 1 - brightness, 1 + brightness),
        (_contrast, 1 - contrast, 1 + contrast),
        (_saturation, 1 - saturation, 1 + saturation),
        (_hue, -hue, hue),
    )
    for i in _ORDERS[int(rng.random() * len(_ORDERS))]:
        function, low, high = steps[i]
        if low < high:
            image = function(image, uniform(rng, low, high))
    return image


@functools.lru_cache(maxsize=1024)
def _blur_kernel(sigma):
    variance = sigma**2 / 3
    radius = int((math.sqrt(12 * variance + 1) - 1) / 2)
    whole, outside = 2 * radius + 1, (radius + 1) ** 2
    end = (variance * whole - whole * (outside - radius - 1) / 3) / (2 * (outside - variance))
    box = np.array([end, *[1.0] * whole, end]) / (whole + 2 * end)
    kernel = np.convolve(np.convolve(box, box), box)
    # What is left out at both ends, at most 1/1024 each, moves no value by more than rounding does.
    below = np.cumsum(kernel)
    kernel = kernel[np.minimum(below, below[::-1]) > 1 / 1024]
    return kernel / kernel.sum()


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Pillow's Gaussian blur of `(h, w, 3)` or `(h, w)` uint8; `sigma` in pixels, to hundredths.

    That is three box filters, whose ends have a weight that makes the variance `sigma`² in all. Pillow runs them
    one by one; here they are convolved into one kernel. Where `sigma` is small, this blurs visibly more than a
    sampled Gaussian does.
    """
    kernel = _blur_kernel(round(sigma, 2))
    return cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


def solarize(image: np.ndarray) -> np.ndarray:
    """Invert every value from 128 on; uint8 in and out."""
    return cv2.min(image, cv2.bitwise_not(image))
