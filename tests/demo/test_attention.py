"""The attention that the page reads off a graph is that of the Keras encoder."""

import numpy as np
import pytest
from onnx_folder import write_encoder
from small_models import pictures, rich_vit

from memssl_keras.demo.attention import LastAttention, draw
from memssl_keras.demo.models import open_model


@pytest.mark.slow
def test_is_that_of_the_keras_encoder(tmp_path):
    from memssl_keras import export_onnx

    encoder = rich_vit()
    encoder.save_pretrained(tmp_path)
    export_onnx(encoder, tmp_path)
    model = open_model(str(tmp_path))
    picture = pictures(1, size=32)[0]
    seen, weights = LastAttention(model)(picture)
    assert weights.shape == (3, 4, 4) and (weights >= 0).all() and (weights.sum((1, 2)) <= 1).all()
    inputs = model.encoder.preprocessing(picture)[None]
    expected = encoder.attention(inputs)[0, :, 0, 3:].detach().numpy()  # after CLS and two registers
    np.testing.assert_allclose(weights.reshape(3, 16), expected, atol=1e-5)
    assert seen.shape == (model.encoder.preprocessing.image_size,) * 2 + (3,)


def test_lights_what_is_looked_at():
    weights = np.zeros((4, 4), np.float32)
    weights[0, 0] = 1
    drawn = draw(np.full((32, 32, 3), 200, np.uint8), weights)
    assert drawn.shape == (224, 224, 3) and drawn[0, 0, 0] == 200 and drawn[-1, -1, 0] == 30


def test_says_why_there_is_none(tmp_path):
    model = open_model(str(write_encoder(tmp_path / "filters")))
    with pytest.raises(ValueError, match="filters: not a ViT"):
        LastAttention(model)
