"""From data and models to results: splits, what is wrong with them, features kept, and tasks side by side."""

import base64
import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_images import Counting, coloured, encoded, write
from onnx_folder import write_encoder
from other_libraries import need
from PIL import Image
from small_models import pictures, position_waves, small_vit

from memssl_keras import from_pretrained
from memssl_keras.data.classes import open_classes
from memssl_keras.data.hashes import content_hashes, data_key
from memssl_keras.data.sources import open_source
from memssl_keras.evaluate import run
from memssl_keras.evaluate.cache import FeatureCache
from memssl_keras.evaluate.data.corruptions import CORRUPTIONS, corrupt
from memssl_keras.evaluate.embedders import Embedder, pixel_embedders
from memssl_keras.evaluate.outcome import Settings
from memssl_keras.evaluate.protocols.intervals import student_interval
from memssl_keras.evaluate.report.figures import embedding_map, neighbour_page
from memssl_keras.evaluate.report.html import write_html
from memssl_keras.files import replace_file
from memssl_keras.images.read import read_image
from memssl_keras.models import open_embedder, untrained


@pytest.fixture
def colours(tmp_path):
    """40 training and 20 test images of four classes."""
    folder = tmp_path / "colours"
    folder.mkdir()
    for split, count, seed in (("train", 40, 0), ("test", 20, 1)):
        labels = [i % 4 for i in range(count)]
        write(folder / f"{split}-0.parquet", coloured(labels, seed), label=labels)
    return folder


def test_features_are_made_once(colours, tmp_path):
    source, model, cache = open_source(colours), Counting(), FeatureCache(tmp_path / "kept", chunk=25)
    features = cache.features(model.embedder, source, data_key(source))
    assert features.shape == (60, 3) and features.dtype == np.float32 and model.seen == 60
    again = cache.features(model.embedder, source, data_key(source))
    assert np.array_equal(again, features) and model.seen == 60
    assert sorted(p.suffix for p in (tmp_path / "kept").iterdir()) == [".json", ".npy"]
    other = Counting("another")
    cache.features(other.embedder, source, data_key(source))
    assert other.seen == 60
    nothing = FeatureCache()
    nothing.features(model.embedder, source, "x"), nothing.features(model.embedder, source, "x")
    assert model.seen == 180


def test_features_go_on_where_they_were_cut_off(colours, tmp_path):
    source, cache = open_source(colours), FeatureCache(tmp_path, chunk=25)
    cut = Counting()

    def embed(images):
        if cut.seen == 50:
            raise KeyboardInterrupt
        return cut.embed(images)

    with pytest.raises(KeyboardInterrupt):
        cache.features(Embedder("cut", {"kind": "test"}, embed), source, "key")
    whole = Counting()
    features = cache.features(Embedder("whole", {"kind": "test"}, whole.embed), source, "key")
    assert whole.seen == 10
    assert np.array_equal(features, FeatureCache().features(whole.embedder, source, "key"))


def test_damaged_features_are_made_anew(colours, tmp_path):
    source, model, cache = open_source(colours), Counting(), FeatureCache(tmp_path)
    features = cache.features(model.embedder, source, "key")
    (file,) = tmp_path.glob("*.npy")
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(cache.features(model.embedder, source, "key"), features) and model.seen == 120


@pytest.mark.parametrize(
    "embed, words",
    [
        (lambda images: np.full((len(images), 3), np.nan), "bad: features of 10 of 10 images hold NaN"),
        (
            lambda images: np.zeros((3, 3)),
            r"bad: 10 images became features of shape \(3, 3\); expected \(10, D\)",
        ),
        (lambda images: np.zeros(len(images)), r"features of shape \(10,\)"),
    ],
)
def test_bad_features_are_named_and_not_kept(embed, words, colours, tmp_path):
    with pytest.raises(ValueError, match=words):
        FeatureCache(tmp_path / "kept", chunk=10).features(
            Embedder("bad", {}, embed), open_source(colours), "k"
        )
    assert not (tmp_path / "kept").exists()


def test_an_unreadable_image_and_features_of_text_are_named(tmp_path):
    images = [encoded(image) for image in coloured([0, 1, 0, 1])]
    images[2]["bytes"] = b"no image"
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), tmp_path / "a.parquet")
    source = open_source(tmp_path / "a.parquet")
    features = FeatureCache().features(Counting().embedder, source, "k")
    assert np.isnan(features).all(1).tolist() == [False, False, True, False]
    with pytest.raises(ValueError, match="none of 1 images can be read"):
        FeatureCache().features(Counting().embedder, [b"no image"], "other")
    with pytest.raises(ValueError, match=r"words: expected features \(N, D\) of numbers"):
        FeatureCache().features(Embedder("words", {}, lambda images: [["a"]] * len(images)), source, "k")


