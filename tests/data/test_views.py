"""Views: crops, how often each operation comes and to which views, and that a seed decides everything."""

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps
from small_models import pictures, small_crops

from memssl_keras import MultiCrop
from memssl_keras.data import augmentations as pixels
from memssl_keras.data import views as module
from memssl_keras.data.view_sets import normalise

PLAIN = {"flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": (0.0, 0.0, 0.0), "solarize": 0.0}


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def photo():
    return pictures(1, size=96)[0]


def difference(ours, theirs):
    """Mean absolute difference in units of 0 … 255."""
    return np.abs(ours.astype(float) - np.asarray(theirs, float)).mean()


@pytest.mark.parametrize("scale", [(0.32, 1.0), (0.05, 0.32)])
def test_crops_are_uniform_in_area_and_log_uniform_in_aspect(scale):
    rng, height, width = generator(), 400, 500
    crops = [module.sample_crop(height, width, scale, rng) for _ in range(4000)]
    left, top, w, h = np.array(crops).T
    assert (left >= 0).all() and (top >= 0).all()
    assert (left + w <= width).all() and (top + h <= height).all()
    area, aspect = w * h / (height * width), np.log(w / h)
    assert area.min() > scale[0] * 0.97 and area.max() < scale[1] * 1.03
    assert abs(aspect).max() < np.log(4 / 3) + 0.02
    if scale[1] < 0.5:  # large crops of a rectangle are refused where they do not fit, which bends both
        uniform = np.linspace(*scale, 11)[1:-1]
        np.testing.assert_allclose(np.quantile(area, np.linspace(0.1, 0.9, 9)), uniform, atol=0.01)
        uniform = np.log(4 / 3) * np.linspace(-1, 1, 11)[1:-1]
        np.testing.assert_allclose(np.quantile(aspect, np.linspace(0.1, 0.9, 9)), uniform, atol=0.03)
        free = left / (width - w)
        np.testing.assert_allclose(np.quantile(free, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.03)
    else:
        tried, ratio = (
            generator(1).uniform(*scale, 10**5),
            np.exp(generator(2).uniform(-1, 1, 10**5) * np.log(4 / 3)),
        )
        w, h = np.sqrt(tried * height * width * ratio), np.sqrt(tried * height * width / ratio)
        fits = (w <= width) & (h <= height)
        for ours, theirs in ((area, tried[fits]), (aspect, np.log(ratio[fits]))):
            shares = np.linspace(0.1, 0.9, 9)
            np.testing.assert_allclose(np.quantile(ours, shares), np.quantile(theirs, shares), atol=0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (5, 4000)])
def test_extreme_images_give_whole_views(size):
    image = np.full((*size, 3), 77, np.uint8)
    crops = MultiCrop(32, 16, 2, **PLAIN)
    for seed in range(20):
        for view in crops(image, generator(seed)):
            assert view.dtype == np.uint8 and (view == 77).all()
        left, top, w, h = module.sample_crop(*size, (0.05, 0.32), generator(seed))
        assert w >= 1 and h >= 1 and left + w <= size[1] and top + h <= size[0]


def test_a_view_is_the_resized_crop(photo):
    view = MultiCrop(40, 24, 1, **PLAIN)(photo, generator(7))[0]
    left, top, w, h = module.sample_crop(96, 96, (0.32, 1.0), generator(7))
    cropped = Image.fromarray(photo).crop((left, top, left + w, top + h))
    expected = np.asarray(cropped.resize((40, 40), Image.Resampling.BICUBIC))
    assert difference(view, expected) < 0.02
    assert difference(view, photo[:40, :40]) > 5


@pytest.mark.filterwarnings("error")
def test_any_layout_of_an_image_gives_the_same_views(photo):
    fixed = photo.copy()
    fixed.flags.writeable = False
    others = (fixed, np.asfortranarray(photo), np.ascontiguousarray(photo[:, ::-1])[:, ::-1])
    for other in others:
        for ours, expected in zip(
            small_crops()(other, generator()), small_crops()(photo, generator()), strict=True
        ):
            np.testing.assert_array_equal(ours, expected)
            assert ours.flags.c_contiguous and ours.flags.writeable


