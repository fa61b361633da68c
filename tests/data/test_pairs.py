"""Images that may be views of each other: who is paired with whom, how often, and that it can be repeated."""

import collections

import numpy as np
import pytest

from memssl_keras import MultiCrop
from memssl_keras.data.loader import view_loader
from memssl_keras.data.pairs import Paired

PLAIN = MultiCrop(
    8, 4, 1, global_scale=(1, 1), local_scale=(1, 1), flip=0, jitter=0, grey=0, blur=(0, 0, 0), solarize=0
)


def images(count):
    """Pictures of one colour each, whose number can be read from their views."""
    return [np.full((8, 8, 3), number, "uint8") for number in range(count)]


def batches(paired, epoch=0, **options):
    loader = view_loader(paired, views=PLAIN, **options)
    loader.set_epoch(epoch)
    return [[view[:, 0, 0, 0].tolist() for view in views] for (views,) in loader]


def test_partners_are_of_the_group_and_never_the_image_itself():
    groups = np.random.default_rng(0).integers(0, 20, 200)
    paired, rng = Paired(images(200), groups, 1.0), np.random.default_rng(1)
    for index in range(200):
        partner = paired.partner(index, rng)
        assert partner != index and groups[partner] == groups[index]


def test_every_other_member_is_drawn_equally_often():
    paired, rng = Paired(images(6), ["a", "b", "a", "a", "b", "a"], 1.0), np.random.default_rng(0)
    drawn = collections.Counter(paired.partner(2, rng) for _ in range(3000))
    assert set(drawn) == {0, 3, 5}
    assert all(abs(count - 1000) < 5 * 26 for count in drawn.values())  # five standard deviations


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_how_often_a_partner_is_taken(probability):
    paired, rng = Paired(images(4), [1, 1, 1, 1], probability), np.random.default_rng(0)
    taken = sum(paired.partner(0, rng) is not None for _ in range(2000))
    assert abs(taken - 2000 * probability) < 5 * np.sqrt(2000 * 0.25)
    assert probability not in (0, 1) or taken == 2000 * probability


def test_no_group_is_no_partner():
    paired = Paired(images(5), ["", None, "", None, "alone"], 1.0)
    assert [paired.partner(i, np.random.default_rng(0)) for i in range(5)] == [None] * 5


def test_views_after_the_first_are_of_the_partner():
    paired = Paired(images(16), [i // 2 for i in range(16)], 1.0)
    for first, second, local in batches(paired, batch_size=4):
        assert second == local == [number ^ 1 for number in first]


def test_without_partners_views_are_those_without_pairs():
    views = MultiCrop(8, 4, 1)
    noise = np.random.default_rng(0).integers(0, 255, (8, 12, 12, 3), "uint8")
    alone, plain = (
        [view.numpy() for (batch,) in view_loader(x, views=views, batch_size=4, seed=3) for view in batch]
        for x in (Paired(list(noise), range(8), 1.0), noise)
    )
    assert all((a == b).all() for a, b in zip(alone, plain, strict=True))


def test_pairs_do_not_depend_on_workers_and_differ_between_epochs():
    paired = Paired(images(32), [i // 8 for i in range(32)], 0.7)
    first = batches(paired, batch_size=8, seed=5)
    assert first == batches(paired, batch_size=8, seed=5, workers=2)
    assert first != batches(paired, epoch=1, batch_size=8, seed=5)


def test_an_unreadable_partner_is_listed_and_the_image_takes_its_place(tmp_path):
    pictures = [*images(3), b"no image"]
    paired = Paired(pictures, ["a", "b", "c", "c"], 1.0)
    loader = view_loader(
        paired, views=PLAIN, batch_size=3, max_unreadable=0.9, unreadable_csv=tmp_path / "u.csv"
    )
    seen = {
        int(a): int(b)
        for (views,) in loader
        for a, b in zip(*(v[:, 0, 0, 0] for v in views[:2]), strict=True)
    }
    assert seen.get(2, 2) == 2 and all(first == second for first, second in seen.items())
    assert "image 3" in (tmp_path / "u.csv").read_text()


def test_refusals():
    with pytest.raises(ValueError, match="got 2 for 3 images"):
        Paired(images(3), ["a", "b"])
    with pytest.raises(ValueError, match="probability=1.5"):
        Paired(images(2), ["a", "b"], 1.5)


def test_the_record_of_a_run_tells_other_groups():
    groups = ["a", "a", "b"]
    settings = Paired(images(3), groups, 0.5).settings
    assert settings == Paired(images(3), list(groups), 0.5).settings
    assert settings != Paired(images(3), ["a", "b", "b"], 0.5).settings
