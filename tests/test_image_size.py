"""`image_size=` and `--image-size`: a model asked at another size than its own, wherever one is opened."""

import importlib.util
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import run
from labelled_images import coloured, write
from onnx_folder import write_encoder
from PIL import Image
from small_models import pictures, small_cnn, varied

from memssl_keras import Encoder, OnnxEncoder, ResNet, export_onnx, from_pretrained, save_pretrained
from memssl_keras.images import Preprocessing
from memssl_keras.models import open_embedder, open_embedders
from memssl_keras.zoo.registry import resolve

SETTINGS = {"image_size": 32, "resize_size": 36, "interpolation": "bicubic"}
SETTINGS |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
BUNDLED = "massl_resnet14.cifar10"


@pytest.fixture(scope="module")
def vit():
    """The folder of a bundled ViT of 32 px, patch 4, with a float32 graph."""
    return resolve("massl_vitn4.cifar10")


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resnet")
    encoder = varied(ResNet((1, 1), 8, "cifar", pooling_grid=2, preprocessing=SETTINGS))
    encoder.save_pretrained(folder, exports=["fp32"])
    return folder


KINDS = ["vit", pytest.param("resnet", marks=pytest.mark.slow)]


@pytest.mark.numeric
@pytest.mark.parametrize("kind", KINDS)
def test_keras_and_onnx_agree_at_another_size(request, kind):
    folder, images = request.getfixturevalue(kind), pictures(4, 60)
    own, larger = from_pretrained(folder), from_pretrained(folder, image_size=48)
    assert larger.preprocess == own.preprocess.at(48) != own.preprocess
    running = OnnxEncoder.from_pretrained(folder, image_size=48, threads=1)
    assert running.preprocessing == larger.preprocess and running.config["preprocessing"]["image_size"] == 32
    np.testing.assert_allclose(larger.embed(images), running.embed(images), atol=1e-5)
    expected = own.embed(images, preprocessing=larger.preprocess)
    np.testing.assert_allclose(larger.embed(images), expected, atol=1e-6)
    assert np.abs(larger.embed(images) - own.embed(images)).max() > 1e-3


@pytest.mark.numeric
def test_a_bundled_model_at_two_sizes():
    """In eight bits the two sizes give different unit vectors; each is near Keras's at its size and no other."""
    images, found, keras = pictures(8, 60), {}, {}
    for size in (32, 40):
        running = OnnxEncoder.from_pretrained(BUNDLED, variant="int8", image_size=size, threads=1)
        found[size] = running.embed(images)
        keras[size] = from_pretrained(BUNDLED, image_size=size).embed(images)
        np.testing.assert_allclose(np.linalg.norm(found[size], axis=1), 1, atol=1e-5)
        assert (found[size] * keras[size]).sum(1).min() > 0.99
    assert (found[32] * found[40]).sum(1).max() < 0.99


@pytest.mark.slow
@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_what_is_saved_and_exported_keeps_the_size(request, tmp_path, kind):
    larger, images = from_pretrained(request.getfixturevalue(kind), image_size=48), pictures(3, 60)
    larger.save_pretrained(tmp_path / "saved")
    again = from_pretrained(tmp_path / "saved")
    assert again.preprocess == larger.preprocess
    np.testing.assert_allclose(again.embed(images), larger.embed(images), atol=1e-6)
    export_onnx(larger, tmp_path / "exported")
    running = OnnxEncoder.from_pretrained(tmp_path / "exported", threads=1)
    assert running.preprocessing == larger.preprocess
    np.testing.assert_allclose(running.embed(images), larger.embed(images), atol=1e-5)


def test_of_the_hub(hub, vit):
    hub.add_folder("someone/vit", vit)
    assert from_pretrained("someone/vit", image_size=40).preprocess == Preprocessing(40, 40)
    assert OnnxEncoder.from_pretrained("someone/vit", image_size=40).preprocessing == Preprocessing(40, 40)


def test_the_own_size_changes_nothing_and_another_is_another_revision(vit):
    own = OnnxEncoder.from_pretrained(vit)
    assert OnnxEncoder.from_pretrained(vit, image_size=32).revision() == own.revision()
    assert OnnxEncoder.from_pretrained(vit, image_size=40).revision() != own.revision()
    assert from_pretrained(vit, image_size=32).preprocess == own.preprocessing


@pytest.mark.parametrize("opened", [from_pretrained, OnnxEncoder.from_pretrained])
@pytest.mark.parametrize(
    "size, words",
    [
        (30, "image_size=30: expected a multiple of the patch of 4 px, such as 28 or 32"),
        (0, "image_size=0: expected a number of pixels of at least 1"),
        (True, "image_size=True: expected a number of pixels"),
        ("64", "image_size='64': expected a number of pixels"),
    ],
)
def test_a_size_that_the_encoder_does_not_take(vit, opened, size, words):
    with pytest.raises(ValueError, match=words):
        opened(vit, image_size=size)


