"""Pictures that are kept from training."""

import numpy as np
import pytest
from PIL import Image
from small_models import pictures

from memssl_keras.data.held_out import held_out_count, hold_out
from memssl_keras.data.loader import view_loader
from memssl_keras.data.sources import open_source


def test_no_picture_is_lost_or_on_both_sides():
    kept, held = hold_out(list(range(100)), 30)
    assert sorted([*kept, *held]) == list(range(100)) and len(held) == 30 and kept.held_out == 30
    assert list(kept) == sorted(kept)
    again, other = hold_out(list(range(100)), 30), hold_out(list(range(100)), 30, seed=1)
    assert list(again[1]) == list(held) != list(other[1])


@pytest.mark.parametrize("count, held", [(999, 0), (1000, 100), (2500, 250), (3000, 300), (10**6, 300)])
def test_how_many_are_held_out(count, held):
    assert held_out_count(count) == held


@pytest.mark.parametrize("count", [0, 4, 5])
def test_a_count_that_leaves_nothing_is_refused(count):
    with pytest.raises(ValueError, match=f"held_out={count}: expected 1 … 3"):
        hold_out(list(range(4)), count)


def test_names_and_training_are_those_of_the_pictures(tmp_path):
    for number, picture in enumerate(pictures(8)):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    source = open_source(tmp_path)
    kept, held = hold_out(source, 2)
    assert {kept.name(i) for i in range(6)} | {held.name(i) for i in range(2)} == set(source.ids)
    from small_models import small_crops

    batches = list(view_loader(kept, views=small_crops(), batch_size=3))
    assert len(batches) == 2 and batches[0][0][0].shape == (3, 32, 32, 3)


def test_columns_are_those_of_the_rows():
    import pyarrow as pa

    class Source:
        columns = {"name": pa.chunked_array([["a", "b"], ["c", "d"]])}

        def __len__(self):
            return 4

    kept, held = hold_out(Source(), 1)
    assert sorted(kept.columns["name"].to_pylist() + held.columns["name"].to_pylist()) == ["a", "b", "c", "d"]
    assert np.array_equal(kept.columns["name"].to_pylist(), np.array(list("abcd"))[kept.rows])
