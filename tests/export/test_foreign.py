"""ONNX encoders as transformers.js, optimum and timm leave them: embedded as those libraries themselves do it."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from hub_server import lead_to, serving
from other_libraries import need
from PIL import Image

from memssl_keras import OnnxEncoder
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.preprocessor import of_timm, of_transformers

transformers = need("transformers")
pytestmark = pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
CROPPED = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}


class Named(torch.nn.Module):
    """A model of transformers as a function from pixels to some of its outputs."""

    def __init__(self, model, outputs):
        super().__init__()
        self.model, self.outputs = model.eval(), outputs

    def forward(self, pixel_values):
        found = self.model(pixel_values=pixel_values)
        return tuple(found[name] for name in self.outputs)


def write(folder, model, outputs, config, preprocessor, file="onnx/model.onnx", size=32, dynamic=True):
    """A folder as optimum's export leaves it: graph, config.json and preprocessor_config.json."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    names = ["pixel_values", *outputs]
    torch.onnx.export(
        Named(model, outputs),
        (torch.zeros(1, 3, size, size),),
        str(folder / file),
        input_names=["pixel_values"],
        output_names=outputs,
        dynamic_axes={name: {0: "batch"} for name in names} if dynamic else None,
        dynamo=False,
    )
    (folder / "config.json").write_text(json.dumps(config))
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


def vision(kind="vit"):
    torch.manual_seed(0)
    if kind == "vit":
        return transformers.ViTModel(transformers.ViTConfig(image_size=32, patch_size=8, **SMALL))
    if kind == "dinov2":
        return transformers.Dinov2Model(
            transformers.Dinov2Config(
                image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4
            )
        )
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=24, **SMALL)
    )


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sizes = ((40, 60), (64, 48), (33, 33))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), "uint8")) for size in sizes]


def theirs(model, output, pictures, preprocessor):
    """Unit vectors by the library itself: its processor, its model."""
    processor = (
        transformers.CLIPImageProcessor if "crop_size" in preprocessor else transformers.ViTImageProcessor
    )
    settings = {key: value for key, value in preprocessor.items() if key != "image_processor_type"}
    pixels = processor(**settings)(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        found = model.eval()(pixel_values=pixels)[output]
    return torch.nn.functional.normalize(found[:, 0] if found.ndim == 3 else found, dim=1).numpy()


@pytest.mark.parametrize(
    ("kind", "outputs", "feature", "file"),
    [
        ("vit", ["last_hidden_state", "pooler_output"], "pooler_output", "onnx/model.onnx"),
        ("dinov2", ["last_hidden_state"], "last_hidden_state", "model.onnx"),
        ("clip", ["image_embeds", "last_hidden_state"], "image_embeds", "onnx/vision_model.onnx"),
    ],
)
def test_folders_of_transformers_js_and_optimum(kind, outputs, feature, file, tmp_path, pictures):
    model = vision(kind)
    config = {"model_type": kind, "image_size": 32}
    write(tmp_path, model, outputs, config, CROPPED, file)
    guessed = feature == "last_hidden_state"
    if guessed:
        with pytest.warns(UserWarning, match="first token of 'last_hidden_state'; pool='mean'"):
            encoder = OnnxEncoder.from_pretrained(tmp_path)
    else:
        encoder = OnnxEncoder.from_pretrained(tmp_path)
    found = encoder.embed(pictures)
    np.testing.assert_allclose(found, theirs(model, feature, pictures, CROPPED), atol=1e-4)
    assert encoder.embed_dim == found.shape[1]


def test_pooling_changes_the_vectors_and_their_revision(tmp_path, pictures):
    write(tmp_path, vision("dinov2"), ["last_hidden_state"], {"model_type": "dinov2"}, CROPPED)
    cls, mean = (OnnxEncoder.from_pretrained(tmp_path, pool=pool) for pool in ("cls", "mean"))
    assert not np.allclose(cls.embed(pictures), mean.embed(pictures), atol=1e-2)
    assert cls.revision() != mean.revision()
    with pytest.raises(ValueError, match="pool='max': expected one of cls, mean"):
        OnnxEncoder.from_pretrained(tmp_path, pool="max")


def test_timms_graph_and_configuration(tmp_path, pictures):
    timm = need("timm")
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=0, pretrained=False).eval()
    torch.onnx.export(model, (torch.zeros(2, 3, 32, 32),), str(tmp_path / "model.onnx"), dynamo=False)
    settings = {
        "input_size": [3, 32, 32],
        "crop_pct": 0.9,
        "interpolation": "bilinear",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "resnet18", "pretrained_cfg": settings})
    )
    encoder = OnnxEncoder.from_pretrained(tmp_path)  # fixed to batches of two
    data = timm.data.create_transform(
        **{**settings, "input_size": (3, 32, 32)}, is_training=False, crop_mode="center"
    )
    with torch.no_grad():
        found = model(torch.stack([data(picture) for picture in pictures]))
    expected = torch.nn.functional.normalize(found, dim=1).numpy()
    np.testing.assert_allclose(encoder.embed(pictures), expected, atol=1e-4)


