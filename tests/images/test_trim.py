"""The margin around a drawing, cut away before all else."""

import io

import numpy as np
import pytest
from PIL import Image

from memssl_keras.export.raw_pixels import preprocessing_graph
from memssl_keras.images import Preprocessing
from memssl_keras.images.trim import trimmed

SETTINGS = {"image_size": 32, "resize_size": 32}


def drawing(side=24, ink=(0, 0, 0), ground=(255, 255, 255)):
    """An L whose bounds are `side` × `side`."""
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:] = ground
    pixels[:, : side // 4] = pixels[-side // 4 :] = ink
    return pixels


def placed(picture, top, left, canvas, ground=(255, 255, 255)):
    whole = np.empty((*canvas, 3), np.uint8)
    whole[:] = ground
    whole[top : top + len(picture), left : left + len(picture)] = picture
    return whole


@pytest.mark.parametrize("place", [(0, 0, (40, 40)), (10, 3, (60, 48)), (1, 90, (30, 200))])
def test_place_and_canvas_do_not_matter(place):
    alone = Preprocessing(**SETTINGS, trim=0.1)(placed(drawing(), 5, 5, (34, 34)))
    np.testing.assert_array_equal(Preprocessing(**SETTINGS, trim=0.1)(placed(drawing(), *place)), alone)
    whole = Preprocessing(**SETTINGS)(placed(drawing(), *place))
    assert np.abs(whole - alone).max() > 1  # it is the trimming that does it


@pytest.mark.parametrize(
    "colours", [((255, 255, 255), (0, 0, 0)), ((220, 38, 38), (254, 243, 199)), ((90, 90, 90),) * 2]
)
def test_any_ground(colours):
    ink, ground = colours
    picture = Image.fromarray(placed(drawing(20, ink, ground), 7, 11, (50, 70), ground))
    square = trimmed(picture, 0.1)
    if ink == ground:  # nothing is drawn: the picture as it is
        assert square is picture
        return
    assert square.size == (24, 24) and square.getpixel((0, 0)) == ground
    np.testing.assert_array_equal(np.asarray(square)[2:22, 2:22], drawing(20, ink, ground))


def test_traces_of_jpeg_are_ground():
    out = io.BytesIO()
    Image.fromarray(placed(drawing(32), 24, 40, (96, 96))).save(out, "JPEG", quality=60)
    with Image.open(io.BytesIO(out.getvalue())) as picture:
        assert abs(trimmed(picture.convert("RGB"), 0).size[0] - 32) <= 2


def test_a_wide_drawing_stands_in_the_middle():
    bar = np.full((50, 50, 3), 255, np.uint8)
    bar[4:8, 5:45] = 0
    square = np.asarray(trimmed(Image.fromarray(bar), 0))
    assert square.shape == (40, 40, 3)
    assert (square[18:22] == 0).all() and (square[:18] == 255).all() and (square[22:] == 255).all()


def test_settings_come_back_and_stand_only_where_they_are_set():
    settings = Preprocessing(**SETTINGS, trim=0.08)
    assert settings.to_dict()["trim"] == 0.08 and Preprocessing.from_dict(settings.to_dict()) == settings
    assert "trim" not in Preprocessing().to_dict()


@pytest.mark.parametrize("value", [True, -0.1, 1.5, "0.1", float("nan")])
def test_refusals(value):
    with pytest.raises(ValueError, match="trim: got"):
        Preprocessing(**SETTINGS, trim=value)


def test_a_graph_of_raw_pixels_is_refused():
    with pytest.raises(ValueError, match=r"trim=0\.08: cutting margins away cannot be put into the graph"):
        preprocessing_graph(Preprocessing(**SETTINGS, trim=0.08))
