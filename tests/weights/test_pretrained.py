"""A folder gives its encoder back, bit for bit, or says what is wrong with it."""

import json
import pathlib

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_models import pictures, rich_vit, same_weights, small_cnn, small_vit

from memssl_keras import from_pretrained, save_pretrained
from memssl_keras.files import replace_file
from memssl_keras.images import Preprocessing


@pytest.fixture
def saved(tmp_path):
    encoder = rich_vit(drop_path=0.2, mlp_ratio=3.0)
    encoder.save_pretrained(tmp_path)
    return encoder, tmp_path


def test_a_vit_comes_back_bit_for_bit(saved):
    encoder, folder = saved
    twin = from_pretrained(folder)
    assert same_weights(encoder, twin)
    ours, theirs = encoder.get_config(), twin.get_config()
    assert {k: v for k, v in ours.items() if k not in ("name", "preprocessing")} == {
        k: v for k, v in theirs.items() if k not in ("name", "preprocessing")
    }
    np.testing.assert_array_equal(encoder.embed(pictures(3)), twin.embed(pictures(3)))


def test_weights_carry_torchs_names_and_layouts(saved):
    state = load_file(saved[1] / "model.safetensors")
    assert state["patch_embed.proj.weight"].shape == (24, 3, 8, 8)
    assert state["blocks.1.attn.qkv.weight"].shape == (72, 24)
    assert state["register_tokens"].shape == (1, 2, 24)
    assert {"cls_token", "pos_embed", "norm.weight", "blocks.0.ls1.gamma"} <= set(state)


def test_another_keras_model_comes_back(tmp_path):
    cnn, preprocessing = small_cnn(), Preprocessing(32, 36, "bilinear")
    save_pretrained(cnn, tmp_path, preprocessing=preprocessing)
    twin = from_pretrained(tmp_path)
    assert same_weights(cnn, twin)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "keras" and config["preprocessing"]["resize_size"] == 36
    assert twin.preprocess == preprocessing
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    np.testing.assert_array_equal(twin(x).detach().numpy(), cnn(x, training=False).detach().numpy())


def test_the_preprocessing_stays_with_the_encoder(tmp_path):
    settings = Preprocessing(32, 40, "bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    small_vit(preprocessing=settings.to_dict()).save_pretrained(tmp_path)
    assert from_pretrained(tmp_path).preprocess == settings
    from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    assert from_pretrained(tmp_path / "again").preprocess == settings


@pytest.mark.parametrize("size, resize", [(32, 32), (64, 64), (128, 146), (224, 256)])
def test_the_default_preprocessing_crops_large_images_only(size, resize):
    settings = small_vit(image_size=size, patch_size=16).preprocess
    assert (settings.image_size, settings.resize_size) == (size, resize)


def test_half_precision_weights_are_read(saved):
    encoder, folder = saved
    state = {k: v.astype("float16") for k, v in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    for ours, theirs in zip(from_pretrained(folder).get_weights(), encoder.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_named(saved, share):
    path = saved[1] / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged or not a safetensors file"):
        from_pretrained(saved[1])


def test_missing_unexpected_and_misshapen_weights_are_all_named(saved):
    path = saved[1] / "model.safetensors"
    state = load_file(path)
    del state["cls_token"], state["blocks.0.norm1.bias"]
    state |= {"head.weight": np.zeros(3, "float32"), "pos_embed": np.zeros((1, 10, 24), "float32")}
    state["norm.weight"] = np.zeros((24, 1), "float32")
    save_file(state, path)
    with pytest.raises(ValueError) as error:
        from_pretrained(saved[1])
    for words in (
        "model.safetensors does not fit the model",
        "missing cls_token",
        "missing blocks.0.norm1.bias",
        "unexpected head.weight",
        "pos_embed has shape (1, 10, 24), expected (1, 17, 24)",
        "norm.weight has shape (24, 1), expected (24,)",
    ):
        assert words in str(error.value)


def test_missing_weights_and_folders_are_named(saved, tmp_path):
    (saved[1] / "model.safetensors").unlink()
    with pytest.raises(
        ValueError, match=r"model\.safetensors: no such file; the folder holds no Keras weights"
    ):
        from_pretrained(saved[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        from_pretrained(tmp_path / "empty")
    with pytest.raises(
        ValueError, match="model: got 'no-such-model'; expected the folder of a saved encoder"
    ):
        from_pretrained("no-such-model")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"format_version": 99}, "format_version is 99; this version of memssl-keras reads 2"),
        ({"model_type": "bert"}, "model_type='bert'; expected 'vit' or 'keras'"),
        ({"preprocessing": {}}, "preprocessing: image_size.* missing"),
    ],
)
def test_a_config_of_another_kind_is_refused(saved, change, words):
    path = saved[1] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=words):
        from_pretrained(saved[1])


def test_an_interrupted_save_leaves_the_old_files_whole(saved, monkeypatch):
    encoder, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        rich_vit().save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert same_weights(from_pretrained(folder), encoder)


def test_replace_file_makes_folders_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a" / "b.txt"
    replace_file(path, lambda p: p.write_text("one"))
    replace_file(path, lambda p: p.write_text("two"))
    assert path.read_text() == "two" and len(list(path.parent.iterdir())) == 1


def test_embed_takes_what_the_onnx_encoder_takes(tmp_path):
    from PIL import Image

    encoder, images = rich_vit(), pictures(5)
    Image.fromarray(images[0]).save(tmp_path / "one.png")
    expected = encoder.embed(images)
    assert expected.shape == (5, 24)
    np.testing.assert_allclose(encoder.embed(images, batch_size=2), expected, atol=1e-6)
    singles = (images[0], Image.fromarray(images[0]), tmp_path / "one.png", str(tmp_path / "one.png"))
    for single in (*singles, (tmp_path / "one.png").read_bytes()):
        np.testing.assert_allclose(encoder.embed(single), expected[:1], atol=1e-6)
    np.testing.assert_allclose(encoder.embed(image for image in images), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.embed(list(images)), expected, atol=1e-6)
    assert encoder.embed([]).shape == (0, 24)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "EfficientNetB0",
        "ConvNeXtTiny",
        "MobileNetV2",
        "MobileNetV3Small",
        "DenseNet121",
        "Xception",
        "ResNet50V2",
        "VGG16",
        "InceptionV3",
        "EfficientNetV2B0",
    ],
)
def test_every_family_of_keras_applications_comes_back(tmp_path, name):
    """Also in a process that has made the same architecture before, which numbers its layers on.

    NASNet is missing: Keras does not build it on torch.
    """
    make = getattr(keras.applications, name)
    make(weights=None, include_top=False, pooling="avg")
    model = make(weights=None, include_top=False, pooling="avg")
    save_pretrained(model, tmp_path)
    again = from_pretrained(tmp_path)
    pixels = np.random.default_rng(0).random((1, 224, 224, 3), "float32")
    np.testing.assert_array_equal(again.predict_on_batch(pixels), model.predict_on_batch(pixels))


def test_a_model_that_does_not_come_back_is_not_written(tmp_path):
    class Mine(keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, Mine(2.0)(keras.layers.GlobalAveragePooling2D()(inputs)))
    with pytest.raises(ValueError, match="cannot be saved, as it does not come back .* get_config"):
        save_pretrained(model, tmp_path / "model")
    assert not (tmp_path / "model").exists()