def test_features_that_tell_nothing_apart_are_said(colours):
    flat = {
        "zero": lambda images: np.zeros((len(images), 3)),
        "same": lambda images: np.ones((len(images), 3)),
    }
    (one,) = run.evaluate(
        [Embedder(name, {"name": name}, embed) for name, embed in flat.items()],
        [colours],
        settings=Settings(ks=(5,)),
    )
    assert one.notes == [
        "zero: features of 40 of 40 images are all zero: they are like nothing",
        "zero: features of 20 of 20 images are all zero: they are like nothing",
        "same: all 40 images have the same features: they tell nothing apart",
        "same: all 20 images have the same features: they tell nothing apart",
    ]


def test_widths_must_not_change(colours):
    widths = iter(range(3, 9))
    embed = lambda images: np.zeros((len(images), next(widths)))  # noqa: E731
    with pytest.raises(ValueError, match="widths 3 and 4; expected one"):
        FeatureCache(chunk=30).features(Embedder("bad", {}, embed), open_source(colours), "k")


def test_the_key_of_data_is_its_content(colours, tmp_path):
    source = open_source(colours, split="test")
    again = tmp_path / "copy.parquet"
    again.write_bytes((colours / "test-0.parquet").read_bytes())
    assert data_key(open_source(again)) == data_key(source) != data_key(open_source(colours, split="train"))
    assert len(set(content_hashes(source))) == 20
    files = tmp_path / "files"
    files.mkdir()
    Image.fromarray(pictures(1)[0]).save(files / "a.png")
    before = data_key(open_source(files))
    Image.fromarray(pictures(1, size=50)[0]).save(files / "a.png")
    assert data_key(open_source(files)) != before


def test_a_set_that_is_not_split_is_split_by_class(tmp_path):
    labels = ["cat"] * 20 + ["dog"] * 10 + ["emu"]
    write(tmp_path / "all.parquet", coloured([0] * 31), kind=labels)
    data = open_classes(tmp_path / "all.parquet", "kind")
    assert data.classes == ["cat", "dog", "emu"] and "20% of each class" in data.protocol
    assert np.bincount(data.train_labels).tolist() == [16, 8, 1] and np.bincount(
        data.test_labels
    ).tolist() == [4, 2]
    assert not set(data.train.rows) & set(data.test.rows) and not data.notes
    assert np.array_equal(open_classes(tmp_path / "all.parquet", "kind").test.rows, data.test.rows)


def test_a_subfolder_per_class_is_a_set_too(tmp_path):
    for number in range(20):
        folder = tmp_path / ("cat" if number % 2 else "dog")
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, "uint8")).save(folder / f"{number}.png")
    data = open_classes(tmp_path)
    assert data.classes == ["cat", "dog"] and "16 train and 4 test images" in data.protocol
    (tmp_path / "cat" / "1.png").rename(tmp_path / "1.png")
    with pytest.raises(ValueError, match="1.png is in no subfolder: expected a subfolder per class"):
        open_classes(tmp_path)


def test_names_of_classes_come_from_the_file(tmp_path):
    features = {"info": {"features": {"label": {"names": ["zero", "one", "two"], "_type": "ClassLabel"}}}}
    metadata = {"huggingface": json.dumps(features)}
    write(tmp_path / "all.parquet", coloured([0] * 8), metadata, label=[0, 2] * 4)
    assert open_classes(tmp_path / "all.parquet").classes == ["zero", "two"]


