"""Embeddings in Parquet: written whole or not at all, read back, searched, drawn."""

import io
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx_folder import EMBED_DIM, write_encoder
from PIL import Image
from small_models import pictures

from memssl_keras.data.sources import ImageSource, open_source
from memssl_keras.embedding.run import EmbeddingRun, kept, write_embeddings, write_unreadable
from memssl_keras.embedding.table import (
    Embeddings,
    draw_sheet,
    nearest,
    open_image,
    read_embeddings,
)
from memssl_keras.export import OnnxEncoder
from memssl_keras.images import ImageError


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return OnnxEncoder.from_pretrained(write_encoder(tmp_path_factory.mktemp("model")), threads=1)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    for i, image in enumerate(pictures(5)):
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def test_rows_are_the_images_with_their_vectors(tmp_path, folder, encoder):
    source, done = open_source(folder), []
    failures = write_embeddings(encoder, source, tmp_path / "out.parquet", "patches", 2, done.append)
    stored = read_embeddings(tmp_path / "out.parquet")
    assert failures == [] and done == [0, 2, 2, 1]
    assert stored.images == source.ids and stored.model == "patches"
    assert stored.vectors.dtype == np.float32 and stored.vectors.shape == (5, EMBED_DIM)
    np.testing.assert_allclose(stored.vectors, encoder.embed(pictures(5)), atol=1e-6)
    kind = pq.read_schema(tmp_path / "out.parquet").field("embedding").type
    assert kind == pa.list_(pa.float32(), EMBED_DIM)


def test_vectors_are_written_without_a_dictionary_which_would_hold_each_of_their_numbers(
    tmp_path, folder, encoder
):
    write_embeddings(encoder, open_source(folder), tmp_path / "out.parquet", "m", chunk=2)
    with pq.ParquetFile(tmp_path / "out.parquet") as file:
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    assert [group.num_rows for group in groups] == [2, 2, 1]
    for group in groups:
        encodings = {
            column.path_in_schema: column.encodings for column in map(group.column, range(group.num_columns))
        }
        assert "RLE_DICTIONARY" in encodings["image"] and "RLE_DICTIONARY" in encodings["image_hash"]
        assert "RLE_DICTIONARY" not in encodings["embedding.list.element"]


