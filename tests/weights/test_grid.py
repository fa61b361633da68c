"""The shape of a patch grid: a count of positions that is a square may be that of another shape."""

import json

import numpy as np
import pytest
import torch
from other_libraries import need
from small_models import position_waves, same_weights, small_vit, varied
from typer.testing import CliRunner

from memssl_keras import from_pretrained
from memssl_keras.cli import app
from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.readers.grid import differences, looks_square
from memssl_keras.weights.torch_names import encoder_names, to_state


def trained_positions():
    """Positions `(64, D)` that were learnt for 8 × 8 patches."""
    return to_state(encoder_names(from_pretrained("massl_vitn4.cifar10")))["pos_embed"][0, 1:]


def reshaped(positions, rows, columns):
    """Positions of 8 × 8 patches, resized to another shape of as many."""
    maps = torch.from_numpy(positions).reshape(1, 8, 8, -1).permute(0, 3, 1, 2)
    maps = torch.nn.functional.interpolate(maps, size=(rows, columns), mode="bicubic")
    return maps.permute(0, 2, 3, 1).reshape(rows * columns, -1).numpy()


SHAPES = [(8, 8), (4, 16), (16, 4), (2, 32), (32, 2)]


@pytest.mark.parametrize("rows, columns", SHAPES)
def test_positions_that_were_learnt_show_their_shape(rows, columns):
    for positions in (reshaped(trained_positions(), rows, columns), position_waves(rows, columns)):
        assert looks_square(positions) is (rows == columns)


@pytest.mark.parametrize("positions", [np.zeros((64, 24)), np.random.default_rng(0).normal(size=(64, 24))])
def test_positions_that_were_never_learnt_show_nothing(positions):
    assert looks_square(positions) is None
    np.testing.assert_allclose(list(differences(positions).values()), 1, atol=0.2)


def checkpoint(path, wrap=lambda state: state, positions=None):
    """A checkpoint of 16 patches; returns its encoder."""
    encoder = varied(small_vit())
    state = to_state(encoder_names(encoder))
    if positions is not None:
        state["pos_embed"][0, 1:] = positions
    torch.save(wrap({name: torch.from_numpy(array) for name, array in state.items()}), path)
    return encoder


def of_dino(state):
    head = {"head.mlp.0.weight": torch.ones(2, 2)}
    return {"teacher": {f"backbone.{name}": tensor for name, tensor in state.items()} | head}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"backbone": state}, of_dino])
@pytest.mark.parametrize("rows, columns", [(2, 8), (8, 2)])
def test_a_grid_that_is_not_square_is_refused_though_its_count_is_a_square(tmp_path, wrap, rows, columns):
    checkpoint(tmp_path / "wide.pth", wrap, position_waves(rows, columns))
    with pytest.raises(
        CheckpointError, match=r"16 positions may be those of 4 × 4 patches or of 2 × 8 or 1 × 16"
    ):
        from_pretrained(tmp_path / "wide.pth", num_heads=3)
    words = ["convert", str(tmp_path / "wide.pth"), "--num-heads", "3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1 and "--trained-size 32" in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_a_square_grid_needs_no_word(tmp_path):
    checkpoint(tmp_path / "square.pth", positions=position_waves(4, 4))
    assert from_pretrained(tmp_path / "square.pth", num_heads=3).image_size == 32


def test_a_grid_that_nothing_tells_is_asked_for(tmp_path):
    encoder, path = checkpoint(tmp_path / "bare.pth"), tmp_path / "bare.pth"
    with pytest.raises(
        CheckpointError, match="bare.pth: trained_size: nothing tells the shape .* pass trained_size=32"
    ):
        from_pretrained(path, num_heads=3)
    assert same_weights(from_pretrained(path, num_heads=3, trained_size=32), encoder)
    words = ["convert", str(path), "--num-heads", "3", "--trained-size", "32", "--out", str(tmp_path / "out")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert same_weights(from_pretrained(tmp_path / "out"), encoder)
    with pytest.raises(
        CheckpointError,
        match="trained_size=64: .* 16 positions of patches of 8 px; expected 32",
    ):
        from_pretrained(path, num_heads=3, trained_size=64)


def test_a_count_that_is_no_square_is_named(tmp_path):
    state = to_state(encoder_names(small_vit()))
    state["pos_embed"] = np.zeros((1, 13, 24), "float32")
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match="pos_embed: 12 positions beside that of CLS are no square grid"
    ):
        from_pretrained(tmp_path / "a.pth", num_heads=3)


def test_a_configuration_of_transformers_that_is_not_square(tmp_path):
    transformers = need("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48}
    config = transformers.ViTConfig(**sizes, patch_size=8, image_size=[16, 64])
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"image_size=\[16, 64\]; expected a square"):
        from_pretrained(tmp_path)


def test_a_model_of_timm_for_images_that_are_not_square(tmp_path):
    timm = need("timm")
    sizes = {"patch_size": 8, "embed_dim": 48, "depth": 1, "num_heads": 3, "num_classes": 0}
    model = timm.create_model("vit_small_patch16_224", img_size=(16, 64), **sizes)
    timm.models.save_for_hf(model, tmp_path)
    with pytest.raises(CheckpointError, match="expected \\[3, side, side\\]|trained_size: nothing tells"):
        from_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["model_args"]["img_size"]
    config["pretrained_cfg"]["input_size"] = [3, 224, 224]  # as it was published, before img_size
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="trained_size: nothing tells the shape of the grid"):
        from_pretrained(tmp_path)