def test_what_is_wrong_with_data_is_counted(tmp_path):
    train, test = [0, 0, 1, 1, None, -1], [0, 1, 3, 3, None]
    images = coloured(train)
    write(tmp_path / "train-0.parquet", images, label=train)
    write(tmp_path / "test-0.parquet", np.concatenate([images[1:2], coloured(test[1:], seed=5)]), label=test)
    data = open_classes(tmp_path)
    assert len(data.train) == 4 and len(data.test) == 4
    unlabelled, untaught, shared = data.notes
    assert unlabelled == "3 images without a label are skipped"
    assert untaught == "2 test images are of classes without training images (3): they count as wrong"
    assert shared.startswith("1 of 4 test images are among the training images, byte for byte")
    (one,) = run.evaluate([Counting().embedder], [tmp_path], ["knn"], settings=Settings(ks=(1, 50)))
    assert one.outcomes["mean colour"].scores == {"k = 1": 0.5}
    assert one.notes[-1] == "k = 50 is more than the 4 training images: skipped"
    with pytest.raises(ValueError, match="k=50: expected 1 … 4"):
        run.evaluate([Counting().embedder], [tmp_path], ["knn"], settings=Settings(ks=(50,)))


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"label": [1] * 4}, "holds one class only, 1"),
        ({"label": [None, None, -1, -1]}, "holds no label in any of 4 rows"),
        ({"label": [0.5, 1.5, 0.5, 1.5]}, "holds float64; expected integers or text"),
        ({"kind": [1] * 4}, "column 'label' is missing; there are kind"),
    ],
)
def test_labels_that_do_not_serve_are_named(columns, words, tmp_path):
    write(tmp_path / "all.parquet", coloured([0] * 4), **columns)
    with pytest.raises(ValueError, match=words):
        open_classes(tmp_path / "all.parquet")


def test_classes_of_one_image_each_cannot_be_split(tmp_path):
    write(tmp_path / "all.parquet", coloured([0, 1, 2]), label=[0, 1, 2])
    with pytest.raises(ValueError, match="no test image; classes of one image each cannot be split"):
        open_classes(tmp_path / "all.parquet")


def test_every_task_on_what_it_can_tell_apart(colours):
    model, tasks = Counting(), ["knn", "linear", "lowshot", "retrieval", "clustering"]
    settings = Settings(ks=(5,), draws=3, shots=(1, 5, 50))
    evaluated = run.evaluate([model.embedder], [colours], tasks, settings=settings)
    assert model.seen == 60  # once for all tasks
    scores = {one.task: one.outcomes["mean colour"] for one in evaluated}
    assert all(outcome.scores[outcome.headline] > 0.9 for outcome in scores.values())
    assert list(scores) == tasks and len(scores["lowshot"].scores) == 6
    assert scores["lowshot"].notes == ["50 images per class are more than the smallest class has: skipped"]
    assert np.trace(scores["knn"].drawn["confusion"]) == 20
    json.dumps(run.results(evaluated, "mean colour"))


def test_robustness_is_the_change_in_knn(colours):
    model = Counting()

    def red(images):
        shapes = [read_image(image).shape for image in images]
        features = model.embed(images)
        features[[shape != (12, 12, 3) for shape in shapes]] = [200, 40, 40]
        return features

    embedders, settings = [model.embedder, Embedder("red where cropped", {}, red)], Settings(corrupted=20)
    (one,) = run.evaluate(embedders, [colours], ["robustness"], settings=settings)
    scores, cropped = (one.outcomes[e.name].scores for e in embedders)
    assert len(scores) == 22 and scores["unchanged"] == cropped["unchanged"] == 1
    assert set(list(scores.values())[1:]) == {0}  # a mean colour survives them all
    # What is cropped counts as red, one class of four, whose change is -3/4 in five of twenty.
    assert cropped["crop 1"] == cropped["crop 5"] == -0.75 and cropped["noise 5"] == 0
    assert cropped["mean change"] == pytest.approx(-0.75 / 4)
    again = run.evaluate([Counting().embedder], [colours], ["robustness"], settings=settings)
    assert again[0].outcomes["mean colour"].scores == scores


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_corruptions_grow_with_their_strength(kind):
    image = pictures(1, size=64)[0]
    worse = [corrupt(image, kind, strength, seed=3) for strength in range(1, 6)]
    assert np.array_equal(worse[2], corrupt(image, kind, 3, seed=3)) and worse[0].dtype == np.uint8
    if kind == "crop":
        assert [w.shape[0] for w in worse] == [58, 51, 45, 38, 32]
    else:
        errors = [np.abs(w.astype(int) - image).mean() for w in worse]
        assert errors == sorted(errors) and 0 < errors[0] < errors[-1]
    with pytest.raises(ValueError, match="strength=6: expected blur, noise, JPEG, crop"):
        corrupt(image, kind, 6)