@pytest.mark.slow
def test_jitter_has_the_spread_of_independent_uniform_factors(photo):
    rng, picture = generator(), Image.fromarray(photo)

    def theirs():
        image = picture
        factors = rng.uniform([0.6, 0.6, 0.8], [1.4, 1.4, 1.2])
        for i in rng.permutation(3):
            kind = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[i]
            image = kind(image).enhance(factors[i])
        return np.asarray(image)

    ours = np.stack([pixels.color_jitter(photo, rng, hue=0) for _ in range(600)]).astype(float)
    others = np.stack([theirs() for _ in range(600)]).astype(float)
    for statistic in (lambda a: a.mean((1, 2, 3)), lambda a: a.std((1, 2, 3))):
        assert statistic(ours).mean() == pytest.approx(statistic(others).mean(), rel=0.04)
        assert statistic(ours).std() == pytest.approx(statistic(others).std(), rel=0.15)


def test_jitter_of_no_strength_changes_nothing(photo):
    assert np.array_equal(pixels.color_jitter(photo, generator(), 0, 0, 0, 0), photo)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_blur_is_a_gaussian(photo, sigma):
    noisy = generator().integers(0, 256, (64, 64, 3)).astype(np.uint8)
    crops = MultiCrop(64, 16, 0, (1.0, 1.0), **{**PLAIN, "blur": (1.0, 0.0, 0.0)}, blur_sigma=(sigma, sigma))
    unblurred = MultiCrop(64, 16, 0, (1.0, 1.0), **PLAIN)
    # An area of 1 fits a square only at aspect 1; the last resort is the whole image.
    ours, sharp = crops(noisy, generator(1))[0], unblurred(noisy, generator(1))[0]
    offsets = np.arange(-8, 9)
    kernel = np.exp(-(offsets**2) / (2 * sigma**2))
    padded = np.pad(sharp.astype(float), ((8, 8), (8, 8), (0, 0)), "edge")
    for axis in (0, 1):
        padded = np.apply_along_axis(np.convolve, axis, padded, kernel / kernel.sum(), "valid")
    assert difference(ours, padded) < 1
    theirs = Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(sigma))
    assert ours.astype(float).std() == pytest.approx(np.asarray(theirs, float).std(), rel=0.1)


@pytest.mark.parametrize("sigma", [0.001, 5.0, 40.0, 1000.0])
def test_blur_of_any_sigma_keeps_the_mean_of_a_flat_image(sigma):
    assert (pixels.gaussian_blur(np.full((20, 30, 3), 200, np.uint8), sigma) == 200).all()


def test_solarize_and_flip_are_pillows(photo):
    assert np.array_equal(pixels.solarize(photo), np.asarray(ImageOps.solarize(Image.fromarray(photo), 128)))
    crops, plain = (MultiCrop(48, 16, 0, **{**PLAIN, "flip": p}) for p in (1.0, 0.0))
    for flipped, view in zip(crops(photo, generator(3)), plain(photo, generator(3)), strict=True):
        assert not ImageChops.difference(
            ImageOps.mirror(Image.fromarray(view)), Image.fromarray(flipped)
        ).getbbox()


def test_each_operation_comes_as_often_as_it_should(photo, monkeypatch):
    count, seen = 1500, {}

    def counting(owner, name, key):
        original = getattr(owner, name)

        def wrapper(*args, **kwargs):
            seen[key] = seen.get(key, 0) + 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    counting(module, "color_jitter", "jitter")
    counting(module, "solarize", "solarize")
    counting(module, "gaussian_blur", "blur")
    counting(module.cv2, "flip", "flip")
    small, rng, grey = photo[:24, :24], generator(), 0
    crops = MultiCrop(8, 8, 1)
    for _ in range(count):
        grey += sum((view == view[..., :1]).all() for view in crops(small, rng))
    shares = {key: value / count for key, value in seen.items()}
    assert shares["flip"] == pytest.approx(3 * 0.5, abs=0.1)
    assert shares["jitter"] == pytest.approx(3 * 0.8, abs=0.1)
    assert shares["blur"] == pytest.approx(1.0 + 0.1 + 0.5, abs=0.1)
    assert shares["solarize"] == pytest.approx(0.2, abs=0.05)
    assert grey / count == pytest.approx(3 * 0.2, abs=0.1)


