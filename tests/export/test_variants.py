"""float16, int8 and raw pixels: sizes, numbers, what is refused, and that no half-written file stays."""

import dataclasses
import json

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array, to_array
from PIL import Image
from small_models import pictures, small_cnn, small_vit, varied

from memssl_keras import OnnxEncoder, ResNet, export_onnx
from memssl_keras.export import onnx as module
from memssl_keras.export.bounds import Verification, check
from memssl_keras.export.job import Job
from memssl_keras.export.quantize import to_float16, to_int8, to_static_int8
from memssl_keras.export.raw_pixels import preprocessing_graph
from memssl_keras.export.trace import trace
from memssl_keras.export.verify import on_images
from memssl_keras.images import Preprocessing
from memssl_keras.weights.config import RAW_PIXELS, VARIANTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(0)
    return varied(small_vit(embed_dim=96, num_heads=4))


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants") / "model"
    images = pictures(40)
    export_onnx(
        encoder, folder, variants="all", raw_pixels=True, ort=True, images=images, labels=np.arange(40) % 4
    )
    return folder


def test_every_file_lies_there_with_what_was_measured(folder):
    there = {path.name for path in (folder / "onnx").iterdir()}
    files = [*VARIANTS.values(), *RAW_PIXELS.values()]
    files += [name.replace(".onnx", ".ort") for name in files]
    assert there == {*files, *(f"{name}.verify.json" for name in files)}
    for name in files:
        found = json.loads((folder / "onnx" / f"{name}.verify.json").read_text())
        assert found["file"] == name and found["bytes"] == (folder / "onnx" / name).stat().st_size
        assert found["images"]["images"] == 40 and 0 <= found["images"]["knn"] <= 1
        assert len(found["inputs"]) >= 8 and found["mean_cosine"] > 0.99


def test_smaller_files(folder):
    size = {variant: (folder / "onnx" / file).stat().st_size for variant, file in VARIANTS.items()}
    assert size["fp16"] < 0.65 * size["fp32"] and size["int8"] < 0.5 * size["fp32"]


def test_float16_keeps_inputs_outputs_norms_and_softmax(folder):
    model = onnx.load(folder / "onnx" / "model_fp16.onnx")
    values = [*model.graph.input, *model.graph.output]
    assert {value.type.tensor_type.elem_type for value in values} == {onnx.TensorProto.FLOAT}
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            assert all(
                kinds.get(name, onnx.TensorProto.FLOAT) == onnx.TensorProto.FLOAT for name in node.input
            )
        if node.op_type == "Softmax":
            cast = made[node.input[0]]
            assert cast.op_type == "Cast" and cast.attribute[0].i == onnx.TensorProto.FLOAT
    assert sum(kind == onnx.TensorProto.FLOAT16 for kind in kinds.values()) > 8


@pytest.mark.parametrize("variant, cosine", [("fp16", 0.99999), ("int8", 0.999), ("int8-static", 0.99)])
def test_variants_embed_almost_alike(folder, encoder, variant, cosine):
    images = list(pictures(6, 50, seed=3))
    if variant != "int8-static":  # whose ranges are those of pictures
        images.append(np.zeros((9, 70, 3), np.uint8))
    vectors = OnnxEncoder.from_pretrained(folder, variant=variant, preload=True).embed(images)
    similar = (vectors * encoder.embed(images)).sum(1)
    assert similar.min() > cosine and (variant == "fp16" or similar.max() < 1 - 1e-9)


def test_only_operators_of_the_standard(folder):
    for path in (folder / "onnx").glob("*.onnx"):
        model = onnx.load(path)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"} and not model.functions, (
            path.name
        )
        assert "Resize" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size, resize", [(32, 32), (48, 56)])
def test_the_graph_resizes_as_pillow_does(interpolation, size, resize):
    preprocess = Preprocessing(size, resize, interpolation)
    graph = onnxruntime.InferenceSession(preprocessing_graph(preprocess).SerializeToString())
    rng = np.random.default_rng(0)
    for height, width in [
        (16, 16),
        (48, 48),
        (56, 70),
        (375, 500),
        (401, 23),
        (1, 900),
        (900, 2),
        (1500, 2000),
    ]:
        coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
        image = np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))
        ours = graph.run(None, {"image": image[None]})[0][0].transpose(1, 2, 0)
        difference = np.abs(ours - preprocess(image)) * 255 * np.array(preprocess.std)
        # A value that lies between two is rounded the other way now and then, in each of the two passes.
        assert difference.max() < 2.01 and difference.mean() < 0.2, (height, width)


