"""Parquet in the forms that people have, read in bounded memory."""

import io
import itertools
import pickle

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.data import parquet, sources
from memssl_keras.data.columns import Column, labelled
from memssl_keras.data.huggingface import Stream, open_data
from memssl_keras.data.several import open_sources
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.images import read_image


def png(image):
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG")
    return out.getvalue()


def same(source, images):
    assert len(source) == len(images)
    for ours, theirs in zip(source, images, strict=True):
        np.testing.assert_array_equal(read_image(ours), theirs)


def test_forms_of_an_image_column(tmp_path):
    images = pictures(3)
    data = [png(image) for image in images]
    structs = [{"bytes": d, "path": None} for d in data]
    forms = {
        "nested": pa.table({"sample": [{"image": s, "id": 1} for s in structs]}),
        "lists": pa.table({"images": [[s] for s in structs]}),
        "views": pa.table({"image": pa.array(data, pa.binary_view())}),
        "large": pa.table({"image": pa.array(data, pa.large_binary())}),
    }
    for name, table in forms.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        same(open_source(tmp_path / f"{name}.parquet"), images)
        notes = [] if name != "lists" else ["column 'images' holds lists: 3 pictures of 3 rows"]
        assert open_source(tmp_path / f"{name}.parquet").notes == notes
    same(open_source(tmp_path / "nested.parquet", column="sample.image"), images)


def lists_of(images):
    """Rows of two pictures, none, one and three."""
    rows = [images[:2], [], images[2:3], images[3:6]]
    return [[{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(row)] for row in rows]


@pytest.mark.parametrize("form", ["structs", "bytes", "nested", "null"])
def test_every_picture_of_a_list_is_read(tmp_path, form):
    images, rows = pictures(6), lists_of(pictures(6))
    if form == "bytes":
        rows = [[one["bytes"] for one in row] for row in rows]
    rows[1] = None if form == "null" else rows[1]
    columns = {"sample": [{"images": row} for row in rows]} if form == "nested" else {"images": rows}
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({**columns, "label": ["a", "b", "a", "c"]}), path, row_group_size=3)
    source = open_source(path)
    assert [name.removeprefix(str(path)) for name in source.ids] == [
        "#0#0",
        "#0#1",
        "#1#0",
        "#2#0",
        "#3#0",
        "#3#1",
        "#3#2",
    ]
    assert source.columns["label"].to_pylist() == ["a", "a", "b", "a", "c", "c", "c"]
    found = [source[i] for i in range(len(source)) if source[i]]
    assert len(found) == 6 and source[2] == b""  # a row without pictures is one that cannot be read
    for ours, theirs in zip(found, images, strict=True):
        np.testing.assert_array_equal(read_image(ours), theirs)
    assert "holds lists: 7 pictures of 4 rows" in source.notes[0]
    assert source.state(0) == source.state(3) != ""


def test_lists_that_memory_does_not_hold(tmp_path, monkeypatch):
    monkeypatch.setattr("memssl_keras.data.sources.HELD_BYTES", 0)
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"images": lists_of(pictures(6))}), path, row_group_size=1)
    source = open_source(path)
    assert not isinstance(source.items, list) and len(source) == 7
    np.testing.assert_array_equal(read_image(source[6]), pictures(6)[5])
    np.testing.assert_array_equal(read_image(source[0]), pictures(6)[0])
    shuffled = open_data(path)  # what training takes: Arrow files that are mapped
    assert len(shuffled) == 7 and shuffled.name(6) == "2.png (row 3, picture 2)"
    np.testing.assert_array_equal(read_image(shuffled[6]), pictures(6)[5])
    np.testing.assert_array_equal(read_image(shuffled[0]), pictures(6)[0])


def test_pictures_of_a_row_are_never_on_both_sides_of_a_split(tmp_path):
    from memssl_keras.data.classes import open_classes

    images = pictures(40)
    rows = [[{"bytes": png(image), "path": None} for image in images[i : i + 4]] for i in range(0, 40, 4)]
    pq.write_table(pa.table({"images": rows, "label": ["a", "b"] * 5}), tmp_path / "lists.parquet")
    found = open_classes(tmp_path / "lists.parquet", test_share=0.4)
    sides = [
        {part.source.name(int(row)).split("#")[1] for row in part.rows} for part in (found.train, found.test)
    ]
    assert not sides[0] & sides[1] and len(found.train) + len(found.test) == 40 and len(found.test) == 16
    assert any("40 pictures of 10 rows" in note for note in found.notes)


