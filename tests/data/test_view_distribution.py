"""Views beside straightforward Pillow ones: the same pixels operation by operation, the same distributions in all."""

import functools

import numpy as np
import pytest
import views_speed as plain
from PIL import Image, ImageEnhance, ImageFilter
from scipy.stats import binomtest, ks_2samp
from sklearn.datasets import load_sample_image

from memssl_keras import MultiCrop
from memssl_keras.data import augmentations as pixels
from memssl_keras.data.views import sample_crop

pytestmark = pytest.mark.slow

VIEWS = 600
SMALL = {"global_size": 64, "local_size": 48, "local_views": 1}  # so that Pillow is done in seconds
OFF = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarize": 0.0}


@functools.cache
def photograph(name="china.jpg"):
    return load_sample_image(name)


@pytest.fixture(params=["china.jpg", "flower.jpg"])
def view(request):
    """A view of 224 px and the same as a Pillow image."""
    crop = pixels.resize(np.array(photograph(request.param)[20:400, 30:500]), 224)
    return crop, Image.fromarray(crop)


def differences(ours, theirs):
    """Mean and largest absolute difference in units of 0 … 255."""
    apart = np.abs(ours.astype(float) - np.asarray(theirs, float))
    return apart.mean(), apart.max()


@pytest.mark.parametrize("box", [(30, 20, 500, 400), (100, 100, 300, 250), (5, 5, 60, 70), (0, 0, 640, 427)])
@pytest.mark.parametrize("size", [224, 96])
def test_resizing_is_pillows(box, size):
    left, top, right, bottom = box
    ours = pixels.resize(np.array(photograph())[top:bottom, left:right], size)
    theirs = Image.fromarray(photograph()).crop(box).resize((size, size), Image.Resampling.BICUBIC)
    mean, largest = differences(ours, theirs)
    assert largest <= 1 and mean < 0.02  # weights rounded at another place


@pytest.mark.parametrize("factor", [0.6, 0.8, 1.0, 1.2, 1.4])
def test_brightness_contrast_and_saturation_are_pillows(view, factor):
    for ours, theirs in (
        (pixels._brightness, ImageEnhance.Brightness),
        (pixels._contrast, ImageEnhance.Contrast),
        (pixels._saturation, ImageEnhance.Color),
    ):
        mean, largest = differences(ours(view[0], factor), theirs(view[1]).enhance(factor))
        assert largest <= 2 and mean <= 0.55, (
            ours.__name__
        )  # Pillow cuts fractions off: half a level on average


@pytest.mark.parametrize("turn", [-0.1, -0.04, 0.0, 0.04, 0.1])
def test_hue_is_pillows(view, turn):
    mean, largest = differences(pixels._hue(view[0], turn), plain._hue(view[1], turn))
    assert largest <= 12 and mean < 0.7  # 8-bit HSV: a level of hue is up to 6 of a colour, a turn 255 or 256


def test_grey_is_pillows(view):
    size = {"global_size": 224, "local_size": 8, "local_views": 0}
    crops, plain_crops = (MultiCrop(**{**size, **OFF, "grey": p}) for p in (1.0, 0.0))
    ours, colour = (c(view[0], np.random.default_rng(0))[0] for c in (crops, plain_crops))
    mean, largest = differences(ours, Image.fromarray(colour).convert("L").convert("RGB"))
    assert largest <= 1 and mean < 0.01


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0])
def test_blur_is_pillows(view, sigma):
    ours, theirs = pixels.gaussian_blur(view[0], sigma), view[1].filter(ImageFilter.GaussianBlur(sigma))
    inside = slice(6, -6)  # at the edges Pillow repeats the border after each of its three boxes
    mean, largest = differences(ours[inside, inside], np.asarray(theirs)[inside, inside])
    assert largest <= 3 and mean < 0.55  # Pillow rounds six times, this once
    assert differences(ours, theirs)[0] < 0.55


def plain_crop(height, width, scale, rng):
    """The definition once more, from whole arrays of draws."""
    area = height * width * rng.uniform(*scale, 10)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 10))
    w, h = np.rint(np.sqrt(area * aspect)).astype(int), np.rint(np.sqrt(area / aspect)).astype(int)
    fits = np.flatnonzero((w <= width) & (h <= height))
    if not len(fits):
        w, h = (round(height * 4 / 3), height) if width > height else (width, round(width * 4 / 3))
        return (width - w) // 2, (height - h) // 2, w, h
    w, h = w[fits[0]], h[fits[0]]
    return rng.integers(width - w, endpoint=True), rng.integers(height - h, endpoint=True), w, h


