"""WebDataset shards, Hub data sets and streams: what is read, in which order, and what is refused."""

import io
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import pictures, same_weights, small_crops, small_massl

from memssl_keras import Stream
from memssl_keras.data.columns import Column, labelled
from memssl_keras.data.huggingface import open_data
from memssl_keras.data.loader import view_loader
from memssl_keras.data.sources import ImageSource
from memssl_keras.images.read import read_image


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path, files):
    with tarfile.open(path, "w") as shard:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            shard.addfile(entry, io.BytesIO(content))


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Three WebDataset shards of four images with labels, the last image of the last one unreadable."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "shards"
    folder.mkdir()
    images = [png(image) for image in pictures(12)]
    images[11] = b"no image"
    for shard in range(3):
        files = {}
        for i in range(4 * shard, 4 * shard + 4):
            files |= {f"{i:03}.png": images[i], f"{i:03}.cls": b"1"}
        write_shard(folder / f"train-{shard}.tar", files)
    return folder


def as_dataset(count=24, size=8):
    """Images whose pixels hold their number."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [np.full((size, size, 3), i, "uint8") for i in range(count)]}
    return datasets.Dataset.from_dict(rows | {"label": [i % 2 for i in range(count)]}, features)


def as_stream(images_per_epoch=24, shards=4, **options):
    return Stream(as_dataset().to_iterable_dataset(shards), images_per_epoch, **options)


def numbers(stream, count, **place):
    rows = list(itertools.islice(stream.read(**{"epoch": 0, **place}), count))
    return [int(read_image(image)[0, 0, 0]) for _, _, image in rows], [index for index, _, _ in rows]


def batches(loader, epoch=0, start=0):
    """The first views' first pixels, by batch."""
    loader.set_epoch(epoch, start)
    return [views[0] for (views,) in loader]


class Whole:
    """One view: the image itself, and a random number in its corner."""

    def __call__(self, image, rng):
        view = image.copy()
        view[0, 0, 1] = rng.integers(256)
        return [view, view]


def test_webdataset_shards_are_read_in_place(shards):
    source = open_data(shards)
    assert len(source) == 12
    np.testing.assert_array_equal(read_image(source[5]), pictures(12)[5])
    assert "005.png" in source.name(5)
    one = open_data(shards / "train-1.tar", split="train")
    np.testing.assert_array_equal(read_image(one[0]), pictures(12)[4])
    with pytest.raises(ValueError, match=r"split='valid' matches none of its Tar files, train-0\.tar"):
        open_data(shards, split="valid")


@pytest.mark.slow
def test_streams_of_shards_parquet_and_folders_hold_the_same_images(shards, tmp_path):
    as_dataset().to_parquet(tmp_path / "data.parquet", batch_size=5)
    (tmp_path / "photos").mkdir()
    for i in range(24):
        Image.fromarray(np.full((8, 8, 3), i, "uint8")).save(tmp_path / "photos" / f"{i:02}.png")
    for data in (tmp_path / "data.parquet", tmp_path / "photos"):
        stream = open_data(data, streaming=True, images_per_epoch=24, shuffle_buffer=6)
        seen, _ = numbers(stream, 24)
        assert sorted(seen) == list(range(24)) and seen != list(range(24))
    rows = list(itertools.islice(open_data(shards, streaming=True, images_per_epoch=12).read(0), 12))
    names = sorted(name for _, name, _ in rows)
    assert names[0].endswith("train-0.tar#000.png") and names[11].endswith("train-2.tar#011.png")
    assert isinstance(open_data(tmp_path / "photos"), ImageSource)


def test_a_stream_is_shuffled_by_seed_and_epoch_and_goes_round():
    stream = as_stream()
    first, places = numbers(stream, 24)
    assert numbers(stream, 24) == (first, places) and sorted(first) == list(range(24)) == places
    assert first != numbers(stream, 24, seed=1)[0]
    later = numbers(stream, 24, epoch=1)[0]
    assert sorted(later) == sorted(first) and later != first
    twice, places = numbers(stream, 48)
    assert twice[:24] == first and sorted(twice[24:]) == sorted(first) and places == list(range(48))
    assert twice[24:] != first


