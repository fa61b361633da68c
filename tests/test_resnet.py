"""The residual networks: sizes, shapes, what is refused, saving, and a recipe's encoder."""

import numpy as np
import pytest
import torch
from small_models import pictures, small_crops, small_massl

from memssl_keras import Recipe, ResNet, from_pretrained, save_pretrained
from memssl_keras.pretrained import embed


@pytest.mark.parametrize("stem, halvings", [("cifar", 3), ("half", 4), ("imagenet", 5)])
def test_it_is_the_published_eighteen_layers(stem, halvings):
    encoder = ResNet(stem=stem)
    weights = [w for w in encoder.trainable_weights if w.ndim == 4]
    assert len(weights) == 17 + 3  # the eighteenth is the classifier; three shortcuts change the width
    first = {"cifar": 3, "half": 3, "imagenet": 7}[stem]
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
        ({"stem": "square"}, "stem='square': expected 'imagenet', 'cifar' or 'half'"),
        ({"blocks": ()}, "expected numbers of at least 1"),
        ({"blocks": (1, 0)}, "expected numbers of at least 1"),
        ({"width": 0}, "width=0: expected numbers of at least 1"),
    ],
)
def test_bad_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**settings)


def test_it_trains_and_comes_back_from_its_folder(tmp_path):
    preprocessing = {
        "image_size": 32,
        "resize_size": 36,
        "interpolation": "bilinear",
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    recipe = Recipe(
        "r", {"blocks": (1, 1), "width": 8, "stem": "cifar", "preprocessing": preprocessing}, family="resnet"
    )
    model = small_massl(recipe.build_encoder(), batch_norm=True)
    model.fit(pictures(16), views=small_crops(), batch_size=8, epochs=1, verbose=0)
    save_pretrained(model.encoder, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.preprocessing["resize_size"] == 36
    np.testing.assert_array_equal(embed(again, pictures(3)), embed(model.encoder, pictures(3)))
    with pytest.raises(ValueError, match="family='cnn': expected 'vit' or 'resnet'"):
        Recipe("r", {}, family="cnn")
