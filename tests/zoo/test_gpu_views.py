"""Views that are made for a whole batch at once, beside what `MultiCrop` makes of the same recipe."""

import pathlib
import sys

import numpy as np
import torch
from tiny_run import pictures

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
from gpu_views import DeviceViews, Pictures

from memssl_keras.data.views import MultiCrop


def on_device(images, groups=None):
    return Pictures(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), groups)


def test_partners_are_of_the_same_group():
    torch.manual_seed(0)
    groups = np.array([0, 1, 0, -1, 1, 0, 2, -1])
    found = on_device(pictures(8), groups)
    index = torch.arange(8).repeat(200)
    partner = found.partner(index, 1.0)
    alone = np.isin(index, [3, 6, 7])
    assert (partner[alone] == index[alone]).all() and (partner[~alone] != index[~alone]).all()
    assert (groups[partner] == groups[index]).all()
    assert set(partner[index == 0].tolist()) == {2, 5}
    share = (found.partner(index, 0.5) != index).float()[~alone].mean()
    assert 0.44 < share < 0.56  # 1,000 draws: four standard deviations


def test_views_have_the_distribution_of_those_of_the_processor():
    torch.manual_seed(0)
    images, recipe = pictures(200), MultiCrop(32, 16, 2)
    ours = DeviceViews(recipe, on_device(images))(torch.arange(200))
    theirs = [recipe(image, np.random.default_rng(i)) for i, image in enumerate(images)]
    for place, view in enumerate(ours):
        other = np.stack([views[place] for views in theirs]).astype("float32")
        view = view.numpy().astype("float32")
        assert view.shape == other.shape
        # Means of pictures spread by about 45 levels: of 200 of each, the means of two samples by 4.5.
        assert abs(view.mean() - other.mean()) < 14
        assert abs(np.log(view.std() / other.std())) < 0.2
