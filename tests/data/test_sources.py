"""Where images come from: folders, single files, Parquet in its two forms, and what is refused."""

import gc
import io
import os
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.data.classes import open_classes
from memssl_keras.data.hashes import file_state
from memssl_keras.data.labels import numbered_labels
from memssl_keras.data.several import open_sources
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.images import list_images
from memssl_keras.images.read import read_image


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, images, struct=True, **columns):
    encoded = [png(image) for image in images]
    rows = [{"bytes": data, "path": None} for data in encoded] if struct else encoded
    pq.write_table(pa.table({"image": rows, **columns}), path)
    return path


def test_a_folder_and_its_subfolders(tmp_path):
    (tmp_path / "b").mkdir()
    for name, image in zip(("b/2.png", "a.png"), pictures(2), strict=True):
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    source = open_source(tmp_path)
    assert source.ids == [str(tmp_path / "a.png"), str(tmp_path / "b" / "2.png")] and len(source) == 2
    np.testing.assert_array_equal(read_image(source[1]), pictures(2)[0])
    assert len(list(source)) == 2 and source.columns == {}


def held_by(make):
    """What `make` makes, and the bytes that Python still holds for it."""
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        return made, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_pictures_of_folders_are_held_as_texts_and_given_as_paths(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for i in range(1000):
            (tmp_path / folder / f"{i:04d}.png").touch()
    list_images(tmp_path)  # loads what is loaded once
    (paths, names), plain = held_by(lambda: (paths := list_images(tmp_path), [*map(str, paths)]))
    for data in (tmp_path, [tmp_path / "one", tmp_path / "two"]):
        source, held = held_by(lambda: open_sources(data))  # noqa: B023
        assert held < plain / 2
        assert source.ids == names and list(source) == paths and source[-1] == paths[-1]
        assert source.state(7) == file_state(paths[7]) != ""


def test_names_that_are_not_utf_8(tmp_path):
    try:
        with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.png"), "wb") as file:
            file.write(png(pictures(1)[0]))
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    source = open_source(tmp_path)
    assert source.ids == [rf"{tmp_path}/caf\xe9.png"] and source.state(0) != ""
    np.testing.assert_array_equal(read_image(source[0]), pictures(1)[0])


def test_a_single_image(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "one.jpg")
    assert open_source(str(tmp_path / "one.jpg")).ids == [str(tmp_path / "one.jpg")]


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_of_bytes_with_other_columns(tmp_path, struct):
    path = write(tmp_path / "data.parquet", pictures(4), struct, label=[3, 1, 2, 0], text=list("abcd"))
    source = open_source(path)
    assert source.ids == [f"{path}#{row}" for row in range(4)]
    for ours, theirs in zip(source, pictures(4), strict=True):
        np.testing.assert_array_equal(read_image(ours), theirs)
    assert column_of(source, "label").tolist() == [3, 1, 2, 0]
    assert column_of(source, "text").tolist() == list("abcd")


def test_parquet_that_names_files(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "one.png")
    rows = [{"bytes": None, "path": "one.png"}]
    pq.write_table(
        pa.table(
            {"image": rows},
            pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))]),
        ),
        tmp_path / "data.parquet",
    )
    np.testing.assert_array_equal(read_image(open_source(tmp_path / "data.parquet")[0]), pictures(1)[0])


def test_splits_of_a_folder_of_parquet(tmp_path):
    write(tmp_path / "train-0.parquet", pictures(2), label=[0, 1])
    write(tmp_path / "train-1.parquet", pictures(3, seed=1), label=[2, 3, 4])
    write(tmp_path / "test-0.parquet", pictures(1, seed=2), label=[9])
    train, everything = open_source(tmp_path, split="train"), open_source(tmp_path)
    assert column_of(train, "label").tolist() == [0, 1, 2, 3, 4]
    assert train.ids[2] == f"{tmp_path / 'train-1.parquet'}#0"
    np.testing.assert_array_equal(read_image(train[4]), pictures(3, seed=1)[2])
    assert len(everything) == 6
    with pytest.raises(ValueError, match=r"split='valid' matches none .* test-0\.parquet, train-0\.parquet"):
        open_source(tmp_path, split="valid")


def test_several_image_columns_need_a_choice(tmp_path):
    path = write(tmp_path / "two.parquet", pictures(2), other=[png(i) for i in pictures(2, seed=1)])
    np.testing.assert_array_equal(read_image(open_source(path, column="other")[0]), pictures(2, seed=1)[0])
    with pytest.raises(ValueError, match="image columns are image, other .* expected exactly one"):
        open_source(path)
    with pytest.raises(ValueError, match="got column='label'"):
        open_source(path, column="label")


def test_refusals_say_what_there_is(tmp_path):
    Image.fromarray(pictures(1)[0]).save(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"no such file or folder; .* holds photo\.png"):
        open_source(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: holds no image"):
        open_source(tmp_path / "empty")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"bad\.parquet: not readable as Parquet"):
        open_source(tmp_path / "bad.parquet")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    with pytest.raises(ValueError, match="image columns are none of text"):
        open_source(tmp_path / "text.parquet")