@pytest.mark.parametrize("size", [(16, 16), (64, 64), (480, 640), (31, 400), (2250, 4000), (1, 700)])
def test_raw_pixels_give_the_vector_of_python(folder, encoder, size):
    image = pictures(1, 64, seed=size[1])[0]
    image = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    session = onnxruntime.InferenceSession(folder / "onnx" / "raw_pixels.onnx")
    assert [(i.name, i.type) for i in session.get_inputs()] == [("image", "tensor(uint8)")]
    (vectors,) = session.run(["embedding"], {"image": np.stack([image, image])})
    assert vectors.shape == (2, 96) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ encoder.embed([image])[0] > 0.9999


def test_a_fixed_size_bakes_the_positions_in(encoder, tmp_path):
    export_onnx(encoder, tmp_path / "fixed", image_size=48)
    model = onnx.load(tmp_path / "fixed" / "onnx" / "model.onnx")
    shape = [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 3, 48, 48]
    assert len(model.graph.node) < 0.7 * len(trace(encoder).graph.node)
    ours = OnnxEncoder.from_pretrained(tmp_path / "fixed")
    assert ours.preprocessing.image_size == 48
    with torch.no_grad():
        pixels = ours.preprocessing.batch(pictures(3))
        expected = encoder(pixels).numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(ours.embed(pictures(3)), expected, atol=1e-5)


def test_a_variant_that_fails_is_not_written_and_the_others_are(encoder, tmp_path, monkeypatch):
    def noise(model, batches):
        damaged = to_int8(model)
        for tensor in damaged.graph.initializer:
            if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2:
                tensor.raw_data = (
                    np.random.default_rng(0).integers(-60, 60, tensor.dims).astype("int8").tobytes()
                )
        return damaged

    monkeypatch.setattr(module, "to_int8", noise)
    with pytest.raises(
        module.ParityError, match=r"model_quantized.onnx \(int8\) has a mean cosine.*not written"
    ) as raised:
        export_onnx(encoder, tmp_path, variants=["fp32", "int8", "fp16"])
    written = {path.name for path in (tmp_path / "onnx").glob("*.onnx")}
    assert written == set(raised.value.written) == {"model.onnx", "model_fp16.onnx"}


def test_few_images_may_lose_two():
    def found(images, again, knn, reference):
        measured = {"images": images, "recall@1": again, "knn": knn, "reference_knn": reference}
        return Verification("f", "int8", 1, "", 0.1, 0.999, 0.99, [], measured)

    check(found(100, 0.98, 0.46, 0.50))
    with pytest.raises(module.ParityError, match="mean cosine of nan"):
        check(Verification("f", "int8", 1, "", 0.1, float("nan"), 0.99, []))
    check(found(10_000, 0.9951, 0.4951, 0.50))
    for few in (found(100, 0.97, 0.50, 0.50), found(100, 1.0, 0.44, 0.50)):
        with pytest.raises(module.ParityError, match="recall@1 of|loses 6.00 points of k-NN on 50 images"):
            check(few)
    for many in (found(10_000, 0.9949, 0.5, 0.5), found(10_000, 1.0, 0.4949, 0.50)):
        with pytest.raises(module.ParityError, match="below 99.50%|loses 0.51 points of k-NN on 5000 images"):
            check(many)


