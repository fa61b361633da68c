"""ResNets under torchvision's names, in the files of those who published them: features as torchvision's own model."""

import json

import numpy as np
import pytest
import torch
from other_libraries import need
from safetensors.torch import save_file
from small_models import pictures

from memssl_keras import from_pretrained
from memssl_keras.weights.checkpoint import CheckpointError

NETWORKS = ("resnet18", "resnet34", "resnet50")


def torch_resnet(name="resnet18", seed=0):
    """torchvision's own, every weight and statistic drawn at random."""
    need("timm")  # which makes torchvision importable here
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(seed)
    model = getattr(torchvision.models, name)(weights=None).eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and ("bn" in key or "downsample.1" in key):
                tensor.add_(0.1 * torch.randn_like(tensor))
    return model


def features(model, images):
    """Of a torchvision model, the mean over its last map, in float64."""
    model = model.double()
    model.fc = torch.nn.Identity()
    with torch.no_grad():
        return model(torch.from_numpy(images).permute(0, 3, 1, 2).double()).numpy()


def images(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 96, 80, 3)).astype("float32")


def bare(state):
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def others(*names):
    """Weights beside the backbone, which are left out."""
    return {name: torch.randn(4, 4) for name in names}


# What the published files look like; each from a backbone's weights.
FILES = {
    "torchvision": lambda s: s,
    "Barlow Twins, VICReg and DINO": bare,
    "SimSiam": lambda s: {
        "state_dict": prefixed(s, "module.encoder.")
        | others("module.predictor.0.weight", "module.encoder.fc.3.weight")
    },
    "SwAV": lambda s: (
        prefixed(bare(s), "module.") | others("module.projection_head.0.weight", "module.prototypes.weight")
    ),
    "MoCo v2": lambda s: {
        "state_dict": prefixed(bare(s), "module.encoder_q.")
        | others("module.encoder_q.fc.0.weight", "module.queue")
    },
    "MoCo v3": lambda s: {
        "state_dict": prefixed(bare(s), "module.momentum_encoder.")
        | prefixed({k: v + 1 for k, v in bare(s).items()}, "module.base_encoder.")
        | others("module.predictor.0.weight", "module.momentum_encoder.fc.0.weight")
    },
    "DINO, whole": lambda s: {
        "teacher": prefixed(bare(s), "module.backbone.") | others("module.head.mlp.0.weight"),
        "student": prefixed({k: v + 1 for k, v in bare(s).items()}, "module.backbone."),
        "epoch": 3,
    },
    "Barlow Twins, whole": lambda s: {
        "model": prefixed(bare(s), "module.backbone.") | others("module.projector.0.weight")
    },
    "SSCD": lambda s: prefixed(bare(s), "backbone.") | others("embeddings.1.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_torchvisions(tmp_path, name):
    model = torch_resnet(name)
    torch.save(model.state_dict(), tmp_path / "checkpoint.pth")
    encoder = from_pretrained(tmp_path / "checkpoint.pth")
    expected = features(model, images())
    assert encoder.embed_dim == expected.shape[1] == (2048 if name == "resnet50" else 512)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(encoder.predict(images(), verbose=0) / scale, expected / scale, atol=1e-4)
    assert (encoder.preprocess.image_size, encoder.preprocess.resize_size) == (224, 256)
    assert encoder.preprocess.interpolation == "bilinear"


@pytest.mark.parametrize("family", FILES)
def test_the_files_of_each_family_hold_the_same_backbone(tmp_path, family):
    model = torch_resnet()
    torch.save(FILES[family](dict(model.state_dict())), tmp_path / "checkpoint.pth")
    encoder = from_pretrained(tmp_path / "checkpoint.pth")
    expected = features(model, images())
    scale = np.abs(expected).max()
    np.testing.assert_allclose(encoder.predict(images(), verbose=0) / scale, expected / scale, atol=1e-4)


def test_the_student_can_be_asked_for(tmp_path):
    model = torch_resnet()
    state = FILES["MoCo v3"](dict(model.state_dict()))
    torch.save(state, tmp_path / "checkpoint.pth")
    student = from_pretrained(tmp_path / "checkpoint.pth", network="student")
    np.testing.assert_allclose(
        student.get_layer("stem_norm").gamma.numpy(), model.state_dict()["bn1.weight"].numpy() + 1, rtol=1e-6
    )


@pytest.mark.slow
def test_a_repository_of_timm_brings_its_preprocessing(tmp_path):
    timm = need("timm")
    model = timm.create_model("resnet34", pretrained=False).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    settings = {"input_size": [3, 160, 160], "crop_pct": 0.8, "interpolation": "bicubic"}
    config = {"architecture": "resnet34", "num_features": 512, "pretrained_cfg": settings}
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = from_pretrained(tmp_path)
    with torch.no_grad():
        expected = model.forward_head(
            model.forward_features(torch.from_numpy(images()).permute(0, 3, 1, 2)), pre_logits=True
        ).numpy()
    np.testing.assert_allclose(
        encoder.predict(images(), verbose=0), expected, atol=1e-4 * np.abs(expected).max()
    )
    assert (encoder.preprocess.image_size, encoder.preprocess.resize_size) == (160, 200)
    config["architecture"] = "resnet50d"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="timm's resnet50d: expected one of timm's plain ResNets"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer2.0.bn1.weight": None}, "missing layer2.0.bn1.weight"),
        ({"layer1.0.se.weight": torch.ones(2)}, "unexpected layer1.0.se.weight"),
        (
            {"layer1.0.conv2.weight": torch.ones(64, 2, 3, 3)},
            r"layer1.0.conv2.weight has shape \(64, 2, 3, 3\)",
        ),
        ({"conv1.weight": torch.ones(64, 3, 3, 3)}, r"conv1.weight has shape \(64, 3, 3, 3\)"),
        ({"bn1.bias": torch.full((64,), float("nan"))}, "bn1.bias holds NaN or infinity"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    state = dict(torch_resnet().state_dict()) | change
    torch.save({key: value for key, value in state.items() if value is not None}, tmp_path / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(tmp_path / "checkpoint.pth")


@pytest.mark.slow
def test_a_resnet_50_is_saved_exported_and_read_again(tmp_path):
    torch.save(torch_resnet("resnet50").state_dict(), tmp_path / "checkpoint.pth")
    encoder = from_pretrained(tmp_path / "checkpoint.pth")
    encoder.save_pretrained(tmp_path / "folder")
    again = from_pretrained(tmp_path / "folder")
    assert again.bottleneck and again.preprocess == encoder.preprocess
    pixels = again.preprocess.batch(list(pictures(2)))
    np.testing.assert_array_equal(again.predict(pixels, verbose=0), encoder.predict(pixels, verbose=0))
