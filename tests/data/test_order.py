"""What each of several processes gets: together the batches of a single one."""

import datasets
import pytest
import torch
from small_models import pictures, small_crops

from memssl_keras.data.loader import view_loader


def as_dataset(images):
    features = datasets.Features({"image": datasets.Image()})
    return datasets.Dataset.from_dict({"image": list(images)}, features)


def batches(x, epoch=1, start=0, **options):
    loader = view_loader(x, views=small_crops(), batch_size=6, seed=2, **options)
    loader.set_epoch(epoch, start)
    return [[view.clone() for view in views] for (views,) in loader]


FORMS = {
    "array": lambda: pictures(20),
    "dataset": lambda: as_dataset(pictures(20)),
    "ready views": lambda: [pictures(20), pictures(20, seed=1)],
}


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("form", list(FORMS))
def test_the_parts_of_all_ranks_are_the_batches_of_one_process(form, world_size):
    x = FORMS[form]()
    alone = batches(x)
    parts = [batches(x, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert len(alone) == 3 and all(len(part) == 3 for part in parts)
    for step, views in enumerate(alone):
        for view, whole in enumerate(views):
            assert torch.equal(whole, torch.cat([part[step][view] for part in parts]))


def test_a_part_starts_within_an_epoch_too():
    whole, rest = (batches(pictures(20), rank=1, world_size=2, start=start) for start in (0, 2))
    assert len(rest) == 1 and all(torch.equal(a, b) for a, b in zip(whole[2], rest[0], strict=True))


def test_workers_change_no_part():
    one, two = (batches(pictures(20), rank=1, world_size=2, workers=workers) for workers in (0, 2))
    assert all(torch.equal(a, b) for x, y in zip(one, two, strict=True) for a, b in zip(x, y, strict=True))


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="batch_size=6 is not a multiple of world_size=4"):
        view_loader(pictures(20), batch_size=6, world_size=4)


def test_each_rank_lists_its_unreadable_images_in_a_file_of_its_own(tmp_path):
    options = {"batch_size": 6, "world_size": 2, "unreadable_csv": tmp_path / "unreadable.csv"}
    names = [view_loader(pictures(20), rank=rank, **options).unreadable.path.name for rank in (0, 1)]
    assert names == ["unreadable.csv", "unreadable-1.csv"]
