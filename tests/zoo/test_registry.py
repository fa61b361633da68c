"""Names of bundled models, with the package's own folder and with one of this test."""

import pytest
from onnx_folder import EMBED_DIM, write_encoder

from memssl_keras.export import OnnxEncoder
from memssl_keras.weights.config import read_config
from memssl_keras.zoo import registry


@pytest.fixture
def two_models(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path)
    for name in ("vitt4_cifar10", "vits16_in1k"):
        write_encoder(tmp_path / name)
    (tmp_path / "unfinished").mkdir()
    return tmp_path


def test_lists_folders_that_hold_a_config(two_models):
    assert registry.list_models() == ["vits16_in1k", "vitt4_cifar10"]


def test_resolves_a_name_to_its_folder(two_models):
    assert registry.resolve("vitt4_cifar10") == two_models / "vitt4_cifar10"
    assert read_config(registry.resolve("vitt4_cifar10"))["embed_dim"] == EMBED_DIM
    assert OnnxEncoder.from_pretrained("vitt4_cifar10").embed_dim == EMBED_DIM


@pytest.mark.parametrize("name", ["vits16_in1", "unfinished", "../vits16_in1k", ""])
def test_an_unknown_name_lists_what_there_is(two_models, name):
    with pytest.raises(registry.UnknownModel, match="bundled are vits16_in1k, vitt4_cifar10") as caught:
        registry.resolve(name)
    assert repr(name) in str(caught.value)


def test_suggests_near_names(two_models):
    with pytest.raises(registry.UnknownModel, match="Did you mean vits16_in1k"):
        registry.resolve("vits16-in1k")
    with pytest.raises(registry.UnknownModel, match="cifar10$"):
        registry.resolve("qqqq")


def test_says_when_nothing_is_bundled(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_WEIGHTS", tmp_path / "none")
    assert registry.list_models() == []
    with pytest.raises(registry.UnknownModel, match="no model is bundled here"):
        registry.resolve("vits16_in1k")


@pytest.mark.parametrize("name", registry.list_models())
def test_every_bundled_model_runs(name):
    encoder = OnnxEncoder.from_pretrained(name, variant="int8")
    assert encoder.embed_dim == read_config(registry.resolve(name))["embed_dim"]