def test_blur_and_solarize_belong_to_their_views(photo):
    sharp = MultiCrop(32, 16, 3, **PLAIN)(photo, generator(2))
    blurred = MultiCrop(32, 16, 3, **{**PLAIN, "blur": (1.0, 0.0, 0.0)}, blur_sigma=(2, 2))
    assert not np.array_equal(blurred(photo, generator(2))[0], sharp[0])
    inverted = MultiCrop(32, 16, 3, **{**PLAIN, "solarize": 1.0})(photo, generator(2))
    assert np.array_equal(inverted[0], sharp[0])
    assert np.array_equal(inverted[1], pixels.solarize(sharp[1]))


def test_a_seed_decides_everything(photo):
    crops = small_crops()
    one, same, other = (crops(photo, generator(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, same))
    assert not any(map(np.array_equal, one, other))
    assert not np.array_equal(one[0], one[1])


@pytest.mark.parametrize("local_views", [0, 1, 10])
def test_sizes_and_counts(photo, local_views):
    crops = MultiCrop(50, 20, local_views)
    shapes = [view.shape for view in crops(photo, generator())]
    assert shapes == [(50, 50, 3)] * 2 + [(20, 20, 3)] * local_views
    assert crops.count == 2 + local_views


def test_the_defaults_are_the_methods():
    crops = MultiCrop()
    assert (crops.global_size, crops.local_size, crops.local_views) == (224, 96, 10)
    assert (crops.global_scale, crops.local_scale) == ((0.32, 1.0), (0.05, 0.32))
    assert (crops.flip, crops.jitter, crops.grey, crops.solarize) == (0.5, 0.8, 0.2, 0.2)
    assert (crops.jitter_strength, crops.blur) == ((0.4, 0.4, 0.2, 0.1), (1.0, 0.1, 0.5))
    assert crops.blur_sigma == (0.1, 2.0)


def test_normalising_uses_imagenets_constants():
    torch = pytest.importorskip("torch")
    view = torch.tensor([[[0, 128, 255]]], dtype=torch.uint8)
    expected = (np.array([0, 128, 255]) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(normalise(view)[0, 0].numpy(), expected, rtol=1e-5)
    assert torch.equal(normalise(view.double()), view.float())


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"global_size": 0}, "global_size=0: expected at least 1 pixel"),
        ({"local_size": -1}, "local_size=-1"),
        ({"local_views": -1}, "local_views=-1: expected 0 or more"),
        ({"global_scale": (0.0, 1.0)}, r"global_scale=\(0.0, 1.0\): expected 0 < low"),
        ({"local_scale": (0.5, 0.2)}, r"local_scale=\(0.5, 0.2\)"),
        ({"global_scale": (0.5, 1.2)}, r"global_scale=\(0.5, 1.2\)"),
        ({"flip": 1.5}, "flip: 1.5 is not a probability"),
        ({"jitter": -0.1}, "jitter: -0.1"),
        ({"grey": 2}, "grey: 2"),
        ({"solarize": -1}, "solarize: -1"),
        ({"blur": (0.5, 0.5, 1.1)}, "blur: 1.1"),
        ({"blur": (0.5, 0.5)}, "blur"),
        ({"blur_sigma": (0.0, 2.0)}, "blur_sigma"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma"),
        ({"jitter_strength": (0.4, 0.4, 0.2)}, "jitter_strength"),
        ({"jitter_strength": (0.4, 0.4, 0.2, 0.6)}, "jitter_strength"),
        ({"jitter_strength": (-0.4, 0.4, 0.2, 0.1)}, "jitter_strength"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        MultiCrop(**arguments)
