"""Encoders of `keras.applications`, pretrained for a few steps, through the same export."""

import keras
import numpy as np
import pytest
from small_models import pictures, small_crops, small_massl

from memssl_keras import OnnxEncoder, export_onnx

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["ResNet50", "ConvNeXtTiny"])
def test_pretrain_export_and_verify(name, tmp_path):
    keras.utils.set_random_seed(0)
    architecture = getattr(keras.applications, name)
    encoder = architecture(weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3))
    model = small_massl(encoder, batch_norm=True)
    before = [weight.copy() for weight in model.encoder.get_weights()]
    crops = small_crops(local_size=32)  # these take one size alone
    model.fit(pictures(16, 48), views=crops, batch_size=8, epochs=1, verbose=0)
    moved = [not np.array_equal(a, b) for a, b in zip(before, model.encoder.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9
    images = pictures(12, 40, seed=2)
    written = export_onnx(model.encoder, tmp_path, variants=["fp32", "int8-static"], images=images)
    assert set(written) == {"model.onnx", "model_int8.onnx"}
    assert written["model_int8.onnx"].bytes < 0.3 * written["model.onnx"].bytes
    np.testing.assert_allclose(
        OnnxEncoder.from_pretrained(tmp_path).embed(images), model.encoder.embed(images), atol=1e-4
    )