@pytest.mark.parametrize("weights", ["model.onnx_data", "model.onnx.data"])
def test_a_repository_and_its_weights_beside_the_graph(tmp_path, pictures, monkeypatch, weights):
    write(tmp_path / "one", vision(), ["pooler_output"], {"model_type": "vit"}, CROPPED)
    whole = OnnxEncoder.from_pretrained(tmp_path / "one").embed(pictures)
    graph = tmp_path / "one" / "onnx" / "model.onnx"
    model = onnx.load(graph)
    graph.unlink()
    onnx.save(model, graph, save_as_external_data=True, location=weights, size_threshold=0)
    with serving() as hub:
        lead_to(hub.address, tmp_path, monkeypatch)
        hub.add_folder("someone/vit", tmp_path / "one")
        hub.add("someone/vit", {"onnx/vision_model.onnx_data": b"of another graph"})
        encoder = OnnxEncoder.from_pretrained("someone/vit")
        assert not any(request.endswith("vision_model.onnx_data") for request in hub.requests)
    np.testing.assert_allclose(encoder.embed(pictures), whole, atol=1e-6)
    before = OnnxEncoder.from_pretrained(tmp_path / "one").revision()
    beside = graph.with_name(weights)
    beside.write_bytes(beside.read_bytes()[:-4] + b"\0\0\0\1")
    assert OnnxEncoder.from_pretrained(tmp_path / "one").revision() != before


def test_a_single_file_takes_its_preprocessing_from_the_caller(tmp_path, pictures):
    write(tmp_path, vision(), ["pooler_output"], {"model_type": "vit"}, CROPPED)
    whole = OnnxEncoder.from_pretrained(tmp_path).embed(pictures)
    alone = tmp_path / "alone" / "encoder.onnx"
    alone.parent.mkdir()
    shutil.copy(tmp_path / "onnx" / "model.onnx", alone)
    with pytest.raises(ValueError, match="pass preprocessing=Preprocessing"):
        OnnxEncoder.from_pretrained(alone)
    settings = Preprocessing(32, 36, "bicubic", CROPPED["image_mean"], CROPPED["image_std"])
    found = OnnxEncoder.from_pretrained(alone, preprocessing=settings).embed(pictures)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx: no such file"):
        OnnxEncoder.from_pretrained(tmp_path / "gone.onnx")


def test_what_is_no_image_encoder_is_refused(tmp_path):
    """One clear error each: two candidates, other inputs, a size that contradicts the preprocessing, no graph."""

    class Two(torch.nn.Module):
        def forward(self, x):
            flat = x.mean((2, 3))
            return flat, flat + 1

    class Text(torch.nn.Module):
        def forward(self, ids, x):
            return x.mean((2, 3)) + ids.sum(1, keepdim=True)

    def export(name, model, inputs, **names):
        (tmp_path / name).mkdir()
        torch.onnx.export(model, inputs, str(tmp_path / name / "model.onnx"), dynamo=False, **names)
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(CROPPED))
        return tmp_path / name

    pixels = torch.zeros(1, 3, 32, 32)
    two = export("two", Two(), (pixels,), output_names=["a", "b"])
    with pytest.raises(ValueError, match="outputs a, b; expected image_embeds or pooler_output"):
        OnnxEncoder.from_pretrained(two)
    text = export("text", Text(), (torch.zeros(1, 5), pixels), input_names=["input_ids", "pixel_values"])
    with pytest.raises(ValueError, match="expected one alone.*vision_model"):
        OnnxEncoder.from_pretrained(text)
    fixed = write(tmp_path / "fixed", vision(), ["pooler_output"], {}, CROPPED, dynamic=False)
    (fixed / "preprocessor_config.json").write_text(json.dumps({"size": 48}))
    with pytest.raises(ValueError, match="takes 32 × 32 px, and the preprocessing gives 48 × 48"):
        OnnxEncoder.from_pretrained(fixed)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="has none of onnx/model.onnx"):
        OnnxEncoder.from_pretrained(tmp_path / "none")


