"""Preprocessing against a plain resize, crop and normalise, and against what nobody should pass."""

import io
import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.images import Preprocessing
from memssl_keras.images.read import open_picture

AS_IS = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def noise(width, height):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (333, 499), (64, 64), (30, 100), (256, 300), (1, 1), (20, 100)]
)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_equals_resizing_everything_and_cropping(size, interpolation):
    image = Image.fromarray(noise(*size))
    width, height = (int(256 * side / min(size)) for side in size)
    left, top = round((width - 224) / 2), round((height - 224) / 2)
    whole = image.resize((width, height), getattr(Image.Resampling, interpolation.upper()))
    expected = np.asarray(whole.crop((left, top, left + 224, top + 224)), float)
    got = 255 * Preprocessing(interpolation=interpolation, **AS_IS)(image)
    if max(size) <= 4 * min(size):
        np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.abs(got - expected).max() < 1.01  # the box is in single precision: a rounding here and there
    assert np.abs(got - expected).mean() < 5e-3


def test_leaves_pixels_of_the_right_size_alone():
    image = noise(40, 32)
    got = 255 * Preprocessing(image_size=32, resize_size=32, **AS_IS)(image)
    assert np.allclose(got, image[:, 4:36], atol=1e-4)


def smooth(width, height):
    """A picture without detail that a resize could lose, whose sides tell left from right and top from bottom."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = [x, y, (1 + np.sin(9 * x + 5 * y)) / 2]
    return Image.fromarray((40 + 175 * np.stack(waves, -1)).astype(np.uint8))


def turned_jpeg(image, orientation):
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(file, "JPEG", quality=98, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "settings", [{"resize_size": 36}, {"resize_size": 32}, {"resize_size": 32, "squash": True}]
)
def test_scaled_decoding_shows_the_same_part_of_the_picture(orientation, settings):
    """Of sides that 8 does not divide, the last row and column lie partly outside."""
    preprocess = Preprocessing(image_size=32, **settings, **AS_IS)
    for size in ((1289, 1025), (1033, 1601), (4201, 1027)):
        jpeg = turned_jpeg(smooth(*size), orientation)
        assert max(open_picture(jpeg, 4 * 32).pixels.size) < max(size) / 3
        apart = 255 * np.abs(preprocess(jpeg) - preprocess(jpeg, scaled_decoding=False))
        assert apart.max() < 2 and apart.mean() < 0.5


@pytest.mark.parametrize("side, least", [(32, 128), (127, 508), (128, 256), (224, 448)])
def test_how_far_a_jpeg_may_be_scaled_down_while_it_is_decoded(side, least, monkeypatch):
    asked = []

    def spy(source, least=None):
        asked.append(least)
        return open_picture(source, least)

    monkeypatch.setattr("memssl_keras.images.preprocess.open_picture", spy)
    preprocess = Preprocessing(image_size=side, resize_size=side, **AS_IS)
    preprocess(noise(300, 300))
    preprocess(noise(300, 300), scaled_decoding=False)
    assert asked == [least, None]


def test_pictures_whose_margins_are_trimmed_are_decoded_whole():
    jpeg = turned_jpeg(smooth(1289, 1025), 1)
    preprocess = Preprocessing(image_size=32, resize_size=32, trim=0.1, **AS_IS)
    np.testing.assert_array_equal(preprocess(jpeg), preprocess(jpeg, scaled_decoding=False))


@pytest.mark.parametrize("side", [1000, 1300])
def test_scaled_decoding_never_enlarges(side):
    """A small crop of a large resize: a picture of half the size would have to grow again."""
    preprocess = Preprocessing(image_size=32, resize_size=1000, **AS_IS)
    jpeg = turned_jpeg(Image.fromarray(noise(side, side)), 1)
    np.testing.assert_array_equal(preprocess(jpeg), preprocess(jpeg, scaled_decoding=False))


def test_normalises_each_channel():
    preprocess = Preprocessing(image_size=2, resize_size=2, mean=(0.1, 0.2, 0.3), std=(0.1, 0.2, 0.5))
    got = preprocess(np.full((2, 2, 3), 51, np.uint8))
    assert got.dtype == np.float32
    assert np.allclose(got, [1.0, 0.0, -0.2], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 4000, 3), (40000, 1, 3)])
def test_extreme_aspect_ratios_stay_small(shape):
    preprocess = Preprocessing()
    image = np.full(shape, 255, np.uint8)
    tracemalloc.start()
    got = preprocess(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.shape == (224, 224, 3) and np.allclose(got, got[0, 0])
    assert peak < 20 * got.nbytes


def test_batch_stacks():
    preprocess = Preprocessing(image_size=8, resize_size=8)
    images = [noise(8, 8), noise(20, 9)]
    batch = preprocess.batch(images)
    assert np.array_equal(batch[0], preprocess(images[0])) and np.array_equal(batch[1], preprocess(images[1]))
    assert preprocess.batch([]).shape == (0, 8, 8, 3)


def test_survives_json():
    preprocess = Preprocessing(image_size=32, resize_size=36, interpolation="bilinear", mean=(0.5, 0.4, 0.3))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


def test_names_missing_and_unknown_keys():
    settings = Preprocessing().to_dict()
    with pytest.raises(ValueError, match="std missing; expected image_size"):
        Preprocessing.from_dict({key: value for key, value in settings.items() if key != "std"})
    with pytest.raises(ValueError, match="unknown crop; expected image_size"):
        Preprocessing.from_dict(settings | {"crop": 3})
    with pytest.raises(ValueError, match="preprocessing: got None"):
        Preprocessing.from_dict(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image_size: got 0"),
        ({"image_size": 2.5}, "image_size: got 2.5"),
        ({"resize_size": True}, "resize_size: got True"),
        ({"resize_size": 100}, r"resize_size: got 100; expected at least image_size \(224\)"),
        ({"interpolation": "area"}, "interpolation: got 'area'; expected 'bilinear' or 'bicubic'"),
        ({"mean": (0.5, 0.5)}, r"mean: got \(0.5, 0.5\)"),
        ({"mean": None}, "mean: got None"),
        ({"mean": (0, 0, float("nan"))}, "mean: got"),
        ({"std": (1, 1, 0)}, r"std: got \(1.0, 1.0, 0.0\); expected numbers greater than 0"),
    ],
)
def test_refuses_bad_values(settings, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**settings)


def test_squashed_pictures_are_whole():
    settings = Preprocessing(24, 24, "bilinear", squash=True)
    (picture,) = pictures(1, size=60)
    wide = picture[:31]
    resized = Image.fromarray(wide).resize((24, 24), Image.Resampling.BILINEAR)
    expected = (np.asarray(resized, "float32") / 255 - np.float32(settings.mean)) / np.float32(settings.std)
    np.testing.assert_array_equal(settings(wide), expected)
    assert Preprocessing.from_dict(settings.to_dict()) == settings
    assert "squash" not in Preprocessing().to_dict()
    with pytest.raises(ValueError, match="resize_size: got 30; with squash expected image_size"):
        Preprocessing(24, 30, squash=True)
    with pytest.raises(ValueError, match="squash: got 1; expected true or false"):
        Preprocessing(24, 24, squash=1)


def test_squashed_pictures_in_the_graph(tmp_path):
    """Within the bounds that hold for pictures that are cropped."""
    import onnx
    import onnxruntime

    from memssl_keras.export.raw_pixels import preprocessing_graph

    for settings in (Preprocessing(24, 24, squash=True), Preprocessing(24, 24, "bilinear", squash=True)):
        onnx.save(preprocessing_graph(settings), tmp_path / "graph.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "graph.onnx", providers=["CPUExecutionProvider"])
        for picture in (pictures(1, size=60)[0][:31], pictures(1, size=16)[0][:, :9]):
            (given,) = session.run(None, {"image": picture[None]})
            difference = np.abs(given[0].transpose(1, 2, 0) - settings(picture)) * settings.std * 255
            assert difference.max() < 2.01 and difference.mean() < 0.2


@pytest.mark.parametrize(
    "settings, size, expected",
    [
        ({"image_size": 224, "resize_size": 256}, 448, (448, 512)),
        ({"image_size": 32, "resize_size": 35}, 48, (48, 52)),
        ({"image_size": 64, "resize_size": 64, "squash": True, "trim": 0.1}, 30, (30, 30)),
        ({"image_size": 30, "resize_size": 30}, 30, (30, 30)),  # its own, whatever the patch
    ],
)
def test_another_image_size_keeps_the_proportion(settings, size, expected):
    before = Preprocessing(**settings, mean=(0.1, 0.2, 0.3))
    after = before.at(size, patch_size=1 if size != before.image_size else 16)
    assert (after.image_size, after.resize_size) == expected
    assert (after.squash, after.trim, after.mean) == (before.squash, before.trim, before.mean)


@pytest.mark.parametrize("size", [0, -32, 2.5, True, "32", None])
def test_an_image_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=f"image_size={size!r}: expected a number of pixels of at least 1"):
        Preprocessing().at(size)
