"""What an encoder goes by: where covering a picture turns its vector."""

import numpy as np
import pytest
from onnx_folder import write_encoder
from small_models import pictures, small_vit

from memssl_keras.demo.models import open_model
from memssl_keras.demo.occlusion import GRID, covered, occlude


def test_covers_every_part_in_the_colour_of_the_ground():
    white = np.ones((48, 48, 3), "float32")
    white[10:14, 30:34] = 0  # within two covers, one below the other
    copies = covered(white)
    assert copies.shape == (GRID**2, 48, 48, 3) and white[10, 30, 0] == 0
    whole = np.flatnonzero((copies == 1).all((1, 2, 3)))
    assert {divmod(place, GRID) for place in whole.tolist()} == {(1, 5), (2, 5)}
    assert np.array_equal(copies[0], white)


@pytest.mark.slow
def test_finds_what_the_vector_hangs_on(tmp_path):
    small_vit().save_pretrained(tmp_path / "vit", exports=["fp32"])
    model = open_model(str(tmp_path / "vit"))
    picture = np.full((32, 32, 3), 255, np.uint8)
    picture[22:30, 2:10] = pictures(1, size=8)[0]
    seen, weights = occlude(model, picture)
    assert seen.shape == (32, 32, 3) and weights.shape == (GRID, GRID)
    row, column = divmod(int(weights.argmax()), GRID)
    assert row >= 5 and column <= 2 and weights[0, -1] < 1e-6 < weights.max()
    first = model.encoder.embed_pixels(model.encoder.preprocessing(picture)[None])
    np.testing.assert_allclose(first, model.encoder.embed(picture), atol=1e-6)


def test_works_for_what_is_no_vit(tmp_path):
    model = open_model(str(write_encoder(tmp_path / "filters")))
    assert np.isfinite(occlude(model, pictures(1, size=40)[0]).weights).all()
