"""The residual networks: sizes, shapes, what is refused, saving, and a recipe's encoder."""

import keras
import numpy as np
import pytest
import torch
from rounding import assert_within_rounding
from small_models import pictures, small_crops, small_massl

from memssl_keras import Recipe, ResNet, from_pretrained, save_pretrained
from memssl_keras.encoders.layers import Convolution, GridPooling2D, MapNorm
from memssl_keras.export.session import open_session
from memssl_keras.zoo.parity import check_parity

PIXELS = {
    "image_size": 32,
    "resize_size": 36,
    "interpolation": "bilinear",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}


@pytest.mark.slow
@pytest.mark.parametrize("stem, halvings", [("cifar", 3), ("half", 4), ("quarter", 5), ("imagenet", 5)])
def test_it_is_the_published_eighteen_layers(stem, halvings):
    encoder = ResNet(stem=stem)
    weights = [w for w in encoder.trainable_weights if w.ndim == 4]
    assert len(weights) == 17 + 3  # the eighteenth is the classifier; three shortcuts change the width
    first = {"cifar": 3, "half": 3, "quarter": 7, "imagenet": 7}[stem]
    of_torchvision = 11_689_512 - 513_000 - 7 * 7 * 3 * 64  # without its classifier and its stem
    assert sum(int(np.prod(w.shape)) for w in encoder.trainable_weights) == of_torchvision + first**2 * 3 * 64
    assert encoder.output_shape == (None, 512)
    size = 2**halvings
    for height, width in ((size, size), (2 * size, 3 * size)):
        with torch.no_grad():
            assert encoder(np.zeros((2, height, width, 3), "float32"), training=False).shape == (2, 512)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"stem": "square"}, "stem='square': expected 'imagenet', 'cifar', 'half' or 'quarter'"),
        ({"blocks": ()}, "expected numbers of at least 1"),
        ({"blocks": (1, 0)}, "expected numbers of at least 1"),
        ({"width": 0}, "width=0: expected numbers of at least 1"),
        (
            {"pooling_grid": 0},
            "pooling_grid=0: expected a whole number of at least 1, or 4 of at least 0, one for each stage",
        ),
        ({"pooling_grid": (1, 2)}, r"pooling_grid=\(1, 2\): expected a whole number of at least 1, or 4 of"),
        ({"pooling_grid": (0, 0, 0, 0)}, "expected .* not all of them 0"),
        ({"pooling_grid": (1, 2, -1, 1)}, "expected a whole number of at least 1"),
        ({"pooling_grid": (1, 2, 0.5, 1)}, "expected a whole number of at least 1"),
        ({"pooling_grid": 2.0}, "pooling_grid=2.0: expected a whole number of at least 1"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**settings)


