"""Preprocessing as a layer: the numbers of an encoder's own, and fine-tuning that needs no constants."""

import keras
import numpy as np
import pytest
from small_models import small_cnn, small_vit

from memssl_keras import Encoder, from_pretrained
from memssl_keras.encoders import PreprocessingLayer
from memssl_keras.images import Preprocessing

SIZES = [(375, 500), (500, 375), (64, 64), (30, 100), (256, 300), (7, 5), (20, 300)]
SETTINGS = [
    Preprocessing(),
    Preprocessing(interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    Preprocessing(64, 64),
    Preprocessing(48, 48, squash=True),
]


def noise(height, width, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def levels(pixels, preprocessing):
    """Normalised pixels as levels of 0 … 255 again."""
    return 255 * (pixels * np.float32(preprocessing.std) + np.float32(preprocessing.mean))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("preprocessing", SETTINGS)
def test_it_gives_what_preprocessing_gives(preprocessing, size):
    images = noise(*size)
    expected = levels(preprocessing.batch(images), preprocessing)
    for given in (images, images.astype("float32")):
        got = keras.ops.convert_to_numpy(PreprocessingLayer(preprocessing)(given))
        assert got.shape == expected.shape and got.dtype == np.float32
        difference = np.abs(levels(got, preprocessing) - expected)
        assert (
            difference.max() < 1.01 and difference.mean() < 5e-3
        )  # a level here and there, as Pillow rounds


def test_features_are_those_of_embed():
    encoder, images = from_pretrained("massl_resnet14.cifar10"), noise(90, 70, 6)
    features = keras.ops.convert_to_numpy(encoder(encoder.preprocessing_layer()(images)))
    vectors = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert (vectors * encoder.embed(images)).sum(1).min() > 0.9995


def classifier(encoder):
    pictures = keras.Input((None, None, 3))
    features = encoder(encoder.preprocessing_layer()(pictures))
    model = keras.Model(pictures, keras.layers.Dense(2, activation="softmax")(features))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize("encoder", [small_vit(), Encoder.wrap(small_cnn())], ids=["ViT", "CNN"])
def test_a_dense_head_is_fine_tuned_on_pictures_as_they_are(tmp_path, encoder):
    labels = np.arange(16) % 2
    images = (noise(50, 40, 16) // 2 + 100 * labels[:, None, None, None]).astype("uint8")
    model = classifier(encoder)
    before = [w.numpy().copy() for w in encoder.trainable_weights]
    model.fit(images, labels, batch_size=8, epochs=12, verbose=0)
    assert model.evaluate(images, labels, verbose=0)[1] > 0.9
    assert any(
        not np.array_equal(b, w.numpy()) for b, w in zip(before, encoder.trainable_weights, strict=True)
    )
    model.save(tmp_path / "tuned.keras")
    again = keras.saving.load_model(tmp_path / "tuned.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), model.predict(images, verbose=0))


def test_it_comes_back_from_its_configuration():
    layer = PreprocessingLayer(Preprocessing(64, 72, "bilinear"), name="before")
    again = PreprocessingLayer.from_config(layer.get_config())
    assert again.preprocessing == layer.preprocessing and again.name == "before"
    assert not layer.weights


def test_half_precision_leaves_the_pixels_alone():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        layer = PreprocessingLayer(Preprocessing(32, 32))
        got = layer(noise(32, 32).astype("float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    expected = Preprocessing(32, 32).batch(noise(32, 32))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(got), expected, atol=1e-6)


def test_what_it_cannot_take_is_refused():
    layer = PreprocessingLayer(Preprocessing(32, 32))
    with pytest.raises(ValueError, match="floats of at most 1; expected 0 … 255 or uint8, so multiply"):
        layer(noise(32, 32) / np.float32(255))
    with pytest.raises(ValueError, match=r"images: got shape \(1, 32, 32, 1\); expected \(B, H, W, 3\)"):
        layer(np.zeros((1, 32, 32, 1), "uint8"))
    with pytest.raises(ValueError, match="trim=0.1: .* expected pictures through encoder.preprocess.batch"):
        PreprocessingLayer(Preprocessing(32, 32, trim=0.1))
    np.testing.assert_array_equal(layer(np.zeros((1, 32, 32, 3), "float32")).shape, (1, 32, 32, 3))
