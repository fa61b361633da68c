"""The demo over an index: its rows, its vectors and its filters, and nothing embedded again."""

import importlib.util

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import run
from onnx_folder import PREPROCESSING, write_encoder
from PIL import Image
from small_models import pictures

from memssl_keras.demo.search import load, opened
from memssl_keras.embedding.embed import embed

if not importlib.util.find_spec("pymilvus"):
    pytest.skip("the extra `index` is not installed", allow_module_level=True)


@pytest.fixture
def uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for i, image in enumerate(pictures(8)):
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
    rows = {
        "image": [(tmp_path / "photos" / f"{i}.png").read_bytes() for i in range(4)],
        "city": ["Rome", "Oslo"] * 2,
    }
    pq.write_table(pa.table(rows), "four.parquet")
    write_encoder(tmp_path / "model")
    embed(["photos"], "model", "photos.parquet", to="photos.db")
    embed(["four.parquet"], "model", "four_vectors.parquet", to="photos.db#four")
    return str(tmp_path / "photos.db")


def test_the_gallery_is_the_index(uri, tmp_path):
    gallery = opened(uri)
    assert gallery.names == [f"{i}.png" for i in range(8)] and not gallery.columns
    source = gallery.source
    found = load(source.model, uri)
    assert found.fresh == 0 and len(found.gallery) == 8
    beside = load(source.model, str(tmp_path / "photos"))
    for row in range(8):
        here, there = found.search(pictures(8)[row], 8), beside.search(pictures(8)[row], 7)
        assert [r for r in here.rows.tolist() if r != row] == there.rows.tolist()
    picture = found.as_query(3)
    assert found.search(np.asarray(picture), 3).itself == 3


def test_columns_are_filters_of_the_page(uri):
    gallery = opened(f"{uri}#four")
    assert list(gallery.columns) == ["City"]
    found = load(gallery.source.model, f"{uri}#four").search(pictures(4)[0], 4, {"City": ["Oslo"]})
    assert sorted(found.rows.tolist()) == [1, 3]
    np.testing.assert_array_equal(gallery.read(2), pictures(4)[2])


def test_what_cannot_be_shown_is_named(uri, tmp_path):
    assert "no such index" in run("demo", "--index", "none.db", code=1)
    assert "gallery='photos': expected none with --index" in run(
        "demo", "--index", "photos.db", "--gallery", "photos", code=1
    )
    assert "expected none with --index" in run("demo", "--index", "photos.db", "--space", "there", code=1)
    write_encoder(tmp_path / "model", preprocessing={**PREPROCESSING, "mean": [0.1, 0.1, 0.1]})
    said = run("demo", "--index", "photos.db", code=1)
    assert "another revision than made the vectors of photos.db" in said