def test_it_trains_and_comes_back_from_its_folder(tmp_path):
    recipe = Recipe(
        "r", {"blocks": (1, 1), "width": 8, "stem": "cifar", "preprocessing": PIXELS}, family="resnet"
    )
    model = small_massl(recipe.build_encoder(), batch_norm=True)
    model.fit(pictures(16), views=small_crops(), batch_size=8, epochs=1, verbose=0)
    save_pretrained(model.encoder, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.preprocessing["resize_size"] == 36
    np.testing.assert_array_equal(again.embed(pictures(3)), model.encoder.embed(pictures(3)))
    with pytest.raises(ValueError, match="family='cnn': expected 'vit', 'resnet' or 'init'"):
        Recipe("r", {}, family="cnn")


@pytest.mark.numeric
@pytest.mark.parametrize("height, width, cells", [(6, 6, 3), (8, 8, 3), (5, 7, 2), (2, 3, 4)])
def test_cells_are_means_over_equal_parts(height, width, cells):
    """Each pixel is cut into squares so small that every one lies in one cell."""
    maps = torch.tensor(np.random.default_rng(0).normal(size=(2, height, width, 5)).astype("float32"))

    def means(maps):
        fine = maps.repeat_interleave(cells, 1).repeat_interleave(cells, 2)
        return {"cells": fine.reshape(2, cells, height, cells, width, 5).mean((2, 4)).reshape(2, -1)}

    assert_within_rounding({"cells": GridPooling2D(cells)(maps)}, means, maps)
    encoder = ResNet((1, 1), 8, "cifar", pooling_grid=cells)
    assert encoder.output_shape == (None, 16 * cells**2)
    with torch.no_grad():
        assert encoder(np.zeros((2, 4 * height, 4 * width, 3), "float32")).shape == (2, 16 * cells**2)


@pytest.mark.numeric
@pytest.mark.parametrize("cells, stages", [((2, 1, 3), (2, 1, 0)), ((1, 0, 2), (2, 0)), ((0, 3, 0), (1,))])
def test_cells_of_every_stage(cells, stages):
    """The last stage's come first; a stage of no cells is left out."""
    keras.utils.set_random_seed(0)
    encoder = ResNet((1, 1, 1), 8, "cifar", pooling_grid=cells)
    outputs = [encoder.get_layer(f"stage_{stage}_block_0_relu_2").output for stage in stages]
    images = np.random.default_rng(0).normal(size=(2, 12, 12, 3)).astype("float32")
    with torch.no_grad():
        expected = [
            GridPooling2D(cells[stage])(keras.Model(encoder.input, output)(images))
            for stage, output in zip(stages, outputs, strict=True)
        ]
        features = encoder(images)
    assert features.shape == (2, sum(8 * 2**stage * cells[stage] ** 2 for stage in stages))
    np.testing.assert_allclose(features, torch.cat(expected, 1), atol=1e-6)


@pytest.mark.numeric
@pytest.mark.parametrize("training", [False, True])
def test_its_layers_are_those_of_keras(training):
    """Output, gradients and moving statistics of the layers that it is made of, beside Keras's own."""
    images = torch.tensor(np.random.default_rng(0).normal(1, 2, (3, 9, 8, 4)).astype("float32"))
    own = [Convolution(8, 3, strides=2), MapNorm()]
    keras_own = [
        keras.layers.Conv2D(8, 3, 2, use_bias=False, data_format="channels_last"),
        keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
    ]
    padded = torch.nn.functional.pad(images, (0, 0, 1, 1, 1, 1))
    for layers in (own, keras_own):
        for layer, shape in zip(layers, [images.shape, (None, 5, 4, 8)], strict=True):
            layer.build(shape)
    for weight, values in (("gamma", (0.5, 2)), ("beta", (-1, 1)), ("moving_mean", (-1, 1))):
        getattr(own[1], weight).assign(np.linspace(*values, 8))
    results = []
    for mine, theirs in zip(own, keras_own, strict=True):
        theirs.set_weights(mine.get_weights())
    for (convolution, norm), x in ((own, images), (keras_own, padded)):
        out = norm(convolution(x), training=training)
        weights = [convolution.kernel.value, norm.gamma.value, norm.beta.value]
        gradients = torch.autograd.grad((out**3).sum(), weights)
        moving = norm.moving_mean.value, norm.moving_variance.value
        results.append([value.detach() for value in (out, *gradients, *moving)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-5 * float(theirs.abs().max()), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("cells", [3, (2, 3)])
def test_cells_are_exported_for_pictures_of_any_size(tmp_path, cells):
    encoder = ResNet((1, 1), 8, "half", pooling_grid=cells, preprocessing=PIXELS)
    save_pretrained(encoder, tmp_path, exports=["fp32", "int8"])
    session = open_session(tmp_path / "onnx" / "model.onnx")
    for height, width in ((24, 24), (20, 44), (9, 64)):
        images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("float32")
        (features,) = session.run(["pooler_output"], {"pixel_values": images.transpose(0, 3, 1, 2)})
        with torch.no_grad():
            np.testing.assert_allclose(features, encoder(images, training=False), atol=1e-4)


def test_half_the_bytes(tmp_path):
    encoder = ResNet((1, 1), 8, "half", pooling_grid=3, preprocessing=PIXELS)
    save_pretrained(encoder, tmp_path / "whole")
    save_pretrained(encoder, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert 0.4 < sizes[1] / sizes[0] < 0.65  # with the names
    again = from_pretrained(tmp_path / "half")
    assert all(str(weight.dtype) == "float32" for weight in again.weights)
    np.testing.assert_allclose(again.embed(pictures(3)), encoder.embed(pictures(3)), atol=1e-3)
    encoder.weights[0].assign(np.full(encoder.weights[0].shape, 1e5))
    with pytest.raises(
        ValueError, match="half=True: stem/kernel is beyond float16, whose largest number is 65504"
    ):
        save_pretrained(encoder, tmp_path / "half", half=True)
    np.testing.assert_array_equal(
        from_pretrained(tmp_path / "half").embed(pictures(3)), again.embed(pictures(3))
    )


@pytest.mark.slow
def test_exports_beside_half_the_bytes_are_of_those_weights(tmp_path):
    save_pretrained(
        ResNet((1, 1), 8, "half", pooling_grid=3, preprocessing=PIXELS),
        tmp_path,
        exports=["fp32", "keras"],
        half=True,
    )
    assert max(check_parity(tmp_path).values()) < 1e-4


@pytest.mark.numeric
def test_cells_have_the_same_borders_in_bfloat16():
    maps = np.random.default_rng(0).uniform(size=(1, 300, 7, 4)).astype("float32")
    pooled = [np.asarray(GridPooling2D(3, dtype=kind)(maps).float()) for kind in ("float32", "bfloat16")]
    np.testing.assert_allclose(pooled[1], pooled[0], rtol=0.02)


NARROW = """
import sys
import numpy as np, torch
from memssl_keras.encoders import Convolution

torch.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
for width in (4, 6, 12):
    layer = Convolution(2 * width, 1, strides=2)
    layer.build((None, None, None, width))
    for _ in range(20):
        x = rng.normal(size=(8, 12, 12, width)).astype("float32")
        layer(torch.from_numpy(x)).pow(2).sum().backward()
        gradient, kernel = layer.kernel.value.grad.numpy(), layer.kernel.numpy()[0, 0].astype(float)
        pixels = x[:, ::2, ::2].reshape(-1, width).astype(float)
        np.testing.assert_allclose(gradient[0, 0], 2 * pixels.T @ (pixels @ kernel), rtol=1e-3, atol=1e-2)
        layer.kernel.value.grad = None
print("right")
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("instructions", ["AVX2", "AVX512_CORE"])
def test_narrow_shortcuts_have_right_gradients_on_every_processor(instructions, threads):
    import os
    import subprocess
    import sys

    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    done = subprocess.run(
        [sys.executable, "-c", NARROW, str(threads)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and done.stdout.strip() == "right", (done.returncode, done.stderr[-500:])
