"""What `MaSSL` and `fit` refuse, in words that say what would be taken."""

import keras
import numpy as np
import pytest
import torch
from small_models import pictures, small_cnn, small_crops, small_massl, small_vit

from memssl_keras import MaSSL


@pytest.mark.parametrize(
    "x, words",
    [
        (pictures().astype("int64"), r"x is int64 \(8, 40, 40, 3\): expected images \(N, H, W, 3\) uint8"),
        (pictures() - 300.0, r"x holds floats from -300 to .*: expected 0 … 1, 0 … 255, or uint8"),
        (pictures() / 250.0, r"x holds floats from .* to 1\.\d+: expected 0 … 1, 0 … 255, or uint8"),
        (np.full((8, 40, 40, 3), np.nan), "x holds floats from nan to nan: expected 0 … 1"),
        (pictures()[0], r"x holds uint8 \(40, 40, 3\): expected"),
        (pictures()[..., :1], r"x holds uint8 \(8, 40, 40, 1\): expected"),
        (torch.zeros(8, 3, 40, 40, dtype=torch.uint8), r"\(8, 3, 40, 40\): expected"),
        (pictures(3), "x holds 3 images, fewer than batch_size=4"),
        ([], "x holds 0 images"),
        ("no/photos/", "data='no/photos/': no such file or folder"),
        (None, "x is a NoneType: expected"),
        (iter(pictures()), r"x holds uint8 \(40, 40, 3\): expected images \(N, H, W, 3\)"),
    ],
)
def test_data_of_another_form_is_refused(x, words):
    with pytest.raises(ValueError, match=words):
        small_massl().fit(x, views=small_crops(), batch_size=4, verbose=0)


@pytest.mark.parametrize(
    "batch, words",
    [
        (
            torch.zeros(4, 40, 40, 3),
            r"the loader yields torch.float32 \(4, 40, 40, 3\): expected a batch of images",
        ),
        (torch.zeros(4, 3, 40, 40, dtype=torch.uint8), r"torch.uint8 \(4, 3, 40, 40\): expected"),
        (torch.arange(4), "the loader yields torch.int64"),
    ],
)
def test_a_loader_of_another_form_is_refused(batch, words):
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    with pytest.raises(ValueError, match=words):
        small_massl().fit(loader, views=small_crops(), verbose=0)


def test_columns_of_a_dataset_are_named():
    datasets = pytest.importorskip("datasets")
    blank = datasets.Dataset.from_dict({"label": [1, 2], "text": ["a", "b"]})
    with pytest.raises(ValueError, match=r"0 image columns \(none\) among label, text"):
        small_massl().fit(blank, batch_size=2, verbose=0)
    features = datasets.Features({"a": datasets.Image(), "b": datasets.Image()})
    two = datasets.Dataset.from_dict({"a": list(pictures(2)), "b": list(pictures(2))}, features=features)
    with pytest.raises(ValueError, match=r"2 image columns \(a, b\)"):
        small_massl().fit(two, batch_size=2, verbose=0)


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken.png"):
        small_massl().fit([tmp_path / "broken.png"] * 4, views=small_crops(), batch_size=4, verbose=0)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"block_size": 15}, "block_size=15 does not divide memory size=40"),
        ({"teacher_momentum": 1.1}, "teacher_momentum=1.1: expected a number in 0 … 1"),
        ({"teacher_momentum": -0.1}, "teacher_momentum=-0.1"),
        ({"teacher_temperature": 0}, "teacher_temperature=0: expected a positive number"),
        ({"student_temperature": 0}, "student_temperature=0: expected a positive number"),
        ({"koleo_weight": -1}, "koleo_weight=-1: expected 0 or more"),
    ],
)
def test_numbers_outside_their_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        small_massl(**arguments)


def test_an_encoder_that_is_not_built_is_refused():
    encoder = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(8)], name="unbuilt")
    with pytest.raises(ValueError, match="encoder=unbuilt: expected a built Keras model"):
        MaSSL(encoder)


def test_an_encoder_that_gives_maps_is_refused():
    cnn = small_cnn()
    maps = keras.Model(cnn.input, cnn.get_layer("deep").output, name="maps")
    with pytest.raises(
        ValueError, match=r"encoder=maps: expected .* \(B, D\), and this one gives \(None, 7, 7, 12\)"
    ):
        MaSSL(maps)


def test_koleo_needs_two_images():
    views = [np.zeros((1, 32, 32, 3), "float32")] * 2
    with pytest.raises(ValueError, match="KoLeo needs at least 2"):
        small_massl(small_vit(), koleo_weight=0.1).fit(views, batch_size=1, verbose=0)


@pytest.mark.parametrize(
    "option, words",
    [
        ({"shuffle": False}, "shuffle=False: expected True"),
        ({"class_weight": {0: 2.0}}, "class_weight: expected none"),
        ({"sample_weight": np.ones(8)}, "sample_weight: expected none"),
    ],
)
def test_options_without_a_meaning_here_are_refused(option, words):
    with pytest.raises(ValueError, match=words):
        small_massl().fit(pictures(), views=small_crops(), batch_size=4, verbose=0, **option)


def test_options_that_say_what_happens_anyway_are_taken():
    model = small_massl()
    model.fit(pictures(), views=small_crops(), batch_size=4, verbose=0, shuffle=True, class_weight=None)
    assert model.step == 2