def test_labels_are_numbers_or_text_that_are_there(tmp_path):
    source = open_source(
        write(tmp_path / "data.parquet", pictures(3), label=["dog", "cat", "dog"], some=[1, None, 2])
    )
    assert numbered_labels(source, "label").tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="column 'some' holds no label in 1 of 3 rows"):
        numbered_labels(source, "some")
    with pytest.raises(ValueError, match="column 'class' is missing; there are label"):
        numbered_labels(source, "class")


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_a_subfolder_is_a_split_of_a_folder(tmp_path):
    for name, image in zip(("train/a.png", "test/b.png", "test/c.png"), pictures(3), strict=True):
        save(tmp_path / name, image)
    assert len(open_source(tmp_path)) == 3
    assert open_source(tmp_path, split="test").ids == [str(tmp_path / "test" / f"{n}.png") for n in "bc"]
    with pytest.raises(ValueError, match="split='valid' matches none of its subfolders, test, train"):
        open_source(tmp_path, split="valid")


def test_labels_are_the_subfolders_or_a_column(tmp_path):
    names = ("train/dog/1.png", "train/cat/2.png", "train/owl/x/3.png", "test/owl/4.png", "test/dog/5.png")
    for name, image in zip(names, pictures(5), strict=True):
        save(tmp_path / "photos" / name, image)
    found = open_classes(tmp_path / "photos")
    assert [name.split("/")[-1] for name in found.train.source.ids] == ["2.png", "1.png", "3.png"]
    assert found.classes == ["cat", "dog", "owl"] and found.train_labels.tolist() == [0, 1, 2]
    assert found.test_labels.tolist() == [1, 2] and len(found.test) == 2
    save(tmp_path / "photos" / "test" / "emu" / "6.png", pictures(1)[0])
    assert (
        "1 test images are of classes without training images (emu)"
        in open_classes(tmp_path / "photos").notes[0]
    )
    save(tmp_path / "photos" / "train" / "7.png", pictures(1)[0])
    with pytest.raises(ValueError, match=r"7\.png is in no subfolder: expected a subfolder per class"):
        open_classes(tmp_path / "photos")

    write(tmp_path / "train-0.parquet", pictures(2), label=[4, 5])
    write(tmp_path / "test-0.parquet", pictures(1), label=[5])
    found = open_classes(tmp_path)
    assert (
        len(found.train) == 2 and found.train_labels.tolist() == [0, 1] and found.test_labels.tolist() == [1]
    )
    with pytest.raises(ValueError, match="column 'class' is missing"):
        open_classes(tmp_path, "class")


@pytest.mark.parametrize("test", ["val", "valid", "validation", "dev", "testing"])
def test_every_usual_name_of_a_split(tmp_path, test):
    """The layout of ImageNet: `train` and `val` are no classes."""
    for number, name in enumerate(("train/a/1.png", "train/b/2.png", f"{test}/a/3.png", f"{test}/b/4.png")):
        save(tmp_path / "folders" / name, pictures(4)[number])
    (tmp_path / "tables").mkdir()
    write(tmp_path / "tables" / "train-00000-of-00001.parquet", pictures(2), label=["a", "b"])
    write(tmp_path / "tables" / f"{test}-00000-of-00001.parquet", pictures(2, seed=1), label=["a", "b"])
    for data in ("folders", "tables"):
        found = open_classes(tmp_path / data)
        assert found.classes == ["a", "b"] and found.train_labels.tolist() == found.test_labels.tolist() == [
            0,
            1,
        ]
        assert found.protocol == "2 train and 2 test images, 2 classes"


def test_one_split_alone_is_split_here_and_subfolders_of_subfolders_are_refused(tmp_path):
    for number in range(8):
        save(tmp_path / "one" / "test" / "ab"[number % 2] / f"{number}.png", pictures(8)[number])
        save(
            tmp_path / "deep" / "ab"[number % 2] / ("cat", "dog")[number % 2] / f"{number}.png",
            pictures(8)[number],
        )
    found = open_classes(tmp_path / "one", test_share=0.5)
    assert found.classes == ["a", "b"] and len(found.train) == len(found.test) == 4
    with pytest.raises(
        ValueError, match=r"its subfolders \(a, b\) hold only subfolders; expected deep/CLASS/picture"
    ):
        open_classes(tmp_path / "deep")


@pytest.mark.parametrize("struct", [True, False])
def test_a_row_without_an_image_is_an_unreadable_one(tmp_path, struct):
    value = {"bytes": None, "path": None} if struct else None
    whole = {"bytes": png(pictures(1)[0]), "path": None} if struct else png(pictures(1)[0])
    pq.write_table(pa.table({"image": [whole, value]}), tmp_path / "data.parquet")
    source = open_source(tmp_path / "data.parquet")
    np.testing.assert_array_equal(read_image(source[0]), pictures(1)[0])
    with pytest.raises(ValueError, match="the file is empty"):
        read_image(source[1])


def test_a_split_is_a_name_and_no_part_of_one(tmp_path):
    from memssl_keras.data.splits import files_of

    for name in ("Train-0.parquet", "test-0.parquet", "testimonials.parquet", "testing.parquet"):
        (tmp_path / name).touch()
    found = {
        split: [file.name for file in files_of(tmp_path, ".parquet", split)] for split in ("Train", "test")
    }
    assert found == {"Train": ["Train-0.parquet"], "test": ["test-0.parquet", "testing.parquet"]}


def test_pictures_that_cannot_be_read_are_no_copies_of_each_other(tmp_path):
    from memssl_keras.data.hashes import content_hashes

    missing = [tmp_path / "a.png", tmp_path / "b.png"]
    hashes = [*content_hashes(missing), *content_hashes(missing)]
    assert len(set(hashes)) == 4
