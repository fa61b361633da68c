"""Unreadable images: replaced alike whatever the number of workers, listed once, and too many of them an error."""

import csv
import warnings

import datasets
import keras
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import pictures, same_weights, small_crops, small_massl
from tiny_run import RECIPE

from memssl_keras import Stream
from memssl_keras.data.loader import view_loader
from memssl_keras.data.unreadable import TooManyUnreadable, Unreadable, tolerated
from memssl_keras.training.pretrain import pretrain
from memssl_keras.training.report import write_report


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="unreadable images so far")
        yield


def photos(folder, count, broken=()):
    """Paths of images, of which some are cut off, empty, missing or text."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:02}.png" for i in range(count)]
    for i, (path, image) in enumerate(zip(paths, pictures(count), strict=True)):
        Image.fromarray(image).save(path)
        if i in broken:
            whole = path.read_bytes()
            path.write_bytes((whole[:300], b"", b"text")[i % 3])
    return paths


def listed(path):
    with path.open(newline="") as file:
        return [row["name"] for row in csv.DictReader(file)]


def views_of(x, epoch=0, **options):
    loader = view_loader(x, views=small_crops(), batch_size=4, max_unreadable=0.5, **options)
    loader.set_epoch(epoch)
    return [torch.cat([view.flatten(1) for view in views], 1) for (views,) in loader], loader.unreadable


def test_the_share_that_may_be_unreadable():
    assert [tolerated(0.001, n) for n in (1, 2, 9, 999, 5000, 10**6)] == [0, 1, 1, 1, 5, 1000]
    assert [tolerated(0, n) for n in (1, 10**6)] == [0, 0] and tolerated(1, 10) == 9
    for share in (-0.1, 1.1):
        with pytest.raises(
            ValueError, match=rf"max_unreadable={share}: expected a share of the images, 0 … 1"
        ):
            Unreadable(share)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_readable_image_takes_the_place(tmp_path, workers):
    paths = photos(tmp_path / "photos", 12, broken=(3, 4, 11))
    seen, unreadable = views_of(paths, workers=workers, seed=5)
    order = [key[1] for batch in view_loader(paths, batch_size=4, seed=5).batch_sampler for key in batch]
    assert list(unreadable.reasons) != [] and sorted(unreadable.reasons) == [
        str(paths[i]) for i in (3, 4, 11)
    ]
    mended = pictures(12)
    mended[[3, 4, 11]] = mended[[5, 5, 0]]
    expected, nothing = views_of(mended, seed=5)
    assert torch.equal(torch.cat(seen), torch.cat(expected)) and len(nothing) == 0
    assert sorted(order) == list(range(12))


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_stream_the_next_of_the_batch_takes_the_place(workers):
    def rows():
        import io

        for i, image in enumerate(pictures(8)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            yield {"image": {"bytes": b"text" if i in (3, 5) else buffer.getvalue(), "path": f"{i}.png"}}

    features = datasets.Features({"image": datasets.Image(decode=False)})
    # A buffer of one keeps the order.
    stream = Stream(datasets.IterableDataset.from_generator(rows, features), 8, shuffle_buffer=1)
    seen, unreadable = views_of(stream, workers=workers)
    assert list(unreadable.reasons) == ["3.png", "5.png"]
    mended = pictures(8)
    mended[[3, 5]] = mended[[0, 6]]
    from memssl_keras.data.order import image_generator

    for batch, first in zip(seen, (0, 4), strict=True):
        for row in range(4):
            made = small_crops()(mended[first + row], image_generator(0, 0, first + row))
            np.testing.assert_array_equal(batch[row].numpy(), np.concatenate([view.ravel() for view in made]))


def test_a_name_is_listed_once_and_on_going_on_too(tmp_path):
    path = tmp_path / "unreadable.csv"
    unreadable = Unreadable(0.5, 10, path)
    assert unreadable.news() == "" and not path.exists()
    unreadable.note({"b.png": 'cut "off", here'})
    unreadable.note({"a.png": "empty", "b.png": "cut"})
    assert listed(path) == ["b.png", "a.png"]
    assert "so far: 2" in unreadable.news() and unreadable.news() == ""
    again = Unreadable(0.5, 10, path)
    assert again.reasons == unreadable.reasons and again.news() == ""
    again.note({"a.png": "empty"})
    assert listed(path) == ["b.png", "a.png"]


def test_too_many_stop_with_count_share_limit_and_the_first_few(tmp_path):
    paths = photos(tmp_path / "photos", 20, broken=(1, 6, 7, 9, 12))
    words = r"of 20 images cannot be read, 3 where 2 may be \(max_unreadable=0.1, on the command line"
    with pytest.raises(TooManyUnreadable, match=words) as error:
        small_massl().fit(
            paths,
            views=small_crops(),
            batch_size=4,
            epochs=9,
            max_unreadable=0.1,
            unreadable_csv=tmp_path / "list.csv",
            verbose=0,
        )
    assert "15.00% of 20" in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).count(".png: ") == 3 and f"All are listed in {tmp_path / 'list.csv'}" in str(
        error.value
    )
    assert len(listed(tmp_path / "list.csv")) == 3


def test_one_stops_no_small_run_and_zero_allows_none(tmp_path):
    paths = photos(tmp_path / "photos", 8, broken=(2,))
    model = small_massl()
    with pytest.warns(UserWarning, match=r"unreadable images so far: 1, .* New: .*02\.png: not an image"):
        model.fit(paths, views=small_crops(), batch_size=4, epochs=2, verbose=0)
    assert model.step == 4
    with pytest.raises(TooManyUnreadable, match="1 where 0 may be"):
        small_massl().fit(paths, views=small_crops(), batch_size=4, max_unreadable=0, verbose=0)


def test_a_batch_of_nothing_stops_whatever_is_allowed(tmp_path):
    paths = photos(tmp_path / "photos", 4, broken=range(4))
    with pytest.raises(TooManyUnreadable, match="4 where 3 may be"):
        small_massl().fit(paths, views=small_crops(), batch_size=4, max_unreadable=1, verbose=0)
    with pytest.raises(TooManyUnreadable, match="cannot be read: 1, and none that could take their place"):
        small_massl().fit(paths[:1] * 4, views=small_crops(), batch_size=4, verbose=0)


def test_a_few_broken_files_of_a_small_folder_stop_no_run(tmp_path):
    """Of 32 pictures five, which is more than a twentieth."""
    from memssl_keras.training.choose import choose_recipe
    from memssl_keras.training.pretrain import pretrain

    paths = photos(tmp_path / "photos", 32, broken=(1, 2, 3, 4, 5))
    recipe, _ = choose_recipe(paths, epochs=1, views=small_crops(), hidden_dim=16, output_dim=8)
    with pytest.warns(UserWarning, match="unreadable images so far"):
        pretrain(recipe, paths, tmp_path / "run", say=lambda line: None)
    assert len(listed(tmp_path / "run" / "unreadable.csv")) == 5


def test_of_a_long_stream_the_share_is_of_what_was_seen():
    unreadable = Unreadable(0.001, 10_000)
    unreadable.note({f"{i}.png": "empty" for i in range(10)})
    unreadable.images = 20_000
    unreadable.note({f"{i}.png": "empty" for i in range(20)})
    with pytest.raises(TooManyUnreadable, match="21 where 20 may be"):
        unreadable.note({"20.png": "empty"})


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_ends_with_the_same_bits_and_list(tmp_path, workers):
    class Crash(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == 6:
                raise KeyboardInterrupt

    paths = photos(tmp_path / "photos", 24, broken=(5, 13, 14))
    options = {"max_unreadable": 0.2, "say": lambda line: None}
    alone = pretrain(RECIPE, paths, tmp_path / "alone", checkpoint_every=3, **options)
    with pytest.raises(KeyboardInterrupt):
        pretrain(RECIPE, paths, tmp_path / "broken", checkpoint_every=5, callbacks=[Crash()], **options)
    resumed = pretrain(RECIPE, paths, tmp_path / "broken", workers=workers, **options)
    assert same_weights(alone, resumed)
    names = listed(tmp_path / "alone" / "unreadable.csv")
    assert sorted(names) == [str(paths[i]) for i in (5, 13, 14)]
    assert names == listed(tmp_path / "broken" / "unreadable.csv")
    metrics = [(tmp_path / run / "metrics.csv").read_bytes() for run in ("alone", "broken")]
    assert metrics[0] == metrics[1]
    write_report(tmp_path / "alone")
    report = (tmp_path / "alone" / "report.md").read_text()
    assert "Replaced by others: 3 unreadable images; see `unreadable.csv`." in report


def test_a_run_from_the_start_forgets_the_list_of_another(tmp_path):
    (tmp_path / "unreadable.csv").write_text("name,reason\nold.png,empty\n")
    pretrain(RECIPE, pictures(24), tmp_path, say=lambda line: None)
    assert not (tmp_path / "unreadable.csv").exists()
