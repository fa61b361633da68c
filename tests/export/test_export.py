"""Keras → ONNX: the graph's form, its numbers at any size, and no file where they differ."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_models import pictures, rich_vit, small_cnn

from memssl_keras import OnnxEncoder, export_onnx
from memssl_keras.export import onnx as module
from memssl_keras.export.bounds import check
from memssl_keras.export.verify import compare
from memssl_keras.images import Preprocessing
from memssl_keras.pretrained import save_pretrained
from memssl_keras.weights.folder import write_config


@pytest.fixture(scope="module")
def encoder():
    return rich_vit(drop_path=0.3)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "new" / "folder"
    written = export_onnx(encoder, folder)
    assert list(written) == ["model.onnx"] and 0 < written["model.onnx"].largest_difference < 1e-4
    return folder


@pytest.fixture(scope="module")
def session(folder):
    return onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])


def test_inputs_and_outputs_are_named_and_dynamic(session):
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type) == ("pixel_values", "tensor(float)")
    assert pixels.shape == ["batch", 3, "height", "width"]
    assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "pooler_output"]
    assert session.get_outputs()[1].shape == ["batch", 24]


def test_opset_and_checks(folder):
    model = onnx.load(folder / "onnx" / "model.onnx")
    assert {o.domain: o.version for o in model.opset_import}[""] == 18
    onnx.checker.check_model(model, full_check=True)


def test_it_is_one_file_without_paths_of_this_machine(folder):
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "config.json",
        "onnx/model.onnx",
        "onnx/model.onnx.verify.json",
        "preprocessor_config.json",
    ]
    data = (folder / "onnx" / "model.onnx").read_bytes()
    package = module.__file__.rsplit("/", 2)[0].encode()
    for trace in (package, torch.__path__[0].encode(), b"site-packages", b".py", str(folder).encode()):
        assert trace not in data, trace
    model = onnx.load(folder / "onnx" / "model.onnx", load_external_data=False)
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)


@pytest.mark.parametrize(
    "batch, height, width", [(1, 32, 32), (3, 8, 56), (2, 40, 24), (7, 72, 72), (1, 33, 47)]
)
def test_it_runs_at_sizes_it_was_not_checked_at(encoder, session, batch, height, width):
    pixels = np.random.default_rng(1).standard_normal((batch, 3, height, width), dtype=np.float32)
    tokens, pooled = session.run(None, {"pixel_values": pixels})
    with torch.no_grad():
        expected = encoder.tokens(pixels.transpose(0, 2, 3, 1)).numpy()
    np.testing.assert_allclose(tokens, expected, atol=2e-5)
    np.testing.assert_array_equal(pooled, tokens[:, 0])


def test_both_engines_embed_alike(encoder, folder):
    images = [*pictures(3, 50), pictures(1, 20)[0], np.zeros((9, 70, 3), np.uint8)]
    ours, theirs = OnnxEncoder.from_pretrained(folder).embed(images), encoder.embed(images)
    assert theirs.shape == (5, 24) and theirs.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.abs(ours[0] - ours[1]).max() > 1e-3


def test_the_config_says_how_to_preprocess(encoder, folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    assert config["preprocessing"] == encoder.preprocess.to_dict()
    assert config["embed_dim"] == 24 and config["model_type"] == "dinov2_with_registers"


def test_another_keras_model_exports_and_embeds(tmp_path):
    cnn, preprocessing = small_cnn(), Preprocessing(32, 40, mean=(0.5,) * 3, std=(0.5,) * 3)
    export_onnx(cnn, tmp_path, preprocessing=preprocessing)
    exported = OnnxEncoder.from_pretrained(tmp_path)
    assert exported.preprocessing == preprocessing and exported.embed_dim == 12
    with torch.no_grad():
        features = cnn(preprocessing.batch(pictures(3)), training=False).numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.testing.assert_allclose(exported.embed(pictures(3)), features, atol=1e-5)
    outputs = [o.name for o in onnx.load(tmp_path / "onnx" / "model.onnx").graph.output]
    assert outputs == ["pooler_output"]


def test_a_graph_that_differs_is_not_left_behind(folder, tmp_path, monkeypatch):
    graph, encoder = onnx.load(folder / "onnx" / "model.onnx"), rich_vit()
    monkeypatch.setattr(
        module, "trace", lambda *_, **__: graph
    )  # the encoder's own, traced once for all tests
    with pytest.raises(module.ParityError, match="differs from the Keras encoder by .*it was not written"):
        export_onnx(encoder, tmp_path / "new", tolerance=0.0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"the one before")
    write_config(encoder, tmp_path)
    encoder.norm.beta.assign(encoder.norm.beta + 1e-3)
    with pytest.raises(module.ParityError, match="by [3-9].*e-04"):  # a share of the largest value
        export_onnx(encoder, tmp_path)
    assert [p.name for p in (tmp_path / "onnx").iterdir()] == ["model.onnx"]
    assert (tmp_path / "onnx" / "model.onnx").read_bytes() == b"the one before"


def test_a_graph_that_is_not_finite_is_not_let_through(folder, encoder):
    damaged = rich_vit()
    damaged.norm.beta.assign(np.full(24, np.nan, "float32"))
    found = compare(folder / "onnx" / "model.onnx", damaged)
    assert found.largest_difference == np.inf and found.mean_cosine == -1
    with pytest.raises(module.ParityError):
        check(found)
    check(compare(folder / "onnx" / "model.onnx", encoder))


def test_an_exported_folder_also_holds_keras_weights(encoder, folder, tmp_path):
    save_pretrained(encoder, tmp_path)
    before = (tmp_path / "config.json").read_text()
    assert before == (folder / "config.json").read_text()
