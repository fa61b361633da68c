"""From a run to a model that ships its memory: which pictures, what is refused, the head, and the way over the Hub."""

import dataclasses
import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run
from hub_server import lead_to, serving
from memory_run import CREDITS, RECIPES, train, write_pictures
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tiny_run import pictures

from memssl_keras import OnnxEncoder, from_pretrained, push_to_hub
from memssl_keras.data.huggingface import Stream
from memssl_keras.data.sources import open_source
from memssl_keras.export.onnx import ParityError
from memssl_keras.export.session import open_session
from memssl_keras.training.replay import images_in_memory
from memssl_keras.zoo import registry
from memssl_keras.zoo.card import model_card
from memssl_keras.zoo.hub import HubError, find_folder
from memssl_keras.zoo.memory import PARTS, problem, read_memory
from memssl_keras.zoo.parity import check_parity
from memssl_keras.zoo.publish import stage, zoo_entry
from memssl_keras.zoo.run_memory import memory_of_run, ship_memory

pytestmark = pytest.mark.slow

IMAGES = pictures(50)
REPO = "someone/massl.waves"


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture(scope="module", params=["vit", "resnet"])
def shipped(request, tmp_path_factory):
    """The model that was trained, its run, its data, and the folder of the model with its memory."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write_pictures(folder / "waves.parquet", IMAGES, [f"Wave {i}" for i in range(50)])
    model = train(folder / "run", data, request.param)
    run("convert", folder / "run", "--out", folder / "model", "--exports", "fp32,int8")
    said = run("memory", folder / "run", data, "--out", folder / "model", "--credits", CREDITS)
    assert "memory of 64 slots, 64 with pictures: memory/vectors.safetensors 0.00 MB" in said
    return model, folder / "run", data, folder / "model"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    data = write_pictures(folder / "waves.parquet", IMAGES)
    train(folder / "run", data)
    return folder / "run", data


def test_holds_the_pictures_of_its_slots(shipped):
    model, _, _, folder = shipped
    memory = read_memory(folder)
    slots = images_in_memory(50, batch_size=6, seed=5, memory_size=64, written=2 * 48)
    np.testing.assert_array_equal(memory.indices, slots)
    assert memory.names == [f"Wave {i}" for i in slots] and memory.credits == CREDITS
    assert (memory.block_size, memory.temperature) == (16, model.teacher_temperature)
    np.testing.assert_allclose(memory.vectors, model.memory.vectors.numpy(), atol=3e-4)
    small = np.stack([np.asarray(Image.fromarray(image).resize((40, 40))) for image in IMAGES]).astype(float)
    for slot in range(64):
        thumbnail = memory.read(slot)
        assert thumbnail.shape == (40, 40, 3)  # smaller than 48 px already
        assert np.abs(small - thumbnail).mean((1, 2, 3)).argmin() == slots[slot]


def test_half_precision_changes_no_ranking(shipped):
    model, _, _, folder = shipped
    exact, stored = model.memory.vectors.numpy(), read_memory(folder).vectors
    rng = np.random.default_rng(0)
    queries = exact[:32] + 0.1 * rng.standard_normal(exact[:32].shape)
    ranked = [np.argsort(-(queries @ vectors.T), axis=1)[:, :6] for vectors in (exact, stored)]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(*ranked, strict=True)]) > 5.9


def test_the_head_takes_the_features_of_every_variant(shipped):
    model, _, _, folder = shipped
    session = open_session(folder / "onnx" / "head.onnx")
    images = pictures(5, seed=9)
    for variant, tolerance in (("fp32", 1e-4), ("int8", 0.3)):
        encoder = OnnxEncoder.from_pretrained(folder, variant=variant)
        features = np.concatenate([encoder.features(image) for image in images])
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(features / lengths, encoder.embed(images, batch_size=1), atol=1e-6)
        (vectors,) = session.run(["embedding"], {"feature": features})
        keras_encoder = from_pretrained(folder)
        pixels = encoder.preprocessing.batch(images)
        expected = model.teacher.head(keras_encoder.predict_on_batch(pixels), training=False).detach().numpy()
        np.testing.assert_allclose(vectors, expected, atol=tolerance)


def test_is_published_and_found_again_where_asked_for(shipped, tmp_path, monkeypatch):
    folder = shipped[-1]
    with serving() as hub:
        lead_to(hub.address, tmp_path, monkeypatch)
        commit = push_to_hub(folder, REPO, token="writer", license="Apache-2.0")
        files = hub.commits[commit]
        assert set(PARTS) <= files.keys()
        assert CREDITS in files["README.md"].decode() and b"## Memory" in files["README.md"]
        OnnxEncoder.from_pretrained(REPO, variant="int8")
        assert not [line for line in hub.requests if line.startswith("GET") and "memory/" in line]
        found = find_folder(REPO, lambda config: [(part, "") for part in PARTS], revision=commit)
        np.testing.assert_array_equal(read_memory(found).vectors, read_memory(folder).vectors)

        stage(folder, tmp_path / "staged", REPO)
        entry = json.loads(json.dumps(zoo_entry(tmp_path / "staged", REPO, commit)))
        assert set(PARTS) <= entry["sha256"].keys() and set(PARTS) <= entry["facts"]["sizes"].keys()
        entry["sha256"]["memory/pictures.parquet"] = "0" * 64
        monkeypatch.setitem(registry.HUB, "massl.waves", registry.HubModel(**entry))
        assert "memory 0." in run("models")
        with pytest.raises(HubError, match="pictures.parquet is damaged: its checksum is not 000"):
            find_folder("massl.waves", lambda config: [(part, "") for part in PARTS])


def test_is_written_into_the_run_itself(finished, tmp_path):
    source, data = finished
    shutil.copytree(source, tmp_path / "run")
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    run("memory", tmp_path / "run", data, "--credits", CREDITS, "--thumbnail", "16")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
    memory = read_memory(tmp_path / "run")
    assert memory.read(0).shape == (16, 16, 3) and memory.names is None and problem(tmp_path / "run") is None
    text = (tmp_path / "run" / "README.md").read_text()
    assert "Converted from" not in text and "recipe `tiny`, seed 5" in text and CREDITS in text


def test_slots_without_a_picture_are_empty(tmp_path):
    data = write_pictures(tmp_path / "waves.parquet", IMAGES[:20])
    train(tmp_path / "run", data)  # 2 epochs of 18 images in 64 slots
    found = memory_of_run(tmp_path / "run", open_source(data))
    ship_memory(found, tmp_path / "run", CREDITS)
    memory = read_memory(tmp_path / "run")
    assert (memory.indices[:36] >= 0).all() and (memory.indices[36:] == -1).all()
    with pytest.raises(ValueError, match="the file is empty"):
        memory.read(40)
    assert "64 vectors in the order of its slots, 36 of them of training" in model_card(
        tmp_path / "run", "run"
    )


def test_what_could_not_be_read_has_its_replacement(tmp_path):
    data = write_pictures(tmp_path / "waves.parquet", IMAGES)
    table = pq.read_table(data)
    rows = table["image"].to_pylist()
    rows[7]["bytes"] = rows[8]["bytes"] = b"no picture"
    pq.write_table(pa.table({"image": rows}), data)
    with pytest.warns(UserWarning, match="image"):
        train(tmp_path / "run", data, max_unreadable=0.2)
    found = memory_of_run(tmp_path / "run", open_source(data))
    ship_memory(found, tmp_path / "run", CREDITS)
    memory = read_memory(tmp_path / "run")
    assert {7, 8} <= set(found.slots.tolist()) and not {7, 8} & set(memory.indices.tolist())
    np.testing.assert_array_equal(memory.indices[np.isin(found.slots, (7, 8))], 9)


@pytest.mark.parametrize(
    "images, message",
    [
        (
            IMAGES[:-1],
            "memory: got 49 pictures; .* was trained on 50. Expected the same data, with the same split",
        ),
        (
            IMAGES[::-1],
            "memory: these are not the pictures that the run was trained on, or not in that order",
        ),
        (pictures(50, seed=1), "memory: these are not the pictures that the run was trained on"),
    ],
)
def test_other_pictures_are_refused(finished, tmp_path, images, message):
    other = write_pictures(tmp_path / "other.parquet", images)
    with pytest.raises(ValueError, match=message):
        memory_of_run(finished[0], open_source(other))
    said = run("memory", finished[0], other, "--out", tmp_path / "no", "--credits", CREDITS, code=1)
    assert "error: memory:" in said and not (tmp_path / "no").exists()


def test_a_stream_is_refused(finished):
    import datasets

    rows = datasets.Dataset.from_dict({"image": [b"x"] * 50}, datasets.Features({"image": datasets.Image()}))
    with pytest.raises(ValueError, match="memory: a stream keeps no order that could be replayed"):
        memory_of_run(finished[0], Stream(rows.to_iterable_dataset(), 50))


def test_the_command_says_what_is_wrong(finished, tmp_path):
    source, data = finished
    out = ("--out", tmp_path / "no")
    assert "credits: got none; expected whose pictures" in run(
        "memory", source, data, "--credits", " ", code=1
    )
    assert "no run.json and model.safetensors; expected the folder of a run" in run(
        "memory", tmp_path, data, "--credits", CREDITS, *out, code=1
    )
    assert "expected a folder with the run's encoder, as it is or with PCA whitening" in run(
        "memory", source, data, "--credits", CREDITS, *out, code=1
    )
    assert not (tmp_path / "no").exists()


def test_runs_whose_memory_is_of_another_moment_are_refused(finished, tmp_path):
    source, data = finished
    shutil.copytree(source, tmp_path / "run")
    images, settings = open_source(data), json.loads((source / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(settings | {"batch_size": 10}))
    with pytest.raises(ValueError, match="its settings were changed on its way"):
        memory_of_run(tmp_path / "run", images)
    (tmp_path / "run" / "run.json").write_text(json.dumps(settings | {"seed": 6}))
    with pytest.raises(
        ValueError, match="not the pictures that the run was trained on, or not in that order"
    ):
        memory_of_run(tmp_path / "run", images)
    state = load_file(tmp_path / "run" / "model.safetensors")
    save_file(state | {"norm.weight": state["norm.weight"] + 1}, tmp_path / "run" / "model.safetensors")
    with pytest.raises(ValueError, match="not the encoder of step-00000016, the last checkpoint"):
        memory_of_run(tmp_path / "run", images)


def test_a_run_that_stopped_within_an_epoch_is_refused(tmp_path):
    import keras

    class Stop(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == 10:
                raise KeyboardInterrupt

    data = write_pictures(tmp_path / "waves.parquet", IMAGES)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", data, checkpoint_every=1, callbacks=[Stop()])
    with pytest.raises(ValueError, match="stopped within epoch 2, and its encoder is that of the end of one"):
        memory_of_run(tmp_path / "run", open_source(data))


def test_in_parts_of_a_step_and_in_half_precision(tmp_path):
    data = write_pictures(tmp_path / "waves.parquet", IMAGES)
    recipe = dataclasses.replace(RECIPES["vit"], accumulate=2, memory_storage="float16", epochs=1)
    from memssl_keras.training.pretrain import pretrain

    pretrain(recipe, open_source(data), tmp_path / "run", say=lambda line: None)
    found = memory_of_run(tmp_path / "run", open_source(data))
    assert (found.slots >= 0).sum() == 48
    ship_memory(found, tmp_path / "run", CREDITS)
    assert problem(tmp_path / "run") is None


def spoil(path):
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / PARTS[0]).unlink(), "its memory lacks memory/vectors.safetensors"),
        (lambda folder: (folder / PARTS[2]).unlink(), "its memory lacks onnx/head.onnx"),
        (lambda folder: spoil(folder / PARTS[0]), "damaged, or no memory"),
        (lambda folder: spoil(folder / PARTS[1]), "not readable as Parquet"),
        (lambda folder: spoil(folder / PARTS[2]), "belongs to another onnx/head.onnx"),
        (lambda folder: spoil_weights(folder), "belongs to another model.safetensors"),
        (lambda folder: retold(folder, block_size=None), "expected block_size and temperature, numbers"),
        (lambda folder: retold(folder, block_size="7"), "block_size=7 does not divide its 64 vectors"),
        (lambda folder: retold(folder, temperature="nan"), "temperature=nan; expected a number above 0"),
        (lambda folder: pointed_at(folder, "/etc/hostname"), "as bytes, and no paths"),
    ],
)
def test_parts_that_do_not_fit_are_not_published(finished, tmp_path, change, message):
    source, data = finished
    shutil.copytree(source, tmp_path / "run")
    ship_memory(memory_of_run(source, open_source(data)), tmp_path / "run", CREDITS)
    assert check_parity(tmp_path / "run") == {}
    change(tmp_path / "run")
    assert message in problem(tmp_path / "run")
    with pytest.raises(ParityError, match=message):
        check_parity(tmp_path / "run")


def spoil_weights(folder):
    state = load_file(folder / "model.safetensors")
    save_file(state | {"norm.weight": state["norm.weight"] + 1}, folder / "model.safetensors")


def retold(folder, **changes):
    with safe_open(folder / PARTS[0], framework="numpy") as file:
        about, vectors = file.metadata() | changes, file.get_tensor("vectors")
    about = {name: text for name, text in about.items() if text is not None}
    save_file({"vectors": vectors}, folder / PARTS[0], metadata=about)


def pointed_at(folder, path):
    """A picture of the memory becomes a file of this computer, which a page must not show."""
    table = pq.read_table(folder / PARTS[1])
    rows = table["image"].to_pylist()
    rows[3] = {"bytes": None, "path": path}
    images = pa.array(rows, table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), images), folder / PARTS[1])


def test_thumbnails_are_small(finished, tmp_path):
    photos = [Image.fromarray(image).resize((96, 64)) for image in pictures(50, side=64)]
    data = write_pictures(tmp_path / "photos.parquet", [np.asarray(photo) for photo in photos])
    train(tmp_path / "run", data)
    written = ship_memory(memory_of_run(tmp_path / "run", open_source(data)), tmp_path / "run", CREDITS)
    row = read_memory(tmp_path / "run").source[0]
    assert Image.open(io.BytesIO(row)).size == (48, 32) and Image.open(io.BytesIO(row)).format == "WEBP"
    assert written["memory/pictures.parquet"] / 64 < 1200
