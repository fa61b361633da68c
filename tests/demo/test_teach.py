"""Teaching by a few pictures: classifiers, their reasons, their file, and their ONNX graph."""

import collections
import json

import numpy as np
import onnxruntime
import pytest
from demo_page import png, save, write_gallery
from safetensors.numpy import save_file

from memssl_keras.demo.classifiers import teach
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.models import open_model
from memssl_keras.demo.search import load
from memssl_keras.demo.taught import MOST_EXAMPLES, Taught, class_name
from memssl_keras.demo.taught_file import read_taught, write_taught
from memssl_keras.evaluate.protocols.lowshot import CLASSIFIERS, classify, low_shot

PATHLIKE = '../<i id=injected>"x"</i>'


@pytest.fixture(scope="module")
def lessons(emoji):
    return Lessons(emoji)


@pytest.fixture(scope="module")
def taught(lessons):
    return lessons.start().taught


def test_the_curve_is_judged_on_pictures_that_taught_nothing(lessons, monkeypatch):
    seen = []

    def spy(train, train_labels, test, test_labels, *others, **options):
        seen.extend((train, test))
        return low_shot(train, train_labels, test, test_labels, *others, **options)

    monkeypatch.setattr("memssl_keras.demo.lessons.low_shot", spy)
    assert lessons.curve(lessons.curve_columns[-1])
    train, test = ({row.tobytes() for row in part} for part in seen)
    places = collections.Counter(row.tobytes() for row in lessons.retrieval.index.vectors)
    assert train and test and all(places[row] > 1 for row in train & test)  # but for equal pictures


def test_learns_by_adding_and_forgets_by_removing(lessons):
    taught = lessons.add_rows(Taught(), " Faces ", [700, 703])
    more = lessons.add_rows(lessons.add_rows(taught, "Food", [300]), "Faces", [710])
    assert len(taught) == 2 and more.names == ["Faces", "Food"]
    assert more.classes == ("Faces", "Faces", "Food", "Faces") and more.labels.tolist() == [0, 0, 1, 0]
    np.testing.assert_array_equal(more.vectors[2], lessons.retrieval.index.vectors[300])
    left = more.keep(more.labels != 0)
    assert left.names == ["Food"] and left.pictures.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\nb", "a\u202eb", None, 7])
def test_a_class_needs_a_name(name):
    with pytest.raises(ValueError, match="class name: got"):
        class_name(name)


def test_any_visible_name_is_a_name(lessons):
    for name in ("../../etc/passwd", "<script>", "猫", "👨‍👩‍👧", 'a"b'):
        assert lessons.add_rows(Taught(), name, [1]).names == [name]
    panel = lessons.panel(lessons.add_rows(Taught(), PATHLIKE, [1]))
    assert "<i " not in panel and "&lt;i id=injected&gt;" in panel


def test_examples_are_bounded(lessons, taught):
    full = Taught(("a",) * MOST_EXAMPLES, np.zeros((MOST_EXAMPLES, 24), np.float32))
    with pytest.raises(ValueError, match=f"{MOST_EXAMPLES + 1} are more than {MOST_EXAMPLES}"):
        lessons.add_rows(full, "b", [0])


def test_bad_files_are_named_and_the_good_ones_learnt(lessons, tmp_path):
    paths = [save(tmp_path, png("red"), "good.png"), save(tmp_path, b"text", "bad.png")]
    taught, wrong = lessons.add_files(Taught(), "red", paths)
    assert len(taught) == 1 and wrong[0].startswith("bad.png: not an image")


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_classifiers_are_those_of_the_evaluation_and_say_why(emoji, taught, kind, classes):
    some = taught.keep(taught.labels < classes)
    classifier, vectors = teach(kind, some.vectors, some.labels), emoji.index.vectors[::9]
    probabilities = classifier.probabilities(vectors)
    assert probabilities.shape == (len(vectors), classes)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    same = probabilities.argmax(1) == classify(kind, some.vectors, some.labels, vectors)
    assert same.mean() > 0.97  # logistic regression stops at another tolerance there
    for vector, expected in zip(vectors[:5], probabilities, strict=False):
        scores = classifier.support(vector).sum(0)
        if kind == "k-NN":
            np.testing.assert_allclose(scores, expected, atol=1e-5)
            continue
        if kind == "logistic":  # what is no example's is the bias, of the query at the examples' middle
            scores = scores + classifier.bias + classifier.middle @ classifier.weights
        np.testing.assert_allclose(scores, vector @ classifier.weights + classifier.bias, atol=0.02)


