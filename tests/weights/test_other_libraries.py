"""One folder, read by transformers, timm, Keras alone, ONNX Runtime and transformers.js: the same CLS embedding."""

import json
import pathlib
import subprocess

import keras
import numpy as np
import onnxruntime
import pytest
import torch
from hub_server import lead_to, serving
from other_libraries import need, node_modules
from PIL import Image
from small_models import pictures, rich_vit, small_vit, varied

from memssl_keras import OnnxEncoder, from_pretrained, save_pretrained
from memssl_keras.images import Preprocessing

pytestmark = pytest.mark.slow

CROP = Preprocessing(32, 40, "bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
SQUASH = Preprocessing(32, 32, "bilinear", squash=True)
OTHER_SIZE = Preprocessing(48, 56)  # positions of 32 px are resized
ENCODERS = {
    "ViTModel": lambda: varied(small_vit(preprocessing=CROP.to_dict())),
    "Dinov2Model": lambda: varied(small_vit(layer_scale=0.5, preprocessing=SQUASH.to_dict())),
    "Dinov2WithRegistersModel": lambda: varied(rich_vit(preprocessing=OTHER_SIZE.to_dict())),
}


@pytest.fixture(scope="module", params=ENCODERS)
def saved(request, tmp_path_factory):
    """Name of transformers' class, encoder, folder with all exports."""
    encoder, folder = ENCODERS[request.param](), tmp_path_factory.mktemp("models") / "model"
    save_pretrained(encoder, folder, exports=("transformers", "keras", "fp32"))
    return request.param, encoder, folder


@pytest.fixture(scope="module")
def photos():
    """Pictures that have to be resized, none of them square; the margins that are cut off are even numbers."""
    wide = Image.fromarray(pictures(1, size=130)[0]).crop((0, 0, 59, 51))
    return [wide, wide.rotate(90, expand=True)]


def cls(encoder, images):
    return encoder(encoder.preprocess.batch(images)).detach().numpy()


def close(ours, theirs):
    np.testing.assert_allclose(theirs, ours, atol=1e-4, rtol=0)
    assert np.ptp(ours, axis=0).max() > 1e-3  # the images differ


def test_the_folder_holds_no_more_than_it_must(saved):
    files = {path.relative_to(saved[2]).as_posix() for path in saved[2].rglob("*") if path.is_file()}
    weights = {"model.safetensors", "transformers.safetensors", "model.keras", "onnx/model.onnx"}
    assert files == {"config.json", "preprocessor_config.json", "onnx/model.onnx.verify.json", *weights}


def test_ours(saved, photos):
    _, encoder, folder = saved
    expected = cls(encoder, photos)
    close(expected, cls(from_pretrained(folder), photos))
    unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    close(unit, OnnxEncoder.from_pretrained(folder).embed(photos))


def test_keras_alone(saved, photos):
    _, encoder, folder = saved
    pixels = encoder.preprocess.batch(photos)
    close(cls(encoder, photos), keras.saving.load_model(folder / "model.keras").predict_on_batch(pixels))


def test_transformers(saved, photos):
    transformers = need("transformers")
    name, encoder, folder = saved
    expected = cls(encoder, photos)
    for loader in (transformers.AutoModel, getattr(transformers, name)):
        model, said = loader.from_pretrained(folder, output_loading_info=True)
        assert type(model).__name__ == name
        assert not any(said.values()), said  # nothing missing, unexpected or misshapen
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        inputs = processor([photo.convert("RGB") for photo in photos], return_tensors="pt")
        with torch.no_grad():
            outputs = model.eval()(**inputs)
        close(expected, outputs.last_hidden_state[:, 0].numpy())
        close(expected, outputs.pooler_output.numpy())


def test_transformers_other_backend_agrees_where_nothing_is_resized(saved):
    transformers = need("transformers")
    ours = from_pretrained(saved[2]).preprocess
    (picture,) = pictures(1, size=ours.resize_size)
    processor = transformers.AutoImageProcessor.from_pretrained(saved[2], backend="torchvision")
    theirs = processor(Image.fromarray(picture), return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(theirs, ours(picture), atol=1e-6)


def test_timm(saved, photos):
    timm = need("timm")
    _, encoder, folder = saved
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.no_grad():
        close(cls(encoder, photos), model(torch.stack([transform(photo) for photo in photos])).numpy())


def test_from_the_hub(saved, photos, tmp_path, monkeypatch):
    timm, transformers = need("timm"), need("transformers")
    name, encoder, folder = saved
    with serving() as hub:
        lead_to(hub.address, tmp_path, monkeypatch)
        hub.add_folder("someone/model", folder)
        pixels = torch.from_numpy(encoder.preprocess.batch(photos).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            close(
                cls(encoder, photos),
                timm.create_model("hf-hub:someone/model", pretrained=True).eval()(pixels),
            )
            model = transformers.AutoModel.from_pretrained("someone/model").eval()
            close(cls(encoder, photos), model(pixels).last_hidden_state[:, 0])
        processor = transformers.AutoImageProcessor.from_pretrained("someone/model", backend="pil")
        np.testing.assert_allclose(
            processor(photos[0], return_tensors="pt")["pixel_values"][0], pixels[0], atol=1e-6
        )
        assert not [
            line for line in hub.requests if line.startswith("GET") and line.endswith((".onnx", ".keras"))
        ]


def test_transformers_js(saved, tmp_path):
    """At the size of the model: for others its image library rounds differently."""
    modules = node_modules()
    _, encoder, folder = saved
    size = encoder.preprocess.resize_size
    images = [Image.fromarray(picture) for picture in pictures(2, size=size)]
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for image, path in zip(images, paths, strict=True):
        image.save(path)

    def run(dtype):
        script = pathlib.Path(__file__).parents[1] / "helpers" / "transformers_js.mjs"
        command = ["node", script, modules / "node_modules", folder.parent, folder.name, dtype, *paths]
        done = subprocess.run(
            [str(c) for c in command], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    rows = run("fp32")
    expected = cls(encoder, images)
    close(expected, [row["pooled"] for row in rows])
    close(expected, [row["cls"] for row in rows])
    tokens = from_pretrained(folder).tokens(encoder.preprocess.batch(images))
    assert rows[0]["shape"] == [1, *tokens.shape[1:]]

    from onnxruntime.quantization import quantize_dynamic

    quantized = folder / "onnx" / "model_quantized.onnx"
    quantize_dynamic(folder / "onnx" / "model.onnx", quantized)
    try:
        session = onnxruntime.InferenceSession(quantized)
        pixels = encoder.preprocess.batch(images).transpose(0, 3, 1, 2)
        here = np.stack([session.run(["pooler_output"], {"pixel_values": p[None]})[0][0] for p in pixels])
        there = np.array([row["pooled"] for row in run("q8")])
        cosine = (here * there).sum(1) / np.linalg.norm(here, axis=1) / np.linalg.norm(there, axis=1)
        assert cosine.min() > 0.999
    finally:
        quantized.unlink()