def test_bad_images_are_left_out_with_their_columns(tmp_path, encoder):
    def png(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()

    rows = [png(pictures(3)[0]), b"broken", png(pictures(3)[2])]
    columns = {"label": [7, 8, 9], "embedding": [0, 0, 0]}  # a column of that name gives way
    pq.write_table(pa.table({"image": rows, **columns}), tmp_path / "in.parquet")
    source = open_source(tmp_path / "in.parquet")
    ((position, error),) = write_embeddings(encoder, source, tmp_path / "out.parquet", "m")
    table = pq.read_table(tmp_path / "out.parquet")
    assert position == 1 and str(error)
    assert table["label"].to_pylist() == [7, 9]
    assert table["image"].to_pylist() == [source.ids[0], source.ids[2]]
    np.testing.assert_allclose(
        read_embeddings(tmp_path / "out.parquet").vectors, encoder.embed(pictures(3)[[0, 2]]), atol=1e-6
    )


def test_the_list_of_unreadable_pictures_goes_with_the_last_of_them(tmp_path):
    listed = write_unreadable(tmp_path / "out.parquet", [(0, ImageError("a.png", "the file is empty"))])
    assert "a.png,the file is empty" in listed.read_text()
    assert write_unreadable(tmp_path / "out.parquet", []) == listed and not listed.exists()


def test_nothing_readable_gives_an_empty_file(tmp_path, encoder):
    source = ImageSource(["a"], [b"broken"])
    assert len(write_embeddings(encoder, source, tmp_path / "out.parquet", "m")) == 1
    assert len(read_embeddings(tmp_path / "out.parquet").images) == 0


class Interrupted(OnnxEncoder):
    """An encoder that is interrupted after so many images, and counts them."""

    def __init__(self, encoder, after, revision="r"):
        self.encoder, self.left, self.embed_dim, self.seen = encoder, after, encoder.embed_dim, 0
        self._revision, self.preprocessing = revision, encoder.preprocessing

    def revision(self):
        return self._revision

    def stream(self, images, batch_size):
        for batch in self.encoder.stream(images, batch_size):
            if self.left <= 0:
                raise KeyboardInterrupt
            self.left, self.seen = self.left - len(batch.indices), self.seen + len(batch.indices)
            yield batch


def test_an_interrupted_file_does_not_appear_and_is_resumed(tmp_path, folder, encoder):
    path, source = tmp_path / "out.parquet", open_source(folder)
    path.write_bytes(b"the one before")
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(Interrupted(encoder, 4), source, path, "m", 1, chunk=2)
    assert path.read_bytes() == b"the one before" and kept(path) == 4
    second, done = Interrupted(encoder, 99), []
    write_embeddings(second, source, path, "m", 1, done.append, chunk=2)
    assert second.seen == 1 and done == [4, 1]
    write_embeddings(Interrupted(encoder, 99), source, tmp_path / "at once.parquet", "m", 1, chunk=2)
    assert pq.read_table(path).equals(pq.read_table(tmp_path / "at once.parquet"))
    assert {p.name for p in tmp_path.iterdir()} == {"images", "out.parquet", "at once.parquet"}


@pytest.mark.parametrize(
    "changed, made_again", [("model", 5), ("revision", 5), ("names", 5), ("one file", 3)]
)
def test_chunks_of_something_else_are_not_taken(tmp_path, folder, encoder, changed, made_again):
    """A picture that was replaced by another of the same name costs its own chunk alone."""
    path, source = tmp_path / "out.parquet", open_source(folder)
    with pytest.raises(KeyboardInterrupt):
        write_embeddings(Interrupted(encoder, 4), source, path, "m", 1, chunk=2)
    if changed == "names":
        source = ImageSource([name + "!" for name in source.ids], source.items)
    if changed == "one file":
        Image.fromarray(255 - pictures(5)[0]).save(folder / "0.png")
    again = Interrupted(encoder, 99, "another" if changed == "revision" else "r")
    write_embeddings(again, source, path, "another" if changed == "model" else "m", batch_size=1, chunk=2)
    assert again.seen == made_again
    if changed == "one file":
        expected = encoder.embed([255 - pictures(5)[0], *pictures(5)[1:]])
        np.testing.assert_allclose(read_embeddings(path).vectors, expected, atol=1e-6)


def test_two_that_write_one_file_do_not_mix(tmp_path, folder, encoder):
    path, source = tmp_path / "out.parquet", open_source(folder)
    first = EmbeddingRun(source, path, "a", encoder.embed_dim, "r")
    words = rf"process {os.getpid()} on .* has been writing there since \d{{4}}"
    with first.lock(), pytest.raises(ValueError, match=words):
        write_embeddings(encoder, source, path, "b")
    lock = tmp_path / ".out.parquet.lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock.write_text(json.dumps({"process": dead.pid, "machine": socket.gethostname(), "since": "then"}))
    write_embeddings(encoder, source, path, "b")  # what a dead process left is taken over
    assert read_embeddings(path).model == "b" and not lock.exists()
    lock.write_text(json.dumps({"process": 1, "machine": "another", "since": "then"}))
    with pytest.raises(ValueError, match="process 1 on another"):
        write_embeddings(encoder, source, path, "b")


def test_images_that_change_while_they_are_embedded_are_noticed(tmp_path, folder, encoder):
    run = EmbeddingRun(open_source(folder), tmp_path / "out.parquet", "m", encoder.embed_dim, "r", chunk=2)
    for number in run.start():
        run.write(number, encoder)
    Image.fromarray(255 - pictures(5)[3]).save(folder / "3.png")
    with pytest.raises(ValueError, match="images 2 and on have changed while they were embedded"):
        run.join()
    assert not (tmp_path / "out.parquet").exists() and run.start() == [1]


def test_a_missing_folder_is_named(tmp_path, folder, encoder):
    with pytest.raises(ValueError, match="out=.*the folder .*nowhere does not exist"):
        write_embeddings(encoder, open_source(folder), tmp_path / "nowhere" / "out.parquet", "m")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file; `memssl embed` writes one"):
        read_embeddings(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(ValueError, match="not readable as Parquet"):
        read_embeddings(tmp_path / "text.parquet")
    pq.write_table(pa.table({"image": ["a"], "embedding": [[1.0]]}), tmp_path / "other.parquet")
    with pytest.raises(
        ValueError, match="columns image, embedding; expected a file that `memssl embed` wrote"
    ):
        read_embeddings(tmp_path / "other.parquet")


def test_neighbours_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    vectors, queries = rng.normal(size=(30, 8)), rng.normal(size=(4, 8))
    stored = Embeddings([str(i) for i in range(30)], vectors, "m")
    for query, found in zip(queries, nearest(stored, queries, 6), strict=True):
        expected = sorted(((v @ query, i) for i, v in enumerate(vectors)), reverse=True)[:6]
        assert [row for row, _ in found] == [i for _, i in expected]
        np.testing.assert_allclose([s for _, s in found], [s for s, _ in expected], rtol=1e-6)
    assert len(nearest(stored, queries, 99)[0]) == 30
    with pytest.raises(ValueError, match="vectors of width 5, the index holds width 8; it was made with m"):
        nearest(stored, np.zeros((1, 5)), 3)


def test_names_open_as_pictures(tmp_path, folder):
    data = [{"bytes": (folder / "3.png").read_bytes(), "path": None}]
    pq.write_table(pa.table({"image": data}), tmp_path / "data.parquet")
    for name in (f"{tmp_path / 'data.parquet'}#0", str(folder / "3.png")):
        assert np.array_equal(np.asarray(open_image(name)), pictures(5)[3])


def test_a_sheet_shows_queries_and_neighbours(tmp_path, folder):
    stored = Embeddings([str(folder / f"{i}.png") for i in range(5)], np.eye(5, dtype="float32"), "m")
    queries = [folder / "0.png", folder / "1.png"]
    draw_sheet(stored, queries, nearest(stored, np.eye(5)[:2], 3), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] > sheet.shape[0] > 2 * 96 and sheet.std() > 20


def test_pictures_of_lists_and_names_with_a_hash_are_found_again(tmp_path, encoder, monkeypatch):
    shown = pictures(3)

    def png(image):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        return buffer.getvalue()

    (tmp_path / "odd#1").mkdir()
    pq.write_table(
        pa.table({"images": [[png(shown[0])], [png(shown[1]), png(shown[2])]]}),
        tmp_path / "odd#1" / "l.parquet",
    )
    (tmp_path / "odd#1" / "a#2.png").write_bytes(png(shown[0]))
    monkeypatch.chdir(tmp_path)
    write_embeddings(encoder, open_source("odd#1/l.parquet"), "index.parquet", "patches", 2)
    stored = read_embeddings("index.parquet")
    assert stored.images == ["odd#1/l.parquet#0#0", "odd#1/l.parquet#1#0", "odd#1/l.parquet#1#1"]
    monkeypatch.chdir("/")
    for name, image in zip(stored.images, shown, strict=True):
        np.testing.assert_array_equal(np.asarray(open_image(stored.locate(name))), image)
    np.testing.assert_array_equal(np.asarray(open_image(str(tmp_path / "odd#1" / "a#2.png"))), shown[0])