def test_one_class_tells_nothing_apart(taught):
    one = taught.keep(taught.labels == 0)
    with pytest.raises(ValueError, match="fewer than two"):
        teach("logistic", one.vectors, one.labels)
    with pytest.raises(ValueError, match="classifier: got 'svm'"):
        teach("svm", taught.vectors, taught.labels)


def test_an_example_speaks_for_itself(lessons, taught, emoji):
    for kind in CLASSIFIERS:
        answers, reasons = lessons.classify(
            taught, kind, taught.pictures[0]
        )  # emoji are 64 px: the picture itself
        assert next(iter(answers)) == taught.classes[0]
        assert taught.classes[reasons[0][0]] == taught.classes[0]
        assert 0 < sum(share for _, share in reasons) <= 1 + 1e-6


def two_colours(folder):
    return write_gallery(folder / "two.parquet", [png("red"), png("blue")], name=["a", "b"])


def test_the_first_lesson_asks_about_what_was_not_taught(lessons, taught, emoji, tmp_path):
    first = lessons.start()
    assert len(taught.names) == 4 and len(taught) == 20 and len(first.ask) == 8 and first.asked in first.ask
    for row, name in zip(first.ask, np.repeat(taught.names, 2), strict=True):
        assert emoji.gallery.value(row, "Category") == name  # of a class that was taught
        assert not (emoji.index.vectors[row] == taught.vectors).all(1).any()
    assert Lessons(load(emoji.model.source, two_colours(tmp_path))).start() is None


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_first_lesson_on_icons_shows_what_is_separated_and_what_is_not(demo_cache, kind):
    lessons = Lessons(load())
    first, gallery = lessons.start(kind), lessons.retrieval.gallery
    best, worst, figures = first.taught.names[0], first.taught.names[-1], {}
    assert gallery.icons.groups[first.asked] == best
    assert next(iter(lessons.classify(first.taught, kind, gallery.read(first.asked))[0])) == best
    classifier = teach(kind, first.taught.vectors, first.taught.labels)
    for name in first.taught.names:
        rows = [row for row, group in enumerate(gallery.icons.groups) if group == name]
        new = [
            v for v in lessons.retrieval.index.vectors[rows] if not (v == first.taught.vectors).all(1).any()
        ]
        probabilities = classifier.probabilities(np.stack(new))
        right = int((probabilities.argmax(1) == first.taught.names.index(name)).sum())
        figures[name] = right / len(new)
        said = f"<b>{name}</b>: {right} of {len(new)} further pictures right"
        assert said in first.said and f"mean confidence {probabilities.max(1).mean():.0%}" in first.said
    assert figures[best] > 0.95 and figures[worst] < 0.7  # measured: 1 and 0.22 by logistic regression
    assert f"separates <b>{best}</b> best and <b>{worst}</b> worst" in first.said


def test_only_a_classs_own_examples_are_shown_to_speak_for_it(emoji, lessons, taught):
    for kind in CLASSIFIERS:
        for row in range(0, 900, 100):
            answers, reasons = lessons.classify(taught, kind, emoji.gallery.read(row))
            best = next(iter(answers))
            assert reasons and {taught.classes[example] for example, _ in reasons} == {best}


def test_answers_in_words_until_it_can_answer(lessons, taught, tmp_path):
    assert "Teach two classes first" in lessons.answer(Taught(), "logistic", None)[0]
    assert "a second class" in lessons.answer(taught.keep(taught.labels == 0), "logistic", None)[0]
    assert "drop one" in lessons.answer(taught, "logistic", None)[0]
    bad = lessons.answer(taught, "logistic", save(tmp_path, b"x"))
    assert "cannot be read" in bad[0] and bad[1] is None


def test_the_curve_grows_over_one_to_five_examples(lessons, emoji):
    records = lessons.curve("Set")
    assert {record["classifier"] for record in records} == {*CLASSIFIERS, "chance"}
    assert sorted({record["examples per class"] for record in records}) == [1, 2, 3, 4, 5]
    assert all(0 < record["accuracy"] < 100 for record in records)
    chance = [record["accuracy"] for record in records if record["classifier"] == "chance"]
    assert chance == [pytest.approx(100 / 3)] * 5  # three sets
    with pytest.raises(ValueError, match="column: got 'Colour'"):
        lessons.curve("Colour")


@pytest.mark.slow
def test_the_curve_of_icons_is_about_things(demo_cache):
    lessons = Lessons(load())
    assert lessons.curve_columns == ["Thing", "Set", "Style", "Licence", "Category"]
    records = lessons.curve("Thing")
    by_kind = {kind: [r["accuracy"] for r in records if r["classifier"] == kind] for kind in CLASSIFIERS}
    chance = [r["accuracy"] for r in records if r["classifier"] == "chance"]
    assert chance == [1.0] * 5  # 100 things
    assert all(accuracy[0] > 20 * chance[0] and accuracy[4] > accuracy[0] for accuracy in by_kind.values())