@pytest.mark.slow
def test_a_model_of_one_size_says_which(tmp_path, vit):
    save_pretrained(Encoder.wrap(small_cnn()), tmp_path / "cnn", exports=["fp32"])
    with pytest.raises(ValueError, match="image_size=48: this encoder takes 32 × 32 px alone"):
        from_pretrained(tmp_path / "cnn", image_size=48)
    fixed = r"image_size=48: .*model\.onnx is fixed to 32 × 32 px; expected 32"
    with pytest.raises(ValueError, match=fixed):
        OnnxEncoder.from_pretrained(tmp_path / "cnn", image_size=48)
    export_onnx(from_pretrained(vit), tmp_path / "fixed", image_size=48)
    with pytest.raises(ValueError, match=r"image_size=30: .*model\.onnx is fixed to 48 × 48 px; expected 48"):
        OnnxEncoder.from_pretrained(tmp_path / "fixed", image_size=30)
    assert OnnxEncoder.from_pretrained(tmp_path / "fixed", image_size=48).preprocessing.image_size == 48


def test_a_graph_that_fails_at_that_size_is_named(tmp_path):
    write_encoder(tmp_path)  # its patches are 8 px, which its configuration does not say
    with pytest.raises(ValueError, match=r"image_size=4: .* does not run on pictures of 4 × 4 px"):
        OnnxEncoder.from_pretrained(tmp_path, image_size=4)


# Evaluation: what features are kept under, and what they are called.


def test_embedders_say_the_size_in_name_and_key(vit):
    own, larger = open_embedders([str(vit)])[2:], open_embedders([str(vit)], image_size=48)[2:]
    assert [one.name for one in own] == ["the encoder, untrained", "the encoder"]
    assert [one.name for one in larger] == ["the encoder, untrained, 48 px", "the encoder, 48 px"]
    for ours, theirs in zip(own, larger, strict=True):
        assert ours.key != theirs.key
    assert larger[1].key["preprocessing"] == Preprocessing(48, 48).to_dict()
    expected = from_pretrained(vit, image_size=48).embed(pictures(2))
    np.testing.assert_allclose(larger[1].embed(list(pictures(2))), expected, atol=1e-6)
    assert np.abs(larger[0].embed(list(pictures(2))) - own[0].embed(list(pictures(2)))).max() > 1e-4
    exported = open_embedder(f"{vit}@fp32", image_size=48)
    assert exported.key["preprocessing"] == Preprocessing(48, 48).to_dict()
    np.testing.assert_allclose(exported.embed(list(pictures(2))), expected, atol=1e-5)


def test_of_several_models_the_untrained_one_is_named(vit, tmp_path):
    other = write_encoder(tmp_path / "other")
    names = [one.name for one in open_embedders([str(vit), str(other)])[2:]]
    assert names == [f"{vit}, untrained", str(vit), str(other)]


def test_embedders_refuse_what_has_no_size(vit):
    with pytest.raises(ValueError, match="image_size=48: numpy:asarray is a function"):
        open_embedder("numpy:asarray", image_size=48)
    with pytest.raises(ValueError, match="image_size=30: expected a multiple of the patch"):
        open_embedder(vit, image_size=30)


