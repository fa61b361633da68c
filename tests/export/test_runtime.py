"""An exported encoder without torch or Keras: right vectors, bounded memory, clear errors."""

import copy
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from onnx_folder import EMBED_DIM, PREPROCESSING, write_encoder
from PIL import Image
from small_models import pictures

from memssl_keras.export import OnnxEncoder
from memssl_keras.images.read import ImageError, read_image
from memssl_keras.weights.config import split_variant


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder):
    return OnnxEncoder.from_pretrained(folder, threads=1)


def noise(count=5, size=40):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_embeds_as_the_model_says(folder, encoder):
    images = noise()
    session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = encoder.preprocessing.batch(images).transpose(0, 3, 1, 2)
    (pooled,) = session.run(["pooler_output"], {"pixel_values": pixels})
    vectors = encoder.embed(images)
    assert vectors.dtype == np.float32 and vectors.shape == (5, EMBED_DIM) == (5, encoder.embed_dim)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert np.allclose(vectors, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_jpegs_are_decoded_whole_where_that_is_asked_for(folder, tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(noise(1, 1600)[0]).save(path, quality=95)
    scaled, whole = (
        OnnxEncoder.from_pretrained(folder, threads=1, scaled_decoding=flag).embed(path)
        for flag in (True, False)
    )
    expected = OnnxEncoder.from_pretrained(folder, threads=1).embed(read_image(path))
    np.testing.assert_array_equal(whole, expected)
    assert np.abs(scaled - expected).max() > 1e-6
    features = OnnxEncoder.from_pretrained(folder, threads=1, scaled_decoding=False).features(path)
    np.testing.assert_allclose(features / np.linalg.norm(features), expected, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_copy_opens_the_file_again(folder, threads):
    encoder = OnnxEncoder.from_pretrained(folder, threads=threads)
    expected = encoder.embed(noise())
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        assert twin.graph.session is not encoder.graph.session and twin.threads == threads
        np.testing.assert_array_equal(twin.embed(noise()), expected)
        assert twin.revision() == encoder.revision()


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_batches_change_nothing(encoder, batch_size):
    assert np.allclose(encoder.embed(noise(), batch_size=batch_size), encoder.embed(noise()), atol=1e-6)


def test_takes_one_image_or_several_in_any_form(tmp_path, encoder):
    (pixels,) = noise(1)
    path = tmp_path / "image.png"
    image = Image.fromarray(pixels)
    image.save(path)
    expected = encoder.embed(pixels)
    assert expected.shape == (1, EMBED_DIM)
    for single in (path, str(path), path.read_bytes(), image):
        assert np.array_equal(encoder.embed(single), expected)
    several = encoder.embed(source for source in (path, image, pixels))
    assert np.allclose(several, np.repeat(expected, 3, axis=0), atol=1e-6)
    assert encoder.embed([]).shape == (0, EMBED_DIM)


def test_a_black_embedding_stays_finite(tmp_path):
    model = onnx.load(write_encoder(tmp_path) / "onnx" / "model.onnx")
    zeros = onnx.numpy_helper.from_array(np.zeros((EMBED_DIM, 3, 8, 8), np.float32), "filters")
    model.graph.initializer[0].CopyFrom(zeros)
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    assert np.array_equal(OnnxEncoder.from_pretrained(tmp_path).embed(noise(1)), np.zeros((1, EMBED_DIM)))


def test_an_unreadable_image_raises_or_is_left_out(tmp_path, encoder):
    bad = tmp_path / "bad.png"
    bad.write_text("no pixels")
    good = noise(2)
    images = [good[0], bad, good[1]]
    with pytest.raises(ImageError, match=r"bad\.png"):
        encoder.embed(images)
    with pytest.warns(UserWarning, match=r"image 1 is left out: .*bad\.png"):
        vectors = encoder.embed(images, on_error="skip")
    assert np.allclose(vectors, encoder.embed(good), atol=1e-6)
    with pytest.raises(ValueError, match="on_error: got 'ignore'"):
        encoder.embed(images, on_error="ignore")


def test_streams_in_bounded_memory(tmp_path, encoder):
    taken = 0

    def images():
        nonlocal taken
        for image in [*noise(3), tmp_path / "missing.png", *noise(2)]:
            taken += 1
            yield image

    stream = encoder.stream(images(), batch_size=2)
    first = next(stream)
    assert taken == 2 and first.indices == [0, 1] and not first.failures
    second, third = stream
    assert second.indices == [2] and second.vectors.shape == (1, EMBED_DIM)
    ((index, error),) = second.failures
    assert index == 3 and "missing.png" in str(error)
    assert third.indices == [4, 5]
    assert np.allclose(third.vectors, encoder.embed(noise(2)), atol=1e-6)
    with pytest.raises(ValueError, match="batch_size: got 0"):
        encoder.stream([], batch_size=0)


def test_loads_neither_torch_nor_keras(folder):
    code = (
        "import sys, numpy, memssl_keras\n"
        f"encoder = memssl_keras.OnnxEncoder.from_pretrained({str(folder)!r})\n"
        "encoder.embed(numpy.zeros((8, 8, 3), 'uint8'))\n"
        "heavy = {'torch', 'keras', 'tensorflow', 'jax', 'onnx', 'gradio'} & sys.modules.keys()\n"
        "print(sorted(heavy), 'onnxruntime' in sys.modules)\n"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[] True"


def test_names_an_unknown_model():
    with pytest.raises(ValueError, match="model: got 'no-such-model'"):
        OnnxEncoder.from_pretrained("no-such-model")


def test_names_an_unknown_variant_and_what_there_is(folder):
    with pytest.raises(ValueError, match="variant='int4': there is no such variant; expected fp32, fp16"):
        OnnxEncoder.from_pretrained(folder, variant="int4")


@pytest.mark.parametrize("threads", [0, -1, 1.5, True])
def test_refuses_a_bad_number_of_threads(folder, threads):
    with pytest.raises(ValueError, match="threads: got"):
        OnnxEncoder.from_pretrained(folder, threads=threads)


def test_names_what_a_folder_lacks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file"):
        OnnxEncoder.from_pretrained(tmp_path)
    write_encoder(tmp_path)
    (tmp_path / "onnx" / "model.onnx").rename(tmp_path / "onnx" / "other.onnx")
    with pytest.raises(
        FileNotFoundError, match=r"variant='fp32': .* has other\.onnx; memssl export writes others"
    ):
        OnnxEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_names_a_truncated_onnx_file(tmp_path, share):
    path = write_encoder(tmp_path) / "onnx" / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ValueError, match=r"model\.onnx: not a readable ONNX model"):
        OnnxEncoder.from_pretrained(tmp_path)


def test_names_a_model_that_is_no_encoder(tmp_path):
    path = write_encoder(tmp_path) / "onnx" / "model.onnx"
    model = onnx.load(path)
    model.graph.output.pop()
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"outputs \['last_hidden_state'\]; expected 'pooler_output'"):
        OnnxEncoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format_version": 3}, "format_version is 3; this version of memssl-keras reads 2"),
        ({"format_version": "one"}, "format_version is 'one'"),
        ({"preprocessing": {"image_size": 32}}, r"config\.json: preprocessing: resize_size.* missing"),
    ],
)
def test_refuses_a_config_it_does_not_understand(tmp_path, config, message):
    with pytest.raises(ValueError, match=message):
        OnnxEncoder.from_pretrained(write_encoder(tmp_path, **config))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not valid JSON"), ("[]", "expected an object"), ('{"format_version": 2}', "embed_dim")],
)
def test_refuses_a_damaged_config(tmp_path, text, message):
    (write_encoder(tmp_path) / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}"):
        OnnxEncoder.from_pretrained(tmp_path)