def test_a_file_brings_everything_back(lessons, taught, tmp_path):
    path = write_taught(tmp_path / "a.safetensors", taught, "m", "r")
    again = read_taught(path, "m", "r", 24)
    assert again.classes == taught.classes
    np.testing.assert_array_equal(again.vectors, taught.vectors)
    np.testing.assert_array_equal(again.pictures, taught.pictures)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.safetensors"]
    with pytest.raises(ValueError, match="there are none yet"):
        write_taught(tmp_path / "b.safetensors", Taught(), "m", "r")
    with pytest.raises(ValueError, match="taught with 'm' of another revision; this page runs 'n'"):
        read_taught(path, "n", "s", 24)


def test_a_file_from_elsewhere_is_checked(taught, tmp_path):
    about = {"format": "memssl-keras taught 1", "model": "m", "revision": "r"}
    about["classes"] = json.dumps(["a", "b"])
    good = {"vectors": np.eye(2, 24, dtype=np.float32), "pictures": np.zeros((2, 64, 64, 3), np.uint8)}

    def change(tensors=None, **metadata):
        save_file({**good, **(tensors or {})}, tmp_path / "t.safetensors", {**about, **metadata})
        return tmp_path / "t.safetensors"

    assert read_taught(change(), "m", "r", 24).names == ["a", "b"]
    pickled = tmp_path / "p.safetensors"
    pickled.write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    whole = change().read_bytes()
    cut_off = save(tmp_path, whole[:-9], "cut.safetensors")
    for path, message in [
        (pickled, "damaged, or not saved on this page"),
        (cut_off, "damaged"),
        (save(tmp_path, b"", "empty.safetensors"), "damaged"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_taught(path, "m", "r", 24)
    for make, message in [
        (lambda: change(format="other"), "format 'other'"),
        (lambda: change(classes="[" * 100_000), "damaged"),
        (lambda: change(classes=json.dumps(["a"])), r"vectors float32 \(2, 24\); expected float32 \(1, 24\)"),
        (lambda: change(classes=json.dumps(["a", "b\n"] + [1])), "vectors float32"),
        (lambda: change(classes=json.dumps(["a", 1])), "class name: got ''"),
        (lambda: change(classes=json.dumps({"a": 1})), "expected the classes"),
        (lambda: change({"more": np.zeros(1)}), "expected vectors and pictures"),
        (lambda: change({"vectors": np.full((2, 24), np.nan, np.float32)}), "vectors of length nan"),
        (lambda: change({"vectors": np.eye(2, 24)}), "vectors float64"),
        (lambda: change({"pictures": np.zeros((2, 9, 9, 3), np.uint8)}), "pictures uint8"),
    ]:
        path = make()
        with pytest.raises(ValueError, match=message):
            read_taught(path, "m", "r", 24)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_one_onnx_file_classifies_raw_pixels(lessons, taught, emoji, kind):
    path = lessons.export(taught, kind)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == taught.names
    classifier = teach(kind, taught.vectors, taught.labels)
    for size in ((64, 64), (37, 111)):
        pictures = np.random.default_rng(0).integers(0, 256, (3, *size, 3), dtype=np.uint8)
        (given,) = session.run(["probabilities"], {"image": pictures})
        expected = classifier.probabilities(emoji.encoder.embed(list(pictures)))
        np.testing.assert_allclose(given, expected, atol=2e-3)


def test_a_bundled_model_can_be_taught_and_exported(demo_cache):
    from memssl_keras.demo.models import DEFAULT
    from memssl_keras.demo.taught_onnx import write_classifier

    with pytest.raises(ValueError, match="trim=0.08: cutting margins away cannot be put into the graph"):
        trimming = open_model(DEFAULT)
        write_classifier(
            demo_cache.parent / "no.onnx", trimming.file, trimming.encoder, None, ["red", "blue"]
        )
    opened = open_model("massl_vitn4.cifar10")
    vectors = opened.encoder.embed([png("red"), png("blue")])
    classifier = teach("class mean", vectors, np.array([0, 1]))
    path = write_classifier(
        demo_cache.parent / "c.onnx", opened.file, opened.encoder, classifier, ["red", "blue"]
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    red = np.full((1, 50, 40, 3), [255, 0, 0], np.uint8)
    assert session.run(None, {"image": red})[0].argmax() == 0
