"""A day's work: a folder of 300 pictures of every kind through every command, with every file accounted for."""

import csv
import dataclasses
import json
import os
import re

import numpy as np
import pytest
from commands import run
from days_pictures import write_day
from onnx_folder import write_encoder
from small_models import small_recipe, small_vit

from memssl_keras.demo import search as demo_search
from memssl_keras.embedding.table import open_image, read_embeddings
from memssl_keras.embedding.watch import watch
from memssl_keras.export import OnnxEncoder
from memssl_keras.training import recipes

pytestmark = [
    pytest.mark.slow,
    # 12 bits in 16 are read as such with a warning; some of the files are broken on purpose.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
TINY = small_recipe(
    "tiny_day",
    {"depth": 1},
    epochs=1,
    batch_size=32,
    warmup_epochs=0,
    memory_size=64,
    block_size=32,
    batch_norm=False,
)


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    place = tmp_path_factory.mktemp("day")
    good, lost, others, folders = write_day(place / "photos", place / "far")
    assert len(good) + len(lost) == 300
    return place, good, lost, others, folders


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def index(day, model):
    place = day[0]
    said = run("embed", place / "photos", "--model", model, "--out", place / "index.parquet", code=3)
    return place / "index.parquet", said


def test_embedding_accounts_for_every_file(day, index):
    place, good, lost, others, folders = day
    path, said = index
    stored = read_embeddings(path)
    assert len(stored.images) == len(good) and np.isfinite(stored.vectors).all()
    with (place / "index.unreadable.csv").open(newline="") as file:
        assert {os.path.basename(row["name"]) for row in csv.DictReader(file)} == {
            os.fsdecode(os.path.basename(path)) for path in lost
        }
    assert f"{len(good)} embeddings of width 24; {len(lost)} unreadable images skipped" in said
    assert f"{len(others)} other files, {folders} folders not read" in said


def test_every_picture_is_found_under_its_name(day, index):
    stored = read_embeddings(index[0])
    assert {open_image(name).size for name in stored.images} == {(48, 48)}


def test_searching_by_odd_and_by_broken_pictures(day, index, tmp_path):
    place, good, lost, *_ = day
    for path in good[:15]:
        run("search", index[0], "--k", 1, "--", os.fsdecode(path))
        found = json.loads(run("search", index[0], "--k", 1, "--json", "--", os.fsdecode(path)))
        assert found["neighbours"][0]["similarity"] > 0.999
    for path in lost:
        said = run("search", index[0], os.fsdecode(path), "--k", 1, code=1)
        assert "error: " in said and "Traceback" not in said
    sheet = tmp_path / "sheet.png"
    run("search", index[0], os.fsdecode(good[0]), os.fsdecode(good[30]), "--k", 5, "--sheet", sheet)
    assert sheet.stat().st_size > 0


def test_evaluating_skips_what_is_broken_and_says_so(day, model, tmp_path, monkeypatch):
    place, good, lost, others, folders = day
    monkeypatch.setenv("MEMSSL_CACHE", str(tmp_path / "cache"))
    command = ["evaluate", model, "--data", place / "photos", "--tasks", "knn,retrieval", "--k", 5]
    said = run(*command, "--out", tmp_path / "scores")
    assert f"{len(lost)} unreadable images skipped" in said
    assert f"{len(others)} other files, {folders} folders not read" in said
    counts = re.search(r"([\d,]+) train and ([\d,]+) test images", said)
    assert sum(int(count) for count in counts.groups()) == len(good) + len(lost), counts


def test_pretraining_replaces_what_is_broken_and_lists_it(day, tmp_path, monkeypatch):
    place, good, lost, others, folders = day
    monkeypatch.setitem(recipes.RECIPES, "tiny_day", dataclasses.replace(TINY, epochs=2))
    command = ["pretrain", place / "photos", "--recipe", "tiny_day", "--workers", 0]
    said = run(*command, "--out", tmp_path / "run")
    assert "tiny_day: 300 images" in said and "verdict: " in said
    assert f"{len(others)} other files, {folders} folders not read" in said
    with (tmp_path / "run" / "unreadable.csv").open(newline="") as file:
        listed = {os.path.basename(row["name"]) for row in csv.DictReader(file)}
    assert listed and listed <= {os.fsdecode(os.path.basename(path)) for path in lost}
    assert (
        f"Replaced by others: {len(listed)} unreadable images" in (tmp_path / "run" / "report.md").read_text()
    )


def test_watching_takes_all_that_can_be_read_once(day, model, tmp_path):
    place, good, lost, *_ = day
    looks, said = iter(range(6)), []
    encoder = OnnxEncoder.from_pretrained(model, threads=1)
    stop = lambda: next(looks, None) is None  # noqa: E731
    watch(encoder, place / "photos", tmp_path / "index", "m", interval=0, say=said.append, stop=stop)
    assert sorted(read_embeddings(tmp_path / "index").images) == sorted(
        read_embeddings(place / "index.parquet").images
    )
    assert sum(line.startswith("skipped: ") for line in said) == len(lost)


def test_the_demo_opens_the_folder_and_accounts_for_it(day, model, tmp_path, monkeypatch):
    place, good, lost, others, folders = day
    monkeypatch.setenv("MEMSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("memssl_keras.demo.app.launch", lambda *_, **__: None)
    said = run("demo", "--model", model, "--gallery", place / "photos", "--no-browser")
    assert f"{len(good)} pictures" in said and f"{len(lost)} unreadable images skipped" in said
    assert f"{len(others)} other files, {folders} folders not read" in said
    retrieval = demo_search.load(str(model), str(place / "photos"))
    assert len(retrieval.gallery) == len(good)
    for row in range(0, len(good), 7):
        assert retrieval.gallery.read(row).shape == (48, 48, 3) and retrieval.gallery.title(row)


def test_calibrating_an_export_skips_what_is_broken(day, tmp_path):
    small_vit().save_pretrained(tmp_path / "model")
    said = run("export", tmp_path / "model", "--variants", "fp32,int8-static", "--images", day[0] / "photos")
    assert (tmp_path / "model" / "onnx" / "model_int8.onnx").is_file() and "error" not in said