def test_what_is_lost_on_images_counts(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "to_float16", lambda model: to_float16(_noisy(model)))
    with pytest.raises(module.ParityError, match="images, below 99|differs|cosine"):
        export_onnx(encoder, tmp_path, variants=["fp16"], images=pictures(300, seed=5), tolerance=1)
    vectors = np.eye(8, dtype="float32")
    measured = on_images(vectors[[1, 0, *range(2, 8)]], vectors)
    assert measured["recall@1"] == 6 / 8
    alternating = on_images(np.tile(vectors[:2], (8, 1)), np.tile(vectors[:2], (8, 1)), np.arange(16) % 2)
    assert alternating["knn"] == alternating["reference_knn"] == 1
    twins = np.repeat(vectors[:4], 2, axis=0)
    assert on_images(twins, twins, np.arange(8) // 2)["recall@1"] == 1


def _noisy(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim == 2 and array.dtype == np.float32:
            rng = np.random.default_rng(0)
            noise = array + rng.normal(0, 0.5 * array.std(), array.shape).astype("float32")
            tensor.CopyFrom(onnx.numpy_helper.from_array(noise, tensor.name))
    return copy


def test_a_convolutional_encoder_has_variants_too(tmp_path):
    export_onnx(small_cnn(), tmp_path / "cnn", variants="all", raw_pixels=True, images=pictures(16))
    kinds = {
        node.op_type for node in onnx.load(tmp_path / "cnn" / "onnx" / "model_quantized.onnx").graph.node
    }
    assert "QuantizeLinear" in kinds and not {"ConvInteger", "DynamicQuantizeLinear"} & kinds
    assert len(list((tmp_path / "cnn" / "onnx").glob("*.onnx"))) == 6  # int8-static would be int8 once more


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"variants": ["int4"]}, "variants=.*int4.*expected some of fp32, fp16, int8, int8-static, or 'all'"),
        ({"variants": []}, "expected some of fp32"),
        ({"variants": ["int8-static"]}, "int8-static takes .* images; images is None"),
        ({"variants": ["int8-static"], "images": []}, "images is empty"),
        ({"image_size": 30}, "image_size=30: expected a multiple of the patch of 8 px, such as 24 or 32"),
        ({"image_size": 0}, "image_size=0: expected a number of pixels"),
        ({"opset": 11}, "opset=11: expected one of 18, 19, 20, 21"),
        ({"images": pictures(3), "labels": [1, 2]}, "labels: got 2 for 3 images"),
    ],
)
def test_bad_arguments_leave_nothing(encoder, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        export_onnx(encoder, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_margins_that_are_trimmed_are_refused_before_the_work(encoder, tmp_path):
    trimming = dataclasses.replace(encoder.preprocess, trim=0.1)
    with pytest.raises(ValueError, match="trim=0.1: cutting margins away cannot be put into the graph"):
        export_onnx(encoder, tmp_path / "out", raw_pixels=True, preprocessing=trimming)
    assert not (tmp_path / "out").exists()


def test_a_single_patch_is_no_constant(tmp_path):
    encoder = small_vit(patch_size=32, image_size=32)
    written = export_onnx(encoder, tmp_path)
    assert written["model.onnx"].largest_difference < 1e-4
    images = pictures(3, 32)
    np.testing.assert_allclose(
        OnnxEncoder.from_pretrained(tmp_path).embed(images), encoder.embed(images), atol=1e-5
    )


def test_other_folders_are_left_alone(encoder, folder, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="is not empty and holds no model"):
        export_onnx(encoder, tmp_path)
    with pytest.raises(ValueError, match="holds a model with another preprocessing"):
        export_onnx(encoder, folder, image_size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_operation_that_onnx_lacks_is_named(tmp_path):
    from keras import Input, Model, layers

    class Odd(layers.Layer):
        def call(self, x):
            return torch.special.bessel_j0(x)

    images = Input((16, 16, 3))
    odd = Model(images, Odd(name="odd")(layers.GlobalAveragePooling2D(name="pool")(images)), name="strange")
    with pytest.raises(
        ValueError, match="encoder=strange: an operation of it cannot be written as ONNX.*bessel_j0"
    ):
        export_onnx(odd, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("opset", [19, 20, 21])
def test_newer_opsets(encoder, tmp_path, opset):
    export_onnx(encoder, tmp_path, opset=opset)
    model = onnx.load(tmp_path / "onnx" / "model.onnx")
    assert {o.version for o in model.opset_import if o.domain == ""} == {opset}


def test_unreadable_pictures_are_skipped_with_their_labels(tmp_path):
    images, labels = [b"no image", *pictures(6, size=32)], [1, 0, 1, 0, 1, 0, 1]
    with pytest.warns(UserWarning):
        assert module._readable(images, labels)[1] == labels[1:]
    with pytest.warns(UserWarning, match="1 of 7 images are unreadable and skipped: image of 8 bytes"):
        written = export_onnx(small_vit(), tmp_path, images=images, labels=labels)
    assert written["model.onnx"].images["images"] == 6 and "knn" in written["model.onnx"].images


def test_int8_is_calibrated_with_images_from_all_parts(tmp_path):
    grey = [np.full((32, 32, 3), 8 + value % 8, "uint8") for value in range(400)]
    bright = [np.full((32, 32, 3), 255, "uint8") for _ in range(100)]  # the last class of a folder
    job = Job(small_cnn(), tmp_path, Preprocessing(32, 32), [*grey, *bright], None, None, None)
    batches = list(job.calibration())
    assert {batch.shape for batch in batches} == {(8, 3, 32, 32)} and len(batches) == 32
    brightest = np.concatenate(batches).max((1, 2, 3))
    assert 45 <= (brightest == brightest.max()).sum() <= 55
    job.images = grey[:20]
    assert [len(batch) for batch in job.calibration()] == [8, 8]


def test_one_glaring_pixel_does_not_coarsen_the_steps_of_int8():
    names = ["pixel_values", "between", "features"]
    weights = [from_array(np.ones((1, 3 - 2 * i, 1, 1), "float32"), f"weight_{i}") for i in range(2)]
    nodes = [make_node("Conv", [names[i], f"weight_{i}"], [names[i + 1]], f"conv_{i}") for i in range(2)]
    ends = [make_tensor_value_info(names[2 * i], 1, ["n", 3 - 2 * i, 96, 96]) for i in range(2)]
    graph = make_graph(nodes, "two convolutions", ends[:1], ends[1:], weights)
    model = make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=10)

    def first_step(brightest):
        images = np.random.default_rng(0).normal(size=(320, 3, 96, 96)).astype("float32")
        images[100, :, 20, 20] = brightest
        int8 = to_static_int8(model, np.split(images, 40))
        values = {weight.name: to_array(weight) for weight in int8.graph.initializer}
        (first,) = (n for n in int8.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "between")
        return float(values[first.input[1]])

    assert first_step(100.0) < 1.5 * first_step(3.0)


def test_relu_is_part_of_the_int8_convolution_before_it():
    """Else half of the convolution's 256 steps would lie below zero, where ReLU cuts them off."""
    int8 = to_int8(trace(ResNet((1, 1), 8, "cifar")), lambda: [np.ones((8, 3, 32, 32), "float32")])
    makers = {name: node.op_type for node in int8.graph.node for name in node.output}
    cut = [makers[node.input[0]] for node in int8.graph.node if node.op_type == "Relu"]
    assert cut and "DequantizeLinear" not in cut


def test_int8_of_convolutions_is_static_and_measured(tmp_path):
    """Dynamic quantisation of activations costs more than the convolutions that it saves."""
    written = export_onnx(ResNet((1, 1), 16, "half"), tmp_path, variants=["fp32", "int8"])
    kinds = {node.op_type for node in onnx.load(tmp_path / "onnx" / "model_quantized.onnx").graph.node}
    assert "DynamicQuantizeLinear" not in kinds and "QuantizeLinear" in kinds
    assert written["model_quantized.onnx"].speedup > 0 and written["model.onnx"].speedup is None
    kinds = {node.op_type for node in to_int8(trace(small_vit())).graph.node}
    assert "DynamicQuantizeLinear" in kinds


@pytest.mark.slow
def test_a_picture_in_two_formats_is_found_in_either(tmp_path, encoder):
    """Raw pixels are compared with pictures that no JPEG was decoded at a fraction for."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, pixels in enumerate(pictures(6, 300, seed=3)):
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=90)
        Image.open(folder / f"{i}.jpg").save(folder / f"{i}.png")
    images = [str(path) for path in sorted(folder.iterdir())]
    written = export_onnx(encoder, tmp_path / "model", raw_pixels=True, images=images)
    assert {name: found.images["recall@1"] for name, found in written.items()} == {
        "model.onnx": 1.0,
        "raw_pixels.onnx": 1.0,
    }