@pytest.mark.parametrize("scale", [(0.32, 1.0), (0.05, 0.32)])
@pytest.mark.parametrize("size", [(375, 500), (500, 375), (400, 400), (200, 700), (900, 250)])
def test_crops_are_distributed_as_defined(size, scale):
    ours = np.array([sample_crop(*size, scale, np.random.default_rng(i)) for i in range(3000)])
    theirs = np.array([plain_crop(*size, scale, np.random.default_rng(10**6 + i)) for i in range(3000)])
    for name, statistic in {
        "area": lambda c: c[:, 2] * c[:, 3],
        "aspect": lambda c: c[:, 2] / c[:, 3],
        "left": lambda c: c[:, 0],
        "top": lambda c: c[:, 1],
    }.items():
        assert ks_2samp(statistic(ours), statistic(theirs)).pvalue > 1e-3, name


def statistics(views):
    """What a view looks like in numbers: name → array (N,)."""
    views = np.stack(views)
    hsv = np.stack([np.asarray(Image.fromarray(v).convert("HSV"), float) / 255 for v in views])
    hue, saturation = 2 * np.pi * hsv[..., 0], hsv[..., 1]
    views = views.astype(float)
    found = {f"mean {c}": views[..., i].mean((1, 2)) for i, c in enumerate("RGB")}
    found |= {f"std {c}": views[..., i].std((1, 2)) for i, c in enumerate("RGB")}
    found["saturation"] = saturation.mean((1, 2))
    found["hue, cosine"] = (saturation * np.cos(hue)).mean((1, 2))
    found["hue, sine"] = (saturation * np.sin(hue)).mean((1, 2))
    found["fine detail"] = np.abs(np.diff(views, 2, axis=2)).mean((1, 2, 3))
    found["detail"] = np.abs(views[:, :, 4:] - views[:, :, :-4]).mean((1, 2, 3))
    return found


@functools.cache
def pillow_statistics(index, name="china.jpg"):
    picture, settings = Image.fromarray(photograph(name)), MultiCrop(**SMALL)
    rngs = [np.random.default_rng(10**6 + i) for i in range(VIEWS)]
    return statistics([np.asarray(plain.plain_view(picture, index, settings, rng)) for rng in rngs])


def our_statistics(index, name="china.jpg", **changes):
    crops, image = MultiCrop(**{**SMALL, **changes}), np.array(photograph(name))
    return statistics([crops(image, np.random.default_rng(i))[index] for i in range(VIEWS)])


def p_values(ours, theirs):
    return {name: ks_2samp(ours[name], theirs[name]).pvalue for name in ours}


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_views_are_distributed_as_pillows(index, name):
    found = p_values(our_statistics(index, name), pillow_statistics(index, name))
    assert min(found.values()) > 1e-3, found


@pytest.mark.parametrize(
    "index, name, changes",
    [
        (0, "china.jpg", {"jitter_strength": (0.2, 0.4, 0.2, 0.1)}),
        (0, "china.jpg", {"jitter_strength": (0.4, 0.1, 0.2, 0.1)}),
        (0, "flower.jpg", {"jitter_strength": (0.4, 0.4, 0.6, 0.1)}),
        (0, "flower.jpg", {"jitter_strength": (0.4, 0.4, 0.2, 0.0)}),
        (0, "china.jpg", {"jitter": 0.5}),
        (0, "china.jpg", {"blur_sigma": (0.1, 1.2)}),
        (2, "china.jpg", {"blur": (1.0, 0.1, 0.8)}),
        (2, "flower.jpg", {"local_scale": (0.05, 0.2)}),
        (0, "china.jpg", {"grey": 0.35}),
        (1, "china.jpg", {"solarize": 0.4}),
    ],
)
def test_the_comparison_sees_other_settings(index, name, changes):
    assert (
        min(p_values(our_statistics(index, name, **changes), pillow_statistics(index, name)).values()) < 1e-3
    )


@pytest.mark.parametrize("index", [0, 1, 2])
def test_shares_seen_in_the_pixels(index):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 250, 60)  # red grows to the right, so that turns and greys show
    size = {"global_size": 8, "local_size": 8, "local_views": 1}
    settings = MultiCrop(**{**size, **OFF, "flip": 0.5, "grey": 0.2})
    views = [settings(image, np.random.default_rng(i))[index].astype(int) for i in range(2000)]
    shares = {"flip": (0.5, sum(v[:, -1, 0].mean() < v[:, 0, 0].mean() for v in views))}
    shares["grey"] = 0.2, sum((v == v[..., :1]).all() for v in views)
    settings = MultiCrop(**{**size, **OFF, "solarize": 0.2})
    bright = np.full_like(image, 255)
    inverted = sum(settings(bright, np.random.default_rng(i))[index].max() == 0 for i in range(2000))
    for name, (share, count) in shares.items():
        assert binomtest(count, 2000, share).pvalue > 1e-3, name
    assert binomtest(inverted, 2000, 0.2).pvalue > 1e-3 if index == 1 else inverted == 0