def test_models_side_by_side(colours):
    blind = Embedder("blind", {}, lambda images: np.ones((len(images), 2)))
    embedders = [*pixel_embedders(4), blind]
    evaluated = run.evaluate(embedders, [colours], ["knn", "lowshot"], settings=Settings(ks=(5,), draws=3))
    knn, lowshot = run.results(evaluated, "raw pixels, 4 px")["results"]
    assert knn["scores"]["blind"] == {"k = 5": 0.25}
    _, row = knn["differences"]
    assert row["difference"] == pytest.approx(0.75) and 0.4 < row["low"] < 0.75 < row["high"] <= 1
    assert row["theirs"] == "blind" and row["by"] == "test images"
    assert {row["by"] for row in lowshot["differences"]} == {"draws"}
    outcomes = evaluated[1].outcomes
    for row in lowshot["differences"]:
        ours, theirs = (outcomes[row[whose]].paired[row["score"]] for whose in ("ours", "theirs"))
        mean, half = student_interval(np.subtract(ours, theirs))
        found = [row["difference"], row["low"], row["high"]]
        assert found == pytest.approx([mean, mean - half, mean + half])


@pytest.mark.slow
def test_the_report_is_one_file_with_its_figures(colours, tmp_path):
    tasks, settings = ["knn", "lowshot", "retrieval"], Settings(ks=(5,), draws=2, shots=(1, 5))
    blind = Embedder("blind <b>", {}, lambda images: np.ones((len(images), 2)))
    embedders = [blind, Counting().embedder]
    evaluated = run.evaluate(embedders, [colours], tasks, settings=settings)
    write_html(tmp_path / "report.html", evaluated, "mean colour")
    page = (tmp_path / "report.html").read_text()
    pictures = re.findall(r'src="([^"]+)"', page)
    assert len(pictures) == 5  # map, confusion matrix, curves, precision over recall, neighbours
    for picture in pictures:
        kind, _, data = picture.partition(",")
        assert (
            kind == "data:image/png;base64" and Image.open(io.BytesIO(base64.b64decode(data))).size[0] > 300
        )
    assert "blind &lt;b&gt;" in page and "<b>" not in page and "http" not in page
    assert "paired by test images" in page and "±" in page


def test_pictures_of_the_map_lie_apart_and_the_alike_together():
    labels = np.arange(40) % 4
    rng = np.random.default_rng(0)
    features = np.eye(4)[labels] + rng.normal(0, 0.05, (40, 4))
    images = [np.full((8, 8, 3), 20 + 40 * label, "uint8") for label in labels]
    sheet = np.asarray(Image.open(io.BytesIO(embedding_map(features, images))))
    middles = sheet[38::76, 38::76, 0]
    assert sheet.shape == (5 * 76, 9 * 76, 3) and sorted(middles[middles < 255]) == sorted(20 + 40 * labels)
    beside = (middles[:, 1:] == middles[:, :-1]).mean()
    assert beside > 0.6  # a quarter, if they were strewn


def test_frames_say_what_is_right():
    images = [np.full((8, 8, 3), 255, "uint8")] * 3
    sheet = Image.open(io.BytesIO(neighbour_page([(images, 0, images, [1, 2], [True, False])], side=16)))
    colours = [sheet.getpixel((20 + column * 27 + 1, 10)) for column in (1, 2)]
    assert colours == [(0x15, 0x80, 0x3D), (0xB9, 0x1C, 0x1C)]


def test_models_of_every_kind(tmp_path, monkeypatch):
    folder = write_encoder(tmp_path / "onnx_only")
    images = [encoded(image)["bytes"] for image in pictures(3)]
    only = open_embedder(folder)
    assert only.key["variant"] == "fp32" and only.embed(images).shape == (3, 24)
    assert open_embedder(f"{folder}@fp32").key == only.key and untrained(folder) is None
    small_vit().save_pretrained(folder)
    both, fresh = open_embedder(folder), untrained(f"{folder}@fp32")
    assert both.key["kind"] == "keras" and open_embedder(f"{folder}@fp32").key == only.key
    assert not np.allclose(both.embed(images), fresh.embed(images), atol=0.01)
    revision = both.key["revision"]
    small_vit().save_pretrained(folder)
    assert open_embedder(folder).key["revision"] != revision
    (tmp_path / "own_model.py").write_text("def embed(images):\n    return [[len(i), 1] for i in images]\n")
    monkeypatch.syspath_prepend(tmp_path)
    own = open_embedder("own_model:embed")
    assert np.asarray(own.embed(images)).shape == (3, 2) and untrained("own_model:embed") is None


@pytest.mark.parametrize(
    "spec, words",
    [
        ("nope", "model: got 'nope'"),
        ("nope@fp32", "model: got 'nope'"),
        ("no_module:embed", "expected module:function"),
        ("json:nothing", "expected module:function"),
        ("json:__name__", "expected a function, it is str"),
    ],
)
def test_models_that_are_not_there_are_named(spec, words):
    with pytest.raises(ValueError, match=words):
        open_embedder(spec)