@pytest.mark.parametrize("shards", [4, 3])
def test_processes_share_a_stream_without_overlap(shards):
    stream = as_stream(shards=shards, shuffle_buffer=5)
    parts = [numbers(stream, 12, rank=rank, world_size=2) for rank in (0, 1)]
    assert sorted(parts[0][0] + parts[1][0]) == list(range(24))
    assert parts[0][1] == list(range(0, 24, 2)) and parts[1][1] == list(range(1, 24, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_pixel_of_a_stream_and_a_start_within_an_epoch_neither(workers):
    def loader(workers):
        return view_loader(as_stream(), views=Whole(), batch_size=4, workers=workers, seed=3)

    alone, other = loader(0), loader(workers)
    assert len(alone) == 6
    for epoch in (0, 1):
        expected = batches(alone, epoch)
        assert len(expected) == 6
        assert torch.equal(torch.cat(expected), torch.cat(batches(other, epoch)))
    assert torch.equal(torch.cat(expected[4:]), torch.cat(batches(other, 1, start=4)))


def test_an_error_of_the_stream_reaches_the_training():
    def broken():
        for image in pictures(9):
            yield {"image": {"bytes": png(image), "path": None}}
        raise ConnectionError("the server went away")

    features = datasets.Features({"image": datasets.Image(decode=False)})
    stream = Stream(datasets.IterableDataset.from_generator(broken, features), 40, shuffle_buffer=1)
    with pytest.raises(ConnectionError, match="the server went away"):
        batches(view_loader(stream, views=Whole(), batch_size=2, workers=1))


@pytest.mark.slow
def test_training_on_a_stream_interrupted_and_not():
    def fit(model, **options):
        return model.fit(as_stream(8), views=small_crops(), batch_size=4, epochs=2, verbose=0, **options)

    import keras

    models = []
    for _ in range(2):
        keras.utils.set_random_seed(0)
        models.append(small_massl())
    history = fit(models[0])
    assert len(history.history["loss"]) == 2 and models[0].step == 4
    with pytest.raises(KeyboardInterrupt):

        class Crash(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                if self.model.step == 3:
                    raise KeyboardInterrupt

        fit(models[1], callbacks=[Crash()])
    fit(models[1], initial_epoch=1, initial_batch=1)
    assert same_weights(*models)


def test_images_that_a_row_lacks_are_unreadable_ones():
    features = datasets.Features({"image": datasets.Image()})
    rows = datasets.Dataset.from_dict({"image": [pictures(1)[0], None]}, features)
    with pytest.raises(ValueError, match="the file is empty"):
        read_image(Column(rows)[1])
    seen = list(itertools.islice(Stream(rows.to_iterable_dataset(), 2).read(0), 2))
    assert sorted(image == b"" for _, _, image in seen) == [False, True]


def test_labels_come_from_the_class_label():
    images, labels = labelled(as_dataset(5))
    assert len(images) == 5 and labels.tolist() == [0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"0 ClassLabel columns \(none\) among image"):
        labelled(as_dataset(5).select_columns("image"))


HUB = """
import pathlib, shutil, datasets
from memssl_keras.data.huggingface import open_data
for name in ("owner/pictures", "owner/pictures:default"):
    source = open_data(name)
    print(len(source), source.column, source[0][1:4].decode())
for options in ({"data": "owner/nothing"}, {"data": "nothing"}, {"data": "owner/pictures", "split": "valid"},
                {"data": "owner/pictures:small"}, {"data": "owner/nothing", "streaming": True, "images_per_epoch": 4}):
    try:
        open_data(**options)
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_name_is_a_data_set_of_the_hub(tmp_path):
    """The real client, offline, with one data set in its cache."""
    as_dataset(6).to_parquet(tmp_path / "train.parquet")
    files = {"train": str(tmp_path / "train.parquet")}
    builder = datasets.load_dataset_builder("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    cached = tmp_path / "cache" / "owner___pictures" / "default" / "0.0.0" / "0"
    shutil.copytree(builder.cache_dir, cached)
    (cached / "parquet-train.arrow").rename(cached / "pictures-train.arrow")
    root = str(pathlib.Path(__file__).parents[2])
    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache"), "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", HUB],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["6 image PNG"] * 2 and len(lines) == 7
    for line, name in zip(lines[2:4], ("owner/nothing", "nothing"), strict=True):
        assert (
            f"data='{name}': no such file or folder here, and from the Hub: Couldn't reach '{name}'" in line
        )
    assert "Unknown split" in lines[4] and "['train']" in lines[4] and "'small'" in lines[5]
    assert "Couldn't reach 'owner/nothing'" in lines[6]


@pytest.mark.parametrize(
    "name", ["photos/", "./photos", "a/b/c", "x.tar", "train.parquet", "/photos", "~/photos"]
)
def test_what_looks_like_a_path_is_not_looked_for_on_the_hub(name):
    with pytest.raises(ValueError, match="no such file or folder; "):
        open_data(name)


@pytest.mark.slow
def test_streams_need_a_number_of_images(tmp_path):
    as_dataset().to_parquet(tmp_path / "data.parquet")
    with pytest.raises(
        ValueError, match="streaming needs images_per_epoch, on the command line --images-per-epoch"
    ):
        open_data(tmp_path / "data.parquet", streaming=True)
    with pytest.raises(ValueError, match=r"images_per_epoch=5: expected only with streaming"):
        open_data(tmp_path / "data.parquet", images_per_epoch=5)
    with pytest.raises(ValueError, match=r"expected Stream\(x, images_per_epoch=…\)"):
        small_massl().fit(as_dataset().to_iterable_dataset(), batch_size=4)
    for options in ({"images_per_epoch": 0}, {"images_per_epoch": 4, "shuffle_buffer": 0}):
        with pytest.raises(ValueError, match="=0: expected 1 image or more"):
            as_stream(**options)
    with pytest.raises(ValueError, match="dataset is a Dataset: expected a datasets.IterableDataset"):
        Stream(as_dataset(), 4)
    with pytest.raises(ValueError, match="x holds 3 images, fewer than batch_size=4"):
        small_massl().fit(as_stream(3), batch_size=4)


def test_a_stream_without_images_or_columns_is_refused():
    nothing = as_dataset().to_iterable_dataset().filter(lambda row: False)
    with pytest.raises(ValueError, match="the stream holds no image"):
        next(Stream(nothing, 4).read(0))
    with pytest.raises(ValueError, match="does not tell its columns"):
        Stream(datasets.IterableDataset.from_generator(lambda: iter([{"a": 1}])), 4)


def test_shards_that_cannot_be_read_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "bad.tar").write_bytes(b"no archive" * 100)
    for options in ({}, {"streaming": True, "images_per_epoch": 4}):
        with pytest.raises(ValueError, match=r"data='.*bad\.tar': ") as error:
            open_data(tmp_path / "bad.tar", **options)
        assert "\n" not in str(error.value)