def test_a_column_of_paths(tmp_path):
    for number, image in enumerate(pictures(2)):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    (tmp_path / "meta").mkdir()
    table = pa.table({"file_name": ["../0.png", "../1.png"], "label": ["a", "b"]})
    pq.write_table(table, tmp_path / "meta" / "metadata.parquet")
    source = open_source(tmp_path / "meta")
    same(source, pictures(2))
    assert column_of(source, "label").tolist() == ["a", "b"]


def test_a_stray_parquet_file_does_not_hide_a_folder_of_photographs(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    pq.write_table(pa.table({"text": ["no image"]}), tmp_path / "metadata.parquet")
    schema = pa.schema(
        [("image", pa.string()), ("embedding", pa.list_(pa.float32()))], {b"memssl_model": b"m"}
    )
    own = pa.table({"image": [str(tmp_path / "a.png")], "embedding": [[1.0]]}, schema)
    pq.write_table(own, tmp_path / "index.parquet")
    source = open_source(tmp_path)
    assert [name.rpartition("/")[2] for name in source.ids] == ["a.png"]
    assert source.notes == ["2 other files not read"]


def test_pictures_beside_parquet_with_images_are_accounted_for(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "logo.png")
    pq.write_table(pa.table({"image": [png(pictures(1)[0])]}), tmp_path / "train-0.parquet")
    pq.write_table(pa.table({"text": ["no image"]}), tmp_path / "train-1.parquet")
    source = open_source(tmp_path)
    assert len(source) == 1
    assert source.notes == [
        "1 pictures beside the Parquet files not read",
        "1 Parquet files without images not read (train-1.parquet)",
    ]


def test_a_clone_of_a_data_set_has_its_files_in_data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("words")
    for split in ("train", "test"):
        pq.write_table(
            pa.table({"image": [png(pictures(1)[0])]}), tmp_path / "data" / f"{split}-00000.parquet"
        )
    assert len(open_source(tmp_path)) == 2 and len(open_source(tmp_path, split="test")) == 1


def test_shards_whose_columns_differ(tmp_path):
    """In order, width and nullness, as different writers leave them."""
    first = pa.table({"label": pa.array([1, 2], pa.int32()), "image": [png(p) for p in pictures(2)]})
    structs = [{"bytes": png(p), "path": None} for p in pictures(2, seed=1)]
    second = pa.table({"image": structs, "label": pa.array([3, None], pa.int64()), "more": ["x", "y"]})
    pq.write_table(first, tmp_path / "a.parquet")
    pq.write_table(second, tmp_path / "b.parquet")
    source = open_source(tmp_path)
    same(source, [*pictures(2), *pictures(2, seed=1)])
    assert source.columns["label"].to_pylist() == [1, 2, 3, None]
    assert source.columns["more"].to_pylist() == [None, None, "x", "y"]


@pytest.mark.parametrize("split", [None, "train"])
def test_a_saved_data_set(tmp_path, split):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": [Image.fromarray(p) for p in pictures(3)], "label": [5, 6, 7]}
    saved = datasets.Dataset.from_dict(rows, features)
    saved = datasets.DatasetDict({"train": saved}) if split else saved
    saved.save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved", split=split)
    same(source, pictures(3))
    assert source.columns["label"].to_pylist() == [5, 6, 7]


@pytest.mark.parametrize("form", ["structs", "bytes"])
def test_lists_of_a_saved_data_set(tmp_path, form):
    rows = lists_of(pictures(6))
    rows[1] = [] if form == "structs" else None
    feature: object = datasets.Image()
    if form == "bytes":
        rows = [row and [one["bytes"] for one in row] for row in rows]
        feature = datasets.Value("binary")
    features = {"images": datasets.List(feature), "label": datasets.Value("string")}
    saved = datasets.Dataset.from_dict(
        {"images": rows, "label": ["a", "b", "a", "c"]}, datasets.Features(features)
    )
    saved.save_to_disk(tmp_path / "saved")
    source = open_source(tmp_path / "saved")
    assert [name.partition("#")[2] for name in source.ids] == [
        "0#0",
        "0#1",
        "1#0",
        "2#0",
        "3#0",
        "3#1",
        "3#2",
    ]
    assert source.columns["label"].to_pylist() == ["a", "a", "b", "a", "c", "c", "c"]
    assert source[2] == b"" and source.rows.tolist() == [0, 0, 1, 2, 3, 3, 3]
    found = [source[i] for i in range(len(source)) if source[i]]
    for ours, theirs in zip(found, pictures(6), strict=True):
        np.testing.assert_array_equal(read_image(ours), theirs)
    assert "holds lists: 7 pictures of 4 rows" in source.notes[0]


def test_lists_of_a_data_set_in_another_order_and_as_a_stream():
    columns = {"images": lists_of(pictures(6)), "label": [0, 1, 0, 1]}
    features = {"images": datasets.List(datasets.Image()), "label": datasets.ClassLabel(names=["a", "b"])}
    data = datasets.Dataset.from_dict(columns, datasets.Features(features))
    images, labels = labelled(data.select([3, 0]))
    assert len(images) == 5 and labels.tolist() == [1, 1, 1, 0, 0]
    np.testing.assert_array_equal(read_image(images[3]), pictures(6)[0])
    stream = Stream(data.to_iterable_dataset(), images_per_epoch=7, shuffle_buffer=1)
    read = list(itertools.islice(stream.read(epoch=0), 7))
    assert [index for index, _, _ in read] == list(range(7))
    whole = Column(data)
    assert sorted(image for _, _, image in read) == sorted(whole[i] for i in range(7))


def test_large_files_are_read_page_by_page(tmp_path, monkeypatch):
    """In any order, from any process; and never much more than a page of a file."""
    monkeypatch.setattr(sources, "HELD_BYTES", 0)
    monkeypatch.setattr(parquet, "PAGE_BYTES", 30_000)
    images = pictures(40)
    pq.write_table(
        pa.table({"image": [png(p) for p in images[:30]]}), tmp_path / "a.parquet", row_group_size=20
    )
    pq.write_table(pa.table({"image": [png(p) for p in images[30:]]}), tmp_path / "b.parquet")
    source = open_source(tmp_path)
    assert isinstance(source.items, parquet.ImageColumn)
    same(source, images)
    for row in np.random.default_rng(0).permutation(40):
        np.testing.assert_array_equal(read_image(source[int(row)]), images[row])
    assert all(len(pages.page) < 20 for pages in source.items._pages.values())
    again = pickle.loads(pickle.dumps(source.items))
    np.testing.assert_array_equal(read_image(again[35]), images[35])
    shuffled = open_data(tmp_path)  # what training takes: Arrow files that are mapped
    np.testing.assert_array_equal(read_image(shuffled[33]), images[33])


@pytest.mark.slow
def test_more_than_two_gibibytes(tmp_path):
    """Arrow's arrays of bytes end at 2 GiB; what is held of a file is a row group at most."""
    noise = np.random.default_rng(0).integers(0, 256, 3 << 20, "uint8").tobytes()
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())])
    with pq.ParquetWriter(tmp_path / "big.parquet", schema, compression="none") as writer:
        for group in range(9):
            rows = [
                group.to_bytes(4, "little") + number.to_bytes(4, "little") + noise for number in range(80)
            ]
            writer.write_table(pa.table({"image": rows, "label": [group] * 80}, schema))
    source, before = open_source(tmp_path / "big.parquet"), pa.total_allocated_bytes()
    assert len(source) == 720 and source.columns["label"].to_pylist()[-1] == 8
    for row in (0, 79, 80, 500, 719):
        assert source[row][:8] == (row // 80).to_bytes(4, "little") + (row % 80).to_bytes(4, "little")
        assert pa.total_allocated_bytes() - before < 1.5 * 80 * len(rows[0])


def test_several_paths_are_not_held_in_memory(tmp_path, monkeypatch):
    """What was not read of any of them is said, and columns that cannot be joined too."""
    monkeypatch.setattr(sources, "HELD_BYTES", 0)
    images = pictures(5)
    pq.write_table(
        pa.table({"image": [png(p) for p in images[:3]], "label": [1, 2, 3]}), tmp_path / "a.parquet"
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("words")
    for number, image in enumerate(images[3:]):
        Image.fromarray(image).save(tmp_path / "b" / f"{number}.png")
    source = open_sources([tmp_path / "a.parquet", tmp_path / "b"])
    same(source, images)
    assert not isinstance(source.items, list)
    assert source.notes == ["columns not kept, as there are several paths: label", "1 other file not read"]
    before = [source.state(row) for row in range(5)]
    assert all(before) and before[0] == before[1] != before[3]
    pq.write_table(pa.table({"image": [png(p) for p in images[::-1]]}), tmp_path / "a.parquet")
    assert source.state(0) != before[0] and source.state(4) == before[4]


def test_a_cache_that_cannot_be_written_stops_no_training(tmp_path, monkeypatch):
    monkeypatch.setattr("memssl_keras.data.sources.HELD_BYTES", 0)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "file" / "cache")
    (tmp_path / "file").write_text("no folder")
    pq.write_table(pa.table({"image": [png(image) for image in pictures(4)]}), tmp_path / "large.parquet")
    with pytest.warns(
        UserWarning, match="data sets are not kept there .*HF_DATASETS_CACHE names another place"
    ):
        images = open_data(tmp_path / "large.parquet")
    same(images, pictures(4))