def test_tasks_and_names_are_checked(colours):
    with pytest.raises(ValueError, match="tasks: got cooking; expected some of knn, linear"):
        run.evaluate([], [colours], ["cooking"])
    with pytest.raises(ValueError, match="expected each once"):
        run.evaluate([Counting().embedder] * 2, [colours])


def test_a_folder_per_class_is_labelled_as_parquet_is(tmp_path, colours):
    for split, count, seed in (("train", 40, 0), ("test", 20, 1)):
        for i, image in enumerate(coloured([i % 4 for i in range(count)], seed)):
            folder = tmp_path / "folders" / split / f"class{i % 4}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:03}.png")
    found, expected = open_classes(tmp_path / "folders"), open_classes(colours)
    assert found.classes == ["class0", "class1", "class2", "class3"]
    assert sorted(found.train_labels) == sorted(expected.train_labels)
    assert len(found.test) == 20 and not found.notes
    names = [found.test.source.ids[row] for row in found.test.rows]
    assert [f"class{label}" in name for label, name in zip(found.test_labels, names, strict=True)] == [
        True
    ] * 20


def test_the_untrained_encoder_is_the_same_each_time(tmp_path):
    small_vit().save_pretrained(tmp_path)
    first, again = (untrained(tmp_path).embed(pictures(2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.slow
def test_a_folder_of_transformers_is_scored_with_its_preprocessing(tmp_path):
    transformers = need("transformers")
    sizes = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 48}
    transformers.ViTModel(transformers.ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(
        tmp_path
    )
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    images = list(pictures(3))
    ours = open_embedder(str(tmp_path))
    np.testing.assert_allclose(ours.embed(images), from_pretrained(tmp_path).embed(images), atol=1e-6)
    assert np.abs(untrained(str(tmp_path)).embed(images) - ours.embed(images)).max() > 1e-3
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 64, "width": 64}}')
    assert open_embedder(str(tmp_path)).key != ours.key


def test_a_cache_that_cannot_be_written_to_stops_nothing(tmp_path, colours, monkeypatch):
    (tmp_path / "home").write_text("a file where the folder would be")
    source, cache = open_source(colours), FeatureCache(tmp_path / "home" / "features")
    with pytest.warns(UserWarning, match="features are not kept there"):
        features = cache.features(pixel_embedders(4)[0], source, "k")
    assert len(features) == len(source) and cache.folder is None
    cache, kept = FeatureCache(tmp_path / "full"), []

    def full(path, write):  # the disk fills before the last file
        if kept:
            raise OSError(28, "No space left on device")
        kept.append(replace_file(path, write))

    monkeypatch.setattr("memssl_keras.evaluate.cache.replace_file", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert len(cache.features(pixel_embedders(4)[0], source, "k")) == len(source)


def test_unreadable_pictures_are_skipped(tmp_path):
    for split, count in (("train", 6), ("val", 4)):
        for i in range(count):
            path = tmp_path / split / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pictures(10)[i + (6 if split == "val" else 0)]).save(path)
    (tmp_path / "train" / "a" / "0.png").write_text("no image")
    (tmp_path / "val" / "b" / "1.png").write_text("no image")
    (found,) = run.evaluate(pixel_embedders(4)[:1], [tmp_path], settings=Settings(ks=(1,)))
    (said,) = (note for note in found.notes if "unreadable" in note)
    assert said.startswith("2 unreadable images skipped") and "0.png" in said
    assert "2 images unreadable" in next(iter(found.outcomes.values())).protocol
    assert len(found.labelled.train) == 5 and len(found.labelled.test) == 3


def test_a_checkpoint_file_is_a_model(tmp_path):
    encoder = small_vit(embed_dim=192)
    table = next(weight for weight in encoder.weights if weight.shape[-2:] == (17, 192))
    # A file alone shows the grid by positions that were learnt.
    table.assign(np.concatenate([np.zeros((1, 192)), position_waves(4, 4, 192)]).reshape(table.shape))
    encoder.save_pretrained(tmp_path)
    embedder = open_embedder(tmp_path / "model.safetensors")
    np.testing.assert_allclose(
        embedder.embed(list(pictures(2))),
        from_pretrained(tmp_path / "model.safetensors").embed(pictures(2)),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="nowhere.pth'; there is no such file"):
        open_embedder(tmp_path / "nowhere.pth")
