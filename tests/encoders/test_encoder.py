"""What every encoder shares: what of it is trained, its precision, and what `embed` and `wrap` take."""

import keras
import numpy as np
import pytest
from small_models import pictures, small_cnn, small_massl, small_vit

from memssl_keras import Encoder, OnnxEncoder, ResNet, ViT, export_onnx, from_pretrained
from memssl_keras.images import Preprocessing


def small_resnet(**settings):
    return ResNet((1, 1), 8, "cifar", whitening={"rank": 4}, **settings)


KINDS = pytest.mark.parametrize("make", [small_resnet, small_vit, small_cnn])


def classifier_of(encoder):
    inputs = keras.Input((32, 32, 3))
    model = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(encoder(inputs)))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def weights_of(model):
    encoder = next(layer for layer in model.layers if isinstance(layer, Encoder))
    return encoder, [v.numpy() for v in encoder.weights]


@KINDS
def test_a_frozen_encoder_is_frozen_when_it_is_loaded(make, tmp_path):
    encoder = Encoder.wrap(make())
    encoder.trainable = False
    classifier_of(encoder).save(tmp_path / "frozen.keras")
    model = keras.saving.load_model(tmp_path / "frozen.keras")
    assert len(model.trainable_variables) == 2
    loaded, before = weights_of(model)
    model.fit(pictures(8, 32) / 255, np.arange(8) % 2, verbose=0)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, loaded.weights, strict=True))


@pytest.mark.parametrize("make", [small_resnet, small_vit])
def test_layers_that_are_frozen_stay_so(make):
    encoder = make()
    first = next(layer for layer in encoder.layers if layer.weights)
    first.trainable = False
    twin = type(encoder).from_config(encoder.get_config())
    assert [v.path.split("/", 1)[1] for v in twin.trainable_variables] == [
        v.path.split("/", 1)[1] for v in encoder.trainable_variables
    ]
    assert 0 < len(twin.trainable_variables) < len(make().trainable_variables)


@KINDS
def test_what_is_frozen_is_not_of_a_saved_encoder(make, tmp_path):
    encoder = Encoder.wrap(make())
    expected = len(encoder.trainable_variables)
    if not hasattr(encoder, "model"):
        encoder.trainable = False
    encoder.save_pretrained(tmp_path)
    assert len(from_pretrained(tmp_path).trainable_variables) == expected


@KINDS
def test_pretraining_refuses_an_encoder_that_is_frozen(make):
    encoder = make()
    encoder.trainable = False
    with pytest.raises(ValueError, match=r"encoder=\w+: all of it is frozen; .*encoder.trainable = True"):
        small_massl(encoder)


@pytest.mark.parametrize("make", [small_resnet, small_vit])
def test_the_global_precision_is_that_of_an_encoder(make, tmp_path):
    make().save_pretrained(tmp_path)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for encoder in (make(), from_pretrained(tmp_path)):
            convolution = next(
                layer for layer in encoder._flatten_layers() if isinstance(layer, keras.layers.Conv2D)
            )
            assert encoder.compute_dtype == convolution.compute_dtype == "bfloat16"
            assert encoder.dtype_policy.name == "mixed_bfloat16" and convolution.kernel.dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    assert make().compute_dtype == from_pretrained(tmp_path).compute_dtype == "float32"


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_batch_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=f"batch_size: got {size}; expected a whole number of at least 1"):
        small_vit().embed(pictures(2), batch_size=size)


def test_both_engines_embed_a_folder(tmp_path):
    encoder, folder = ViT(32, 1, 2, 16, 32), tmp_path / "pictures" / "below"
    folder.mkdir(parents=True)
    for name, picture in zip("ba", pictures(2), strict=True):
        keras.utils.save_img(folder / f"{name}.png", picture, scale=False)
    export_onnx(encoder, tmp_path / "model")
    expected = encoder.embed([folder / "a.png", folder / "b.png"])
    np.testing.assert_array_equal(encoder.embed(folder.parent), expected)
    running = OnnxEncoder.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(running.embed(str(folder.parent)), expected, atol=1e-5)


def test_preprocessing_is_checked_where_it_is_given():
    model = small_cnn()
    model = getattr(model, "model", model)
    with pytest.raises(ValueError, match="image_size, resize_size, interpolation, mean, std missing"):
        Encoder.wrap(model, preprocessing={"size": 64})
    assert Encoder.wrap(model, Preprocessing(64, 64).to_dict()).preprocess.image_size == 64


def test_a_model_without_an_output_shape_is_refused():
    class Mean(keras.Model):
        def call(self, images):
            return keras.ops.mean(images, axis=(1, 2))

    model = Mean()
    model(np.zeros((1, 8, 8, 3), "float32"))
    with pytest.raises(
        ValueError, match="expected a built Keras model, functional or sequential, .* gives None"
    ):
        Encoder.wrap(model)
