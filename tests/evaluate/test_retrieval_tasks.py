"""Retrieval as a command runs it: instances, copies, landmarks, with distractors and at several scales."""

import json

import numpy as np
import pytest
from labelled_images import Counting, coloured, write
from onnx_folder import write_encoder
from PIL import Image
from small_models import pictures, small_vit

from memssl_keras.evaluate import run
from memssl_keras.evaluate.data.groups import open_copies, open_groups
from memssl_keras.evaluate.data.landmarks import Boxes
from memssl_keras.evaluate.data.scales import at_scales
from memssl_keras.evaluate.embedders import Embedder
from memssl_keras.evaluate.outcome import Settings
from memssl_keras.evaluate.report.html import write_html
from memssl_keras.images import Preprocessing
from memssl_keras.images.read import read_image
from memssl_keras.models import open_embedder

NOTO = {"group": "codepoint", "by": "vendor", "query": "Noto"}  # how emoji are asked for


def test_instances_of_two_origins(tmp_path):
    shows, vendor = [0, 1, 2, 3, 0, 1, 2, 1], [0, 0, 0, 0, 1, 1, 1, 1]
    features = {"info": {"features": {"vendor": {"names": ["Noto", "Twemoji"]}}}}
    write(
        tmp_path / "e.parquet",
        coloured(shows),
        {"huggingface": json.dumps(features)},
        codepoint=shows,
        vendor=vendor,
    )
    path = tmp_path / "e.parquet"
    (one,) = run.evaluate([Counting().embedder], [path], ["retrieval"], **NOTO, galleries=["Twemoji"])
    outcome = one.outcomes["mean colour"]
    assert (
        outcome.scores["recall@1"] == 1 and "4 queries of Noto, gallery of 4 of Twemoji" in outcome.protocol
    )
    assert one.notes == [
        "k = 5, 10: more than the 4 of the gallery, skipped",
        "1 queries without a positive in the gallery are skipped",
    ]
    with pytest.raises(ValueError, match="column 'vendor' has no 'Apple'; it holds Noto, Twemoji"):
        open_groups(path, "codepoint", "vendor", "Apple", "Noto")


