"""What images are called in lists of unreadable ones, whatever holds them."""

import os

import numpy as np

from memssl_keras.data.held_out import Rows
from memssl_keras.data.names import name_of
from memssl_keras.data.pairs import Paired
from memssl_keras.data.view_sets import ViewsOfImages
from memssl_keras.data.views import MultiCrop

ODD = os.fsdecode(b"caf\xe9.png")


def test_paths_are_printable_through_every_wrapper():
    paths = ["a.png", ODD, "c.png"]
    assert name_of(paths, 1) == r"caf\xe9.png"
    assert Rows(paths, [2, 1]).name(1) == r"caf\xe9.png"
    assert Paired(paths, [0, 0, 1]).name(1) == r"caf\xe9.png"
    assert ViewsOfImages(Rows(paths, [1]), MultiCrop(16, 8, 0), 0, 1).name(0) == r"caf\xe9.png"


def test_what_has_no_name_has_its_place():
    assert name_of(np.zeros((2, 4, 4, 3), "uint8"), 1) == "image 1"