def test_the_folder_is_what_others_read_too(folder):
    model = onnx.load(folder / "onnx" / "model.onnx")
    assert [node.name for node in model.graph.input] == ["pixel_values"]
    assert json.loads((folder / "config.json").read_text())["library_name"] == "memssl-keras"


def test_a_provider_that_is_not_installed_is_named(folder):
    with pytest.raises(
        ValueError, match="providers: 'tensorrt' is not installed; this onnxruntime .* has .*'cpu'"
    ):
        OnnxEncoder.from_pretrained(folder, providers=["tensorrt", "cpu"])
    with pytest.raises(ValueError, match="providers: got none"):
        OnnxEncoder.from_pretrained(folder, providers=[])
    for spelling in ("cpu", ["CPUExecutionProvider"], ["CPU"]):
        encoder = OnnxEncoder.from_pretrained(folder, providers=spelling, preload=True)
        assert encoder.graph.session.get_providers() == ["CPUExecutionProvider"]


@pytest.mark.parametrize(
    "kind, shape, message",
    [
        (TensorProto.FLOAT, ["n", 3, "pixels"], r"'pixel_values' tensor\(float\) of rank 3"),
        (TensorProto.UINT8, ["n", 3, "h", "w"], r"'pixel_values' tensor\(uint8\) of rank 4"),
    ],
)
def test_another_rank_or_type_of_input_is_named(tmp_path, kind, shape, message):
    write_encoder(tmp_path)
    pixels = helper.make_tensor_value_info("pixel_values", kind, shape)
    pooled = helper.make_tensor_value_info("pooler_output", kind, shape)
    node = helper.make_node("Identity", ["pixel_values"], ["pooler_output"])
    graph = helper.make_graph([node], "odd", [pixels], [pooled])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "onnx" / "model.onnx")
    with pytest.raises(ValueError, match=message + ".*expected one alone, floats"):
        OnnxEncoder.from_pretrained(tmp_path)


