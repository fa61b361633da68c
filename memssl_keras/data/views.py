"""Multi-crop views of an image: random crops, colour, blur and solarize on uint8 pixels.

The operations are in `memssl_keras.data.augmentations`. Every draw comes from a generator that the caller seeds per
image, so that views do not depend on the number of workers.

References:
    Caron et al., SwAV, NeurIPS 2020 (arXiv 2006.09882), for multi-crop.
    Grill et al., BYOL, NeurIPS 2020 (arXiv 2006.07733), for the asymmetric blur and solarize.
    Silva et al., Learning from Memory, ICML 2024 (arXiv 2407.17486), for the settings.
"""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np

from memssl_keras.data import drawings
from memssl_keras.data.augmentations import color_jitter, gaussian_blur, resize, solarize, uniform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def sample_crop(
    height: int,
    width: int,
    scale: tuple[float, float],
    rng: np.random.Generator,
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """A random crop `(left, top, width, height)` in whole pixels: area share uniform in `scale`, aspect log-uniform.

    After ten draws that do not fit, the largest central crop within the aspect range is taken.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        area = height * width * uniform(rng, *scale)
        aspect = math.exp(uniform(rng, low, high))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.random() * (width - w + 1)), int(rng.random() * (height - h + 1)), w, h
    w = min(width, max(1, round(height * ratio[1])))
    h = min(height, max(1, round(width / ratio[0])))
    return (width - w) // 2, (height - h) // 2, w, h


@dataclasses.dataclass(frozen=True)
class MultiCrop:
    """Two global and L local views of an image, as the method draws them.

    Args:
        global_size: Side of the global views in pixels.
        local_size: Side of the local views in pixels.
        local_views: Number L of local views.
        global_scale: Range of the area share that a global view shows.
        local_scale: The same for local views.
        flip: Probability of a horizontal flip.
        jitter: Probability of colour jitter.
        jitter_strength: Ranges of brightness, contrast, saturation and hue.
        grey: Probability of greyscale.
        blur: Probability of Gaussian blur on global view 1, global view 2 and local views.
        blur_sigma: Range of its standard deviation in pixels of the view.
        solarize: Probability of solarize on global view 2.
        recolour: Probability that two random colours replace black and white in a view of a grey picture. This and
            all following options are for drawings. They are off by default, and then draw nothing from `rng`.
        invert: Probability that every value v becomes 255 − v.
        stroke: Probability that lines become thicker or thinner before the view is cut.
        pad: Probability that the picture is put on a larger ground before the view is cut.
        pad_share: Range of the added height and width, as a share of the picture's.
        rotate: Largest rotation of a view, in degrees in either direction.
        small: Probability that a view is scaled down and up again.
        small_share: Range of the reduced side, as a share.
        jpeg: Probability of JPEG compression.
        jpeg_quality: Range of the JPEG quality.

    Raises:
        ValueError: where a size or count is too small, or a scale or probability is outside its range.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import MultiCrop
        >>> views = MultiCrop(global_size=32, local_size=16, local_views=3)
        >>> image = np.zeros((40, 60, 3), "uint8")
        >>> [view.shape for view in views(image, np.random.default_rng(0))]
        [(32, 32, 3), (32, 32, 3), (16, 16, 3), (16, 16, 3), (16, 16, 3)]
    """

    global_size: int = 224
    local_size: int = 96
    local_views: int = 10
    global_scale: tuple = (0.32, 1.0)
    local_scale: tuple = (0.05, 0.32)
    flip: float = 0.5
    jitter: float = 0.8
    jitter_strength: tuple = (0.4, 0.4, 0.2, 0.1)
    grey: float = 0.2
    blur: tuple = (1.0, 0.1, 0.5)
    blur_sigma: tuple = (0.1, 2.0)
    solarize: float = 0.2
    recolour: float = 0.0
    invert: float = 0.0
    stroke: float = 0.0
    pad: float = 0.0
    pad_share: tuple = (0.0, 0.6)
    rotate: float = 0.0
    small: float = 0.0
    small_share: tuple = (0.3, 0.9)
    jpeg: float = 0.0
    jpeg_quality: tuple = (40, 95)

    def __post_init__(self):
        for name in ("global_size", "local_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least 1 pixel")
        if self.local_views < 0:
            raise ValueError(f"local_views={self.local_views}: expected 0 or more")
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ValueError(f"{name}={(low, high)}: expected 0 < low ≤ high ≤ 1")
        if len(self.blur) != 3:
            raise ValueError(
                f"blur={self.blur}: expected 3 numbers, of global view 1, global view 2, local views"
            )
        low, high = self.blur_sigma
        if not 0 < low <= high:
            raise ValueError(f"blur_sigma={(low, high)}: expected 0 < low ≤ high")
        limits = (1, 1, 1, 0.5)
        if len(self.jitter_strength) != 4 or any(
            not 0 <= strength <= limit for strength, limit in zip(self.jitter_strength, limits, strict=True)
        ):
            raise ValueError(
                f"jitter_strength={self.jitter_strength}: expected brightness, contrast and saturation in 0 … 1 "
                "and hue in 0 … 0.5"
            )
        self._check_drawings()
        plain = ("flip", "jitter", "grey", "solarize", "recolour", "invert", "stroke", "pad", "small", "jpeg")
        chances = {name: getattr(self, name) for name in plain}
        for name, chance in [*chances.items(), *(("blur", chance) for chance in self.blur)]:
            if not 0 <= chance <= 1:
                raise ValueError(f"{name}: {chance} is not a probability in 0 … 1")

    def _check_drawings(self):
        if not 0 <= self.rotate <= 180:
            raise ValueError(f"rotate={self.rotate}: expected degrees in 0 … 180")
        for name, least, most in (("pad_share", 0, 10), ("small_share", 0, 1), ("jpeg_quality", 1, 100)):
            low, high = getattr(self, name)
            if not least <= low <= high <= most or not high:
                raise ValueError(
                    f"{name}={(low, high)}: expected {least} ≤ low ≤ high ≤ {most}, high above 0"
                )

    @property
    def count(self) -> int:
        """Number V of views."""
        return 2 + self.local_views

    def __call__(self, image, rng, other=None):
        """The V views of `image` `(H, W, 3)` uint8, as uint8 arrays: two global ones first.

        Args:
            image: Array as `memssl_keras.images.read_image` gives it.
            rng: A `numpy.random.Generator`; the same state gives the same views.
            other: Another picture of the same thing, from which the views after global view 1 are cut.
        """
        pictures = [
            np.require(x, requirements=("C", "W")) for x in (image, other) if x is not None
        ]  # as torch asks
        grey = [bool(self.recolour) and drawings.is_grey(picture) for picture in pictures]
        views = []
        for i, size in enumerate([self.global_size] * 2 + [self.local_size] * self.local_views):
            which = 0 if i == 0 else -1
            view = self._view(self._prepared(pictures[which], rng), i, size, rng)
            views.append(self._shown(view, grey[which], rng))
        return views

    def _prepared(self, image, rng):
        """The picture before a view is cut from it."""
        if self.stroke and rng.random() < self.stroke:
            image = drawings.stroke(image, rng)
        if self.pad and rng.random() < self.pad:
            image = drawings.pad(image, rng, self.pad_share)
        return image

    def _shown(self, view, grey, rng):
        """A view as a screen or a file may show it; `grey` says whether its picture has no colours."""
        if self.rotate:
            view = drawings.rotate(view, rng, self.rotate)
        if grey and rng.random() < self.recolour:
            view = drawings.recolour(view, rng)
        if self.invert and rng.random() < self.invert:
            view = cv2.bitwise_not(view)
        if self.small and rng.random() < self.small:
            view = drawings.small(view, rng, self.small_share)
        if self.jpeg and rng.random() < self.jpeg:
            view = drawings.jpeg(view, rng, self.jpeg_quality)
        return view

    def _view(self, image, index, size, rng):
        scale = self.global_scale if index < 2 else self.local_scale
        left, top, width, height = sample_crop(*image.shape[:2], scale, rng)
        view = resize(image[top : top + height, left : left + width], size)
        if rng.random() < self.flip:
            view = cv2.flip(view, 1)
        if rng.random() < self.jitter:
            view = color_jitter(view, rng, *self.jitter_strength)
        grey = rng.random() < self.grey
        if grey:  # one channel until the end: a third of the work
            view = cv2.cvtColor(view, cv2.COLOR_RGB2GRAY)
        if rng.random() < self.blur[min(index, 2)]:
            view = gaussian_blur(view, uniform(rng, *self.blur_sigma))
        if index == 1 and rng.random() < self.solarize:
            view = solarize(view)
        return cv2.cvtColor(view, cv2.COLOR_GRAY2RGB) if grey else view
