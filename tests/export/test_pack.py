"""Weights in float16 where it holds them exactly: half the bytes, the same numbers to the bit."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from small_models import small_cnn, small_massl, small_vit

from memssl_keras import ResNet, export_onnx
from memssl_keras.export.head import export_head
from memssl_keras.export.pack import SMALLEST, packed
from memssl_keras.export.session import open_session
from memssl_keras.export.trace import trace

pytestmark = pytest.mark.slow


def rounded(encoder):
    for weight in encoder.weights:
        if weight.dtype == "float32":
            weight.assign(weight.numpy().astype("float16").astype("float32"))
    return encoder


def run(graph, pixels):
    return onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        ["pooler_output"], {"pixel_values": pixels}
    )[0]


def large(graph):
    return [t.data_type for t in graph.graph.initializer if np.prod(t.dims) >= SMALLEST]


@pytest.mark.parametrize(
    "make",
    [
        lambda: small_vit(embed_dim=96, num_heads=4),
        lambda: small_cnn(width=48),
        lambda: ResNet((1, 1), 16, "half", pooling_grid=(2, 3)),
    ],
)
def test_the_same_numbers_in_half_the_bytes(make):
    keras.utils.set_random_seed(0)
    whole = trace(rounded(make()))
    small = packed(whole)
    onnx.checker.check_model(small, full_check=True)
    assert large(whole) and set(large(whole)) == {onnx.TensorProto.FLOAT}
    assert set(large(small)) == {onnx.TensorProto.FLOAT16}
    assert packed(small) == small
    saved = sum(2 * int(np.prod(t.dims)) for t in whole.graph.initializer if np.prod(t.dims) >= SMALLEST)
    assert whole.ByteSize() - small.ByteSize() > 0.9 * saved
    pixels = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("float32")
    np.testing.assert_array_equal(run(small, pixels), run(whole, pixels))


def test_what_float16_does_not_hold_stays():
    keras.utils.set_random_seed(0)
    encoder = rounded(small_cnn(width=48))
    assert set(large(packed(trace(encoder)))) == {onnx.TensorProto.FLOAT16}
    kernel = max(encoder.weights, key=lambda weight: np.prod(weight.shape))
    for odd in (1 / 3, 1e6, 1e-9, np.nan):
        values = kernel.numpy()
        values.flat[0] = odd
        kernel.assign(values)
        assert large(packed(trace(encoder))).count(onnx.TensorProto.FLOAT) == 1


def test_an_exported_file_of_rounded_weights(tmp_path):
    """Every variant, raw pixels as well, is still what the encoder gives; the float32 file is half as large."""
    sizes = []
    for name, change in (("whole", lambda encoder: encoder), ("rounded", rounded)):
        keras.utils.set_random_seed(0)
        encoder = change(small_vit(embed_dim=96, num_heads=4))
        written = export_onnx(
            encoder, tmp_path / name, variants=["fp32", "fp16", "int8"], raw_pixels=True, ort=True
        )
        assert written["model.onnx"].largest_difference < 1e-4
        assert written["raw_pixels.onnx"].mean_cosine > 0.9999
        sizes.append((tmp_path / name / "onnx" / "model.onnx").stat().st_size)
    assert 0.5 < sizes[1] / sizes[0] < 0.65  # with positions, norms and nodes


def test_a_head_in_half_the_bytes(tmp_path):
    model = small_massl(small_vit(), batch_norm=True, hidden_dim=128)
    width, rng = model.encoder.embed_dim, np.random.default_rng(0)
    head, features = model.teacher.head, rng.normal(size=(8, width)).astype("float32")
    given, kinds = [], []
    for half in (False, True):
        path = tmp_path / f"{half}.onnx"
        assert export_head(head, path, width, half) < 1e-5
        given.append(open_session(path).run(None, {"feature": features})[0])
        kinds.append(set(large(onnx.load(path))))
    assert 0 < np.abs(given[0] - given[1]).max() < 5e-3
    assert kinds == [{onnx.TensorProto.FLOAT}, {onnx.TensorProto.FLOAT16}]
    before, kernel = (tmp_path / "True.onnx").read_bytes(), head.weights[0].numpy()
    kernel[0, 0] = 1e6
    head.weights[0].assign(kernel)
    with pytest.raises(ValueError, match="beyond float16"):
        export_head(head, tmp_path / "True.onnx", width, True)
    assert (tmp_path / "True.onnx").read_bytes() == before