def test_a_folder_stands_for_its_images(folder, tmp_path):
    for i, image in enumerate(pictures(3)):
        (tmp_path / "below").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "below" / f"{i}.png")
    (tmp_path / "below" / "1.png").write_bytes(b"broken")
    encoder = OnnxEncoder.from_pretrained(folder)
    (batch,) = encoder.stream(tmp_path)
    assert batch.indices == [0, 2] and [i for i, _ in batch.failures] == [1]
    np.testing.assert_allclose(batch.vectors, encoder.embed(pictures(3)[[0, 2]]), atol=1e-6)


def test_another_file_or_preprocessing_is_another_revision(folder, tmp_path):
    ours = OnnxEncoder.from_pretrained(folder).revision()
    assert ours == OnnxEncoder.from_pretrained(write_encoder(tmp_path / "same")).revision()
    other = write_encoder(tmp_path / "other", preprocessing={**PREPROCESSING, "interpolation": "bilinear"})
    assert ours != OnnxEncoder.from_pretrained(other).revision()
    changed = write_encoder(tmp_path / "changed")
    model = onnx.load(changed / "onnx" / "model.onnx")
    model.producer_name = "another"
    onnx.save(model, changed / "onnx" / "model.onnx")
    assert ours != OnnxEncoder.from_pretrained(changed).revision()


def test_names_with_and_without_a_variant(tmp_path):
    assert split_variant("zoo@int8") == ("zoo", "int8") and split_variant("zoo") == ("zoo", "")
    (tmp_path / "me@home").mkdir()
    assert split_variant(tmp_path / "me@home") == (str(tmp_path / "me@home"), "")
    assert split_variant(f"{tmp_path / 'me@home'}@fp16") == (str(tmp_path / "me@home"), "fp16")


def test_nothing_is_sent_or_kept_about_who_runs_it(tmp_path):
    """ONNX Runtime writes a device identity for its telemetry, which is off where an encoder runs."""
    code = (
        "import numpy as np; from memssl_keras import OnnxEncoder;"
        "OnnxEncoder.from_pretrained('massl_vitn4.cifar10').embed(np.zeros((8, 8, 3), 'uint8'))"
    )
    unset = {"ORT_DISABLE_TELEMETRY", "CI", "ORT_RUNNING_UNIT_TESTS"}
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    assert not list(tmp_path.rglob("*"))


def test_without_a_variant_it_takes_what_there_is(folder, tmp_path):
    """Float32 where it is there, else the first of the others."""
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    assert OnnxEncoder.from_pretrained(copy).file.name == "model.onnx"
    (copy / "onnx" / "model.onnx").rename(copy / "onnx" / "model_quantized.onnx")
    assert OnnxEncoder.from_pretrained(copy).file.name == "model_quantized.onnx"
    with pytest.raises(FileNotFoundError, match="variant='fp32': copy has int8"):
        OnnxEncoder.from_pretrained(copy, variant="fp32")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 6, 32])
def test_batches_are_whole_on_any_number_of_threads(tmp_path, folder, threads, batch_size):
    images = [*noise(7), tmp_path / "missing.png", *noise(6)]
    good = [i for i in range(len(images)) if i != 7]
    expected = OnnxEncoder.from_pretrained(folder, threads=1).embed([images[i] for i in good])
    batches = list(OnnxEncoder.from_pretrained(folder, threads=threads).stream(images, batch_size))
    assert [len(b.indices) + len(b.failures) for b in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert [i for b in batches for i in b.indices] == good
    assert [i for b in batches for i, _ in b.failures] == [7]
    np.testing.assert_allclose(np.concatenate([b.vectors for b in batches]), expected, atol=1e-6)


def test_pixels_are_run_in_pieces_too(folder):
    encoder, images = OnnxEncoder.from_pretrained(folder, threads=2), noise(11)
    pixels = np.stack([encoder.preprocessing(image) for image in images])
    np.testing.assert_allclose(encoder.embed_pixels(pixels), encoder.embed(images), atol=1e-6)
    assert encoder.embed_pixels(pixels[:0]).shape == (0, EMBED_DIM)
