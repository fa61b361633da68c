"""Views for drawings: their operations, their distributions, and that nothing changes where they are off."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from memssl_keras import MultiCrop
from memssl_keras.data import drawings

STILL = MultiCrop(
    48, 24, 0, global_scale=(1, 1), flip=0, jitter=0, grey=0, blur=(0, 0, 0), solarize=0
)  # whole pictures, cut at their own aspect
DRAWS = 400


def icon(side=64):
    """A black ring with a bar, off centre, on white."""
    y, x = np.mgrid[:side, :side] / side
    ring = np.abs(np.hypot(x - 0.4, y - 0.5) - 0.25) < 0.05
    bar = (np.abs(y - 0.5) < 0.04) & (x > 0.4) & (x < 0.9)
    return np.repeat(np.where(ring | bar, 0, 255).astype("uint8")[..., None], 3, 2)


def views(draws=DRAWS, image=None, seed=0, **options):
    """Global view 1 of many draws."""
    crop, rng = dataclasses.replace(STILL, **options), np.random.default_rng(seed)
    return [crop(icon(48) if image is None else image, rng)[0] for _ in range(draws)]


def share_near(count, draws, probability):
    """Whether a count may be that of independent draws, at one in a million."""
    return binomtest(count, draws, probability).pvalue > 1e-6


class Counting:
    """A generator that counts its draws."""

    def __init__(self):
        self.rng, self.count = np.random.default_rng(0), 0

    def random(self, *size):
        self.count += 1
        return self.rng.random(*size)


def test_what_is_off_takes_no_draw():
    rng, default = (
        Counting(),
        dataclasses.replace(STILL, local_views=1, global_scale=(0.5, 0.5), local_scale=(0.5, 0.5)),
    )
    default(icon(), rng)
    # Of three views: area, aspect and place, flip, jitter, grey and blur; solarize of one.
    assert rng.count == 3 * 8 + 1


@pytest.mark.slow
@pytest.mark.parametrize("option", ["recolour", "invert", "stroke", "pad", "small", "jpeg"])
@pytest.mark.parametrize("probability", [0.3, 1.0])
def test_how_often_an_option_is_drawn(option, probability):
    """With these ranges every option changes the picture when it is drawn."""
    ranges = {"pad_share": (0.3, 0.6), "small_share": (0.3, 0.5), "jpeg_quality": (20, 50)}
    plain = views(1)[0]
    changed = sum(not np.array_equal(view, plain) for view in views(**{option: probability}, **ranges))
    assert share_near(changed, DRAWS, probability) if probability < 1 else changed == DRAWS


def test_recolouring_is_linear_between_two_colours_that_can_be_told_apart():
    ramp = np.repeat(np.tile(np.arange(256, dtype="uint8"), (8, 1))[..., None], 3, 2)
    rng, luma = np.random.default_rng(0), np.array([0.299, 0.587, 0.114])
    ends = []
    for _ in range(DRAWS):
        line = drawings.recolour(ramp, rng)[0].astype(float)
        expected = line[0] + (line[-1] - line[0]) * np.arange(256)[:, None] / 255
        assert np.abs(line - expected).max() <= 1
        assert abs((line[0] - line[-1]) @ luma) >= 62  # 64 before rounding
        ends.append((line[0], line[-1]))
    ends = np.array(ends)
    lighter = int(((ends[:, 0] - ends[:, 1]) @ luma > 0).sum())
    assert share_near(lighter, DRAWS, 0.5)  # black becomes the lighter one as often as the darker one
    assert ends.min() < 10 and ends.max() > 245 and (np.abs(ends.mean((0, 1)) - 127.5) < 12).all()


def test_pictures_in_colour_are_not_recoloured():
    colourful = icon()
    colourful[:8, :8] = (255, 0, 0)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(views(5, colourful, recolour=1.0), views(5, colourful), strict=True)
    )


def test_inversion():
    assert np.array_equal(views(1, invert=1.0)[0], 255 - views(1)[0])


def test_padding_keeps_the_picture_and_is_uniform_in_share_and_place():
    rng, image = np.random.default_rng(0), np.zeros((100, 100, 3), "uint8")
    image[:, :, 1], image[20:80, 20:80] = 200, 255
    shares, places = [], []
    for _ in range(DRAWS):
        padded = drawings.pad(image, rng, (0.2, 0.6))
        assert (padded[0, 0] == (0, 200, 0)).all()  # the background's colour
        ys, xs = np.nonzero((padded == 255).all(-1))
        top, left = ys.min() - 20, xs.min() - 20
        assert np.array_equal(padded[top : top + 100, left : left + 100], image)
        shares.append(padded.shape[0] / 100 - 1)
        places += [top / (padded.shape[0] - 100), left / (padded.shape[1] - 100)]
    assert kstest((np.array(shares) - 0.2) / 0.4, "uniform").pvalue > 1e-4
    assert 0.45 < np.mean(places) < 0.55 and min(places) == 0 and max(places) == 1


def test_turns_are_uniform_in_their_range():
    line = np.full((101, 101, 3), 255, "uint8")
    line[:, 49:52] = 0
    rng, angles = np.random.default_rng(0), []
    for _ in range(DRAWS):
        dark = 255.0 - drawings.rotate(line, rng, 20)[..., 0]
        columns = np.arange(101)
        upper, lower = ((dark[row] * columns).sum() / dark[row].sum() for row in (20, 80))
        angles.append(np.degrees(np.arctan((upper - lower) / 60)))
    assert kstest((np.array(angles) + 20) / 40, "uniform").pvalue > 1e-4


def test_strokes_become_thicker_or_thinner_alike_often():
    ink = (255.0 - icon()).sum()
    rng = np.random.default_rng(0)
    amounts = np.array([(255.0 - drawings.stroke(icon(), rng)).sum() for _ in range(DRAWS)])
    assert (amounts != ink).all() and share_near(int((amounts > ink).sum()), DRAWS, 0.5)
    assert 0.2 * ink < amounts.min() and amounts.max() < 2 * ink  # lines stay lines


def test_small_drawings_lose_detail_but_not_their_mean():
    rng, noise = np.random.default_rng(0), np.random.default_rng(1).integers(0, 256, (48, 48, 3), "uint8")
    for _ in range(50):
        reduced = drawings.small(noise, rng, (0.3, 0.5))
        assert reduced.shape == noise.shape and reduced.std() < 0.75 * noise.std()
        assert abs(reduced.mean() - noise.mean()) < 4


def test_jpeg_is_worse_at_lower_quality():
    noise = np.random.default_rng(1).integers(0, 256, (48, 48, 3), "uint8")
    apart = [
        np.abs(drawings.jpeg(noise, np.random.default_rng(0), (q, q)).astype(float) - noise).mean()
        for q in (10, 50, 95)
    ]
    assert apart[0] > apart[1] > apart[2] > 0


def test_views_after_the_first_are_cut_from_the_other_picture():
    black, white = np.zeros((32, 32, 3), "uint8"), np.full((32, 32, 3), 255, "uint8")
    first, second, local = dataclasses.replace(STILL, local_views=1)(black, np.random.default_rng(0), white)
    assert first.max() == 0 and second.min() == 255 and local.min() == 255


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rotate", 181, "rotate=181: expected degrees in 0 … 180"),
        ("pad", 1.5, "pad: 1.5 is not a probability"),
        ("recolour", -0.1, "recolour: -0.1 is not a probability"),
        ("small_share", (0, 0), "small_share"),
        ("jpeg_quality", (50, 40), "jpeg_quality"),
        ("pad_share", (-1, 0.5), "pad_share"),
    ],
)
def test_refusals(field, value, words):
    with pytest.raises(ValueError, match=words):
        MultiCrop(**{field: value})