def test_evaluate_reports_the_size(vit, tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSSL_CACHE", str(tmp_path / "kept"))
    labels = [i % 2 for i in range(20)]
    write(tmp_path / "data.parquet", coloured(labels, 20), label=labels)
    asked = ("evaluate", vit, "--data", tmp_path / "data.parquet", "--k", 3, "--out", tmp_path / "out")
    run(*asked, "--image-size", 48)
    scores = json.loads((tmp_path / "out" / "results.json").read_text())["results"][0]["scores"]
    assert list(scores)[2:] == ["the encoder, untrained, 48 px", "the encoder, 48 px"]
    assert "the encoder, 48 px" in (tmp_path / "out" / "report.html").read_text()
    before = len(list((tmp_path / "kept").rglob("*.npy")))
    run(*asked)  # at its own size both encoders are embedded anew, pixels are not
    assert len(list((tmp_path / "kept").rglob("*.npy"))) == before + 2


def test_a_card_does_not_take_another_sizes_scores_for_the_files(tmp_path):
    from memssl_keras.zoo.card_sections import measured_file
    from memssl_keras.zoo.registry import folder_facts

    write_encoder(tmp_path)
    for name, knn in (("the encoder", 0.5), ("the encoder, 48 px", None)):
        entry = {"data": "d", "task": "knn", "headline": "k = 3", "scores": {name: {"k = 3": 0.5}}}
        (tmp_path / "results.json").write_text(json.dumps({"reference": name, "results": [entry]}))
        facts = folder_facts(tmp_path)
        assert facts["knn"] == knn and facts["scores"][0][0] == f"d, knn, k = 3{name[11:]}"
        assert (measured_file(tmp_path, name, name) is None) == (knn is None)


# Tables and indices: a query is embedded at the size of what it is compared with.


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pictures(6, 60)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    write_encoder(tmp_path / "model")
    return tmp_path


def similarities(*arguments):
    return [hit["similarity"] for hit in json.loads(run("search", *arguments, "--json"))["neighbours"]]


def test_a_query_is_embedded_at_the_size_of_the_table(photos):
    run("embed", "photos", "--model", "model", "--out", "large.parquet", "--image-size", 56)
    assert pq.read_schema("large.parquet").metadata[b"memssl_image_size"] == b"56"
    encoder = OnnxEncoder.from_pretrained("model", image_size=56)
    vectors = encoder.embed([f"photos/{i}.png" for i in range(6)])
    expected = np.sort(vectors @ vectors[2])[::-1]
    np.testing.assert_allclose(similarities("large.parquet", "photos/2.png"), expected, atol=1e-5)
    asked = similarities("large.parquet", "photos/2.png", "--image-size", 56)
    np.testing.assert_allclose(asked, expected, atol=1e-5)


def test_a_query_at_another_size_is_refused(photos):
    run("embed", "photos", "--model", "model", "--out", "large.parquet", "--image-size", 56)
    said = run("search", "large.parquet", "photos/2.png", "--image-size", 32, code=1)
    assert "(56 px), and " in said and "(32 px): vectors of two revisions do not compare" in said
    assert "or search at 56 px" in said


def test_a_table_without_a_size_is_searched_at_the_models_own(photos):
    run("embed", "photos", "--model", "model", "--out", "own.parquet")
    table = pq.read_table("own.parquet")
    metadata = dict(table.schema.metadata)
    assert metadata.pop(b"memssl_image_size") == b"32"
    pq.write_table(table.replace_schema_metadata(metadata), "old.parquet")
    asked = [similarities(name, "photos/2.png") for name in ("own.parquet", "old.parquet")]
    np.testing.assert_array_equal(*asked)


def test_an_interrupted_table_does_not_mix_two_sizes(photos):
    from memssl_keras.data.sources import open_source
    from memssl_keras.embedding.run import EmbeddingRun, write_embeddings

    own, larger = (OnnxEncoder.from_pretrained("model", image_size=size) for size in (32, 56))
    source = open_source("photos")
    begun = EmbeddingRun(source, "a.parquet", "m", own.embed_dim, own.revision(), 2, 32)
    for number in begun.start()[:2]:
        begun.write(number, own)
    write_embeddings(larger, source, "a.parquet", "m", chunk=2)
    write_embeddings(larger, source, "b.parquet", "m", chunk=2)
    assert pq.read_table("a.parquet").equals(pq.read_table("b.parquet"))


@pytest.mark.skipif(not importlib.util.find_spec("pymilvus"), reason="the extra `index` is not installed")
def test_an_index_keeps_the_size(photos):
    run("embed", "photos", "--model", "model", "--out", "large.parquet", "--image-size", 56)
    run("index", "large.parquet", "--to", "photos.db")
    in_file = similarities("large.parquet", "photos/2.png")
    np.testing.assert_allclose(similarities("--index", "photos.db", "photos/2.png"), in_file, atol=1e-5)
    said = run("search", "--index", "photos.db", "photos/2.png", "--image-size", 32, code=1)
    assert "(56 px), and " in said and "or search at 56 px" in said
    # Vectors of another size have no place in it, which is said before anything is embedded.
    said = run("embed", "photos", "--model", "model", "--out", "own.parquet", "--to", "photos.db", code=1)
    assert "(56 px), these of model at" in said and "(32 px); vectors of two models or revisions" in said
    assert not (photos / "own.parquet").exists()


# The demo and the benchmark.


def test_the_demo_at_another_size(photos):
    from memssl_keras.demo.models import open_model
    from memssl_keras.demo.recall import open_recall
    from memssl_keras.demo.search import load
    from memssl_keras.demo.space import write_space

    own, larger = open_model("model"), open_model("model", 56)
    assert (own.name, larger.name) == ("model", "model, 56 px") and own.revision != larger.revision
    assert open_model("model", 32).name == "model" and open_recall(larger) is None
    found = load("model", "photos", image_size=56)
    expected = larger.encoder.embed([f"photos/{i}.png" for i in range(6)])
    np.testing.assert_allclose(found.index.vectors, expected, atol=1e-5)
    space = write_space("space", "model", "photos", image_size=56)
    assert "open_browser=False, image_size=56)" in (space / "app.py").read_text()


@pytest.mark.skipif(not importlib.util.find_spec("pymilvus"), reason="the extra `index` is not installed")
def test_the_demo_over_an_index_takes_its_size(photos):
    from memssl_keras.demo.search import load, opened

    run(
        "embed",
        "photos",
        "--model",
        "model",
        "--out",
        "large.parquet",
        "--image-size",
        56,
        "--to",
        "photos.db",
    )
    uri = str(photos / "photos.db")
    found = load(opened(uri).source.model, uri)
    assert found.fresh == 0 and found.encoder.preprocessing.image_size == 56
    said = run("demo", "--index", "photos.db", "--image-size", 32, code=1)
    assert "image_size=32: the vectors of photos.db were made at 56 px" in said


def test_the_benchmark_at_another_size(vit):
    from memssl_keras.benchmark import _runners

    assert _runners(vit, ["fp32"], 1, None)[1] == 32
    assert _runners(vit, ["fp32"], 1, 48)[1] == 48
