"""`memssl index`, `memssl embed --to` and `memssl search --index`, as a user types them."""

import importlib.util
import json

import pytest
from commands import run
from onnx_folder import PREPROCESSING, write_encoder
from PIL import Image
from small_models import pictures

if not importlib.util.find_spec("pymilvus"):
    pytest.skip("the extra `index` is not installed", allow_module_level=True)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pictures(6)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    (tmp_path / "photos" / "copy.png").write_bytes((tmp_path / "photos" / "5.png").read_bytes())
    write_encoder(tmp_path / "model")
    return tmp_path


def found(*arguments):
    lines = run("search", *arguments).replace("]} {", "]}\n{").split("\n")
    return [[hit["image"] for hit in json.loads(line)["neighbours"]] for line in lines]


def test_a_file_is_indexed_and_searched(photos):
    run("embed", "photos", "--model", "model", "--out", "photos.parquet")
    said = run("index", "photos.parquet", "--to", "photos.db")
    copy = "1 copy of others by their bytes, stored once with the columns of the first"
    assert said == f"photos.db: 6 pictures, 6 of them written now; {copy}"
    again = json.loads(run("index", "photos.parquet", "--to", "photos.db", "--json"))
    assert again == {"index": "photos.db", "new": 0, "known": 6, "copies": 1, "total": 6, "notes": []}
    arguments = ("photos/3.png", "photos/0.png", "--k", "2", "--json")
    in_index, in_file = (
        [
            json.loads(line)["neighbours"]
            for line in run("search", *where, *arguments).replace("} {", "}\n{").split("\n")
        ]
        for where in (("--index", "photos.db"), ("photos.parquet",))
    )
    assert [[hit["image"] for hit in hits] for hits in in_index] == [
        [hit["image"] for hit in hits] for hits in in_file
    ]
    run("search", "--index", "photos.db", "photos/3.png", "--sheet", "sheet.png")
    assert Image.open("sheet.png").width > 96


def test_embed_writes_into_an_index(photos):
    said = run("embed", "photos", "--model", "model", "--out", "photos.parquet", "--to", "photos.db")
    assert "photos.db: 6 pictures, 6 of them written now" in said
    (photos / "photos" / "new.png").write_bytes((photos / "photos" / "0.png").read_bytes())
    shown = json.loads(
        run("embed", "photos", "--model", "model", "--out", "b.parquet", "--to", "photos.db", "--json")
    )
    assert (shown["index"]["total"], shown["index"]["copies"]) == (6, 2)


def test_another_model_is_refused_before_anything_is_embedded(photos):
    run("embed", "photos", "--model", "model", "--out", "photos.parquet", "--to", "photos.db")
    write_encoder(photos / "model", preprocessing={**PREPROCESSING, "mean": [0.1, 0.1, 0.1]})
    said = run("embed", "photos", "--model", "model", "--out", "b.parquet", "--to", "photos.db", code=1)
    assert "its vectors are of model at revision" in said and not (photos / "b.parquet").exists()
    said = run("search", "--index", "photos.db", "photos/0.png", code=1)
    assert "vectors of two revisions do not compare" in said


def test_wrong_arguments_are_named(photos):
    assert "filter='a == 1': expected only with --index" in run(
        "search", "a.parquet", "b.png", "--filter", "a == 1", code=1
    )
    assert "images: got none beside 'a.parquet'" in run("search", "a.parquet", code=1)
    said = run("embed", "photos", "--model", "model", "--watch", "--out", "seen", "--to", "photos.db", code=1)
    assert "`memssl index seen --to URI` writes its folder" in said
    assert "no such file; `memssl embed` writes one" in run(
        "index", "none.parquet", "--to", "photos.db", code=1
    )