NORMAL = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"size": 64, **NORMAL}, (64, 64, "bilinear", True)),
        ({"size": {"height": 64, "width": 64}, "resample": 3, **NORMAL}, (64, 64, "bicubic", True)),
        ({"size": 72, "crop_size": 64, "do_center_crop": True, **NORMAL}, (64, 72, "bilinear", False)),
        ({**CROPPED, **NORMAL}, (32, 36, "bicubic", False)),
        (
            {"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3, **NORMAL},
            (224, 256, "bicubic", False),
        ),
        (
            {"size": {"shortest_edge": 384}, "crop_pct": 1.0, "resample": 3, **NORMAL},
            (384, 384, "bicubic", True),
        ),
    ],
)
def test_spellings_of_preprocessing(settings, expected):
    found = of_transformers(settings)
    assert (found.image_size, found.resize_size, found.interpolation, found.squash) == expected
    assert found.mean == (0.5, 0.4, 0.3) and found.std == (0.2, 0.3, 0.4)


def test_another_factor_of_pixels_is_the_same_picture():
    """Pixels × 1/127.5, then less 1: what 0.5 and 0.5 do on the scale 0 … 1."""
    found = of_transformers(
        {"size": 8, "rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}
    )
    np.testing.assert_allclose([*found.mean, *found.std], 0.5)
    raw = of_transformers(
        {"size": 8, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}
    )
    np.testing.assert_allclose([*raw.mean, *raw.std], [0.5] * 3 + [0.2] * 3)
    plain = of_transformers({"size": 8, "do_normalize": False})
    assert plain.mean == (0, 0, 0) and plain.std == (1, 1, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"size": 8, "resample": 1}, "resample=1; expected 2 or 3"),
        ({"size": 8, "do_resize": False}, "do_resize is false"),
        ({"size": {"shortest_edge": 8}}, "without centre crop"),
        ({"size": {"height": 8, "width": 9}}, "expected a square"),
        ({"size": 8, "rescale_factor": 0}, "rescale_factor=0"),
    ],
)
def test_steps_that_are_not_ours_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        of_transformers(settings)


def test_what_timm_does_not_say_has_its_default():
    plain = of_timm({"input_size": [3, 224, 224]})
    assert (plain.resize_size, plain.interpolation, plain.squash) == (256, "bicubic", False)
    assert plain.mean == (0.485, 0.456, 0.406) and plain.std == (0.229, 0.224, 0.225)
    with pytest.raises(ValueError, match=r"input_size=\[3, 8, 9\]; expected \[3, side, side\]"):
        of_timm({"input_size": [3, 8, 9]})


def test_timm_is_read_alike_from_weights_and_graphs():
    from memssl_keras.weights.checkpoint import CheckpointError
    from memssl_keras.weights.readers.timm import timm_preprocessing

    for settings in (
        {},
        {"crop_pct": 0.9, "interpolation": "bilinear"},
        {"crop_pct": 1.0, "crop_mode": "squash"},
    ):
        config = {"pretrained_cfg": {"input_size": [3, 64, 64], **settings}}
        assert timm_preprocessing(config, "timm") == of_timm(config["pretrained_cfg"])
    squashed = {"pretrained_cfg": {"crop_pct": 0.9, "crop_mode": "squash"}}  # which timm crops, once squashed
    with pytest.raises(CheckpointError, match="timm: pretrained_cfg: crop_mode='squash', crop_pct=0.9"):
        timm_preprocessing(squashed, "timm")


def test_timm_squashes_or_crops():
    whole = {
        "input_size": [3, 8, 8],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
    assert of_timm(whole).squash
    with pytest.raises(ValueError, match="crop_mode='border'"):
        of_timm(whole | {"crop_mode": "border"})