def test_landmarks_by_ground_truth(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    images = coloured([0, 0, 1, 2])
    images[0, :6] = 255  # the query's box leaves that out
    for i, image in enumerate([*images, images[0]]):
        Image.fromarray(image).save(folder / f"p{i}.png")
    truth = [{"easy": [0], "hard": [], "junk": [3], "bbx": [0, 6.2, 12, 12]}]
    path = tmp_path / "gnd.json"
    path.write_text(json.dumps({"imlist": ["p1", "p2", "p3", "p4"], "qimlist": ["p0"], "gnd": truth}))
    seen = []
    model = Embedder("m", {}, lambda images: seen.extend(images) or Counting().embed(images))
    arguments = {"tasks": ["retrieval"], "ground_truth": path}
    (one,) = run.evaluate([model], [folder], **arguments)
    assert np.array_equal(seen[0], images[0][6:12]) and len(seen) == 6
    outcome = one.outcomes["m"]
    assert (
        outcome.scores["mAP medium"] == outcome.scores["mP@1 easy"] == 1 and "mAP hard" not in outcome.scores
    )
    assert one.notes == ["hard: 1 queries without a positive are skipped"]
    write_html(tmp_path / "report.html", [one], "m")
    assert "revisited protocol by gnd.json, 1 queries" in (tmp_path / "report.html").read_text()
    (folder / "p4.png").unlink()
    with pytest.raises(ValueError, match="1 of the pictures that .* names are not there, such as p4"):
        run.evaluate([model], [folder], **arguments)
    with pytest.raises(
        ValueError, match=r"box \(20, 0, 30, 9\) of query 0: outside its picture of \(12, 12\) px"
    ):
        Boxes(images, [(20, 0, 30, 9)])[0]
    assert Boxes(images, [None])[0].shape == (12, 12, 3)


VENDORS = {"info": {"features": {"vendor": {"names": ["Noto", "Twemoji", "Fluent"]}}}}


@pytest.fixture
def origins(tmp_path):
    """Three things by each of three origins."""
    path, shows = tmp_path / "origins.parquet", [0, 1, 2] * 3
    metadata = {"huggingface": json.dumps(VENDORS)}
    write(path, coloured(shows), metadata, codepoint=list(map(str, shows)), vendor=[i // 3 for i in range(9)])
    return path


def save(folder, images):
    folder.mkdir(parents=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)


def test_several_galleries_are_a_row_each(origins):
    galleries = ["Twemoji", "Fluent", "Twemoji, Fluent"]
    found = run.evaluate([Counting().embedder], [origins], ["knn", "retrieval"], galleries=galleries, **NOTO)
    names = [one.task[len("retrieval (Noto in ") : -1] for one in found]
    assert names == ["Twemoji", "Fluent", "Twemoji and Fluent"]
    sizes = [len(one.outcomes["mean colour"].drawn["neighbours"][0][2]) for one in found]
    assert (
        sizes == [3, 3, 6]
        and "gallery of 6 of Twemoji and Fluent" in found[2].outcomes["mean colour"].protocol
    )
    assert all(one.notes[0] == "column 'label' is missing: no knn" for one in found)


def test_distractors_are_never_right_and_stand_in_the_way(origins, tmp_path):
    alike = coloured([0, 1], seed=0)  # their colours are those of the first two queries
    save(tmp_path / "more", {f"{i}.png": image for i, image in enumerate(alike)})
    arguments = {"tasks": ["retrieval"], "settings": Settings(at=(1, 3)), **NOTO, "galleries": ["Twemoji"]}
    (without,) = run.evaluate([Counting().embedder], [origins], **arguments)
    (beside,) = run.evaluate([Counting().embedder], [origins], distractors=tmp_path / "more", **arguments)
    without, outcome = (one.outcomes["mean colour"] for one in (without, beside))
    assert without.scores["recall@1"] == without.scores["mAP"] == 1
    # What each query looks like exactly comes first: once, twice, and not at all.
    assert outcome.scores["recall@1"] == pytest.approx(1 / 3) and outcome.scores["mAP"] == pytest.approx(
        2 / 3
    )
    assert outcome.scores["recall@3"] == 1 and "and 2 distractors" in outcome.protocol


def test_distractors_that_are_in_the_gallery_are_counted(origins, tmp_path):
    write(tmp_path / "more.parquet", coloured([0, 1, 2] * 3)[3:5])
    (one,) = run.evaluate(
        [Counting().embedder],
        [origins],
        ["retrieval"],
        distractors=tmp_path / "more.parquet",
        **NOTO,
        galleries=["Twemoji"],
    )
    assert one.notes[0] == "2 of 2 distractors are in the gallery or asked for, byte for byte"


def test_distractors_by_class(tmp_path):
    for split, seed in (("train", 0), ("test", 1)):
        write(tmp_path / f"{split}-0.parquet", coloured([0, 1] * 4, seed), label=[0, 1] * 4)
    save(tmp_path / "more", {f"{i}.png": image for i, image in enumerate(coloured([0] * 5, 7))})
    arguments = {"tasks": ["retrieval"], "settings": Settings(at=(1, 12))}
    found = [
        run.evaluate([Counting().embedder], [tmp_path], **arguments, **more)[0].outcomes["mean colour"]
        for more in ({}, {"distractors": tmp_path / "more"})
    ]
    assert found[0].notes == ["k = 12: more than the 7 of the gallery, skipped"] and not found[1].notes
    assert found[0].scores["mAP"] == 1 > found[1].scores["mAP"]
    assert found[1].scores["precision@12"] == pytest.approx(3 / 12)


def test_images_that_show_nothing_known_are_left_out(tmp_path):
    images = coloured([0, 1, 2, 0, 1, 2])
    images[3] = images[0]
    columns = {"codepoint": ["a", "b", None, "a", "b", "c"], "vendor": ["Noto"] * 3 + ["Twemoji"] * 3}
    write(tmp_path / "e.parquet", images, **columns)
    asked = open_groups(tmp_path / "e.parquet", "codepoint", "vendor", "noto", "twemoji")
    assert asked.query_groups.tolist() == asked.gallery_groups[:2].tolist() and len(asked.gallery) == 3
    assert asked.notes == [
        "1 images without codepoint are skipped",
        "1 of 3 gallery images are queries, byte for byte: figures flatter",
    ]


@pytest.fixture
def copydays(tmp_path):
    """Originals red, green and blue; strong copies of the first two, one of them looking blue, one of nobody's."""
    red, green, blue, yellow = coloured([0, 1, 2, 3])
    save(tmp_path / "c" / "original", {"2000_00.png": red, "2001_00.png": green, "2002_00.png": blue})
    strong = {
        "2000_01.png": red[2:],
        "2000_02.png": blue[2:],
        "2001_01.png": green[2:],
        "9999_01.png": yellow,
    }
    save(tmp_path / "c" / "strong", strong)
    save(tmp_path / "c" / "jpegqual" / "3", {"2002_00.png": blue[:, 2:]})
    return tmp_path / "c"


def test_copies_find_their_originals(copydays, tmp_path):
    (one,) = run.evaluate([Counting().embedder], [copydays], ["retrieval"])
    outcome = one.outcomes["mean colour"]
    # The copy that looks blue ranks its original second or third; the trapezium rule halves the precision there.
    mean = coloured([0, 1, 2, 3])[:3].mean((1, 2))
    similar = mean @ mean[2] / np.linalg.norm(mean, axis=1)
    place = 1 + int((similar > similar[0]).sum())
    assert place in (2, 3) and outcome.scores["mAP strong"] == pytest.approx(
        (1 + 1 / place / 2 + 1) / 3, abs=1e-9
    )
    assert outcome.scores["mAP original"] == outcome.scores["mAP jpegqual/3"] == 1
    assert one.notes == ["strong: 1 queries without an original are skipped"]
    save(tmp_path / "more", {"a.png": coloured([2])[0]})
    (beside,) = run.evaluate([Counting().embedder], [copydays], ["retrieval"], distractors=tmp_path / "more")
    scores = beside.outcomes["mean colour"].scores
    assert scores["mAP strong"] < outcome.scores["mAP strong"] and "1 distractors" in str(beside.outcomes)
    Image.fromarray(coloured([0])[0]).save(copydays / "original" / "2000_07.png")
    with pytest.raises(ValueError, match="two pictures share the first four characters"):
        open_copies(copydays)


def test_several_scales_are_averaged():
    images = [np.full((40, 20, 3), 50, "uint8"), np.full((10, 10, 3), 90, "uint8")]
    seen = []

    def embed(pictures):
        seen.append([p.size for p in pictures])
        return [[p.size[0], p.size[1] / len(seen)] for p in pictures]

    features = at_scales(Embedder("m", {}, embed), (1, 0.5)).embed(images)
    assert seen == [[(20, 40), (10, 10)], [(10, 20), (5, 5)]]
    first = np.array([20, 40]) / np.hypot(20, 40) + np.array([10, 10]) / np.hypot(10, 10)
    np.testing.assert_allclose(features[0], first / np.linalg.norm(first), atol=1e-6)
    with pytest.raises(ValueError, match="scales=.* expected positive"):
        at_scales(Embedder("m", {}, embed), (1, 0))


@pytest.mark.parametrize("kind", ["keras", "onnx"])
def test_an_encoder_sees_larger_and_smaller_inputs(kind, tmp_path):
    folder, images = write_encoder(tmp_path / "m"), list(pictures(3, size=50))
    if kind == "keras":
        small_vit().save_pretrained(folder)
    embedder = open_embedder(folder)
    assert embedder.key["kind"] == kind
    np.testing.assert_allclose(embedder.scaled(images, 1), embedder.embed(images), atol=1e-6)
    both = at_scales(embedder, (1, 0.5))
    total = embedder.embed(images) + embedder.scaled(images, 0.5)
    np.testing.assert_allclose(
        both.embed(images), total / np.linalg.norm(total, axis=1, keepdims=True), atol=1e-5
    )
    assert both.key != embedder.key and at_scales(embedder, (1.0,)) is embedder
    if kind == "keras":
        from memssl_keras import from_pretrained

        half = Preprocessing(image_size=16, resize_size=16).batch(images)
        expected = from_pretrained(folder).predict_on_batch(half)
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(embedder.scaled(images, 0.5), expected, atol=1e-5)


def test_scales_reach_retrieval_alone(origins):
    sizes = []

    def embed(images):
        sizes.extend(read_image(image).shape[0] for image in images)
        return Counting().embed(images)

    (one,) = run.evaluate(
        [Embedder("m", {}, embed)],
        [origins],
        ["retrieval"],
        settings=Settings(scales=(1, 0.5)),
        **NOTO,
        galleries=["Twemoji"],
    )
    assert sizes.count(12) == sizes.count(6) + 9  # once more for the map, at its own size
    assert one.outcomes["m"].protocol.endswith("at scales 1, 0.5")
