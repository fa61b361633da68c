"""What icons are trained on and measured on: who is chosen, what is refused, and how a screenshot looks."""

import io
import pathlib
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
import icons_train
from icons import licence_rows, png_of, sample, write
from icons_benchmark import LABELLED, classes, plain
from icons_screen import GROUNDS, INKS, colours, contrast, on_screen


def icon(*box, side=64):
    pixels = np.full((side, side), 255, np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 0
    return pixels


def row(prefix, name, group=None, pixels=None):
    png = png_of(icon(10, 20, 50, 30) if pixels is None else pixels)
    return {
        "image": {"bytes": png, "path": None},
        "set": prefix,
        "name": name,
        "group": name if group is None else group,
    }


def test_what_looks_like_a_held_out_icon_is_found_at_any_size_and_place():
    cross = icon(28, 4, 36, 60)
    cross[28:36, 4:60] = 0
    ring = icon(10, 10, 50, 50)
    ring[20:40, 20:40] = 255
    half = np.full((64, 64), 255, np.uint8)
    half[30:58, 3:31] = cross[4:60:2, 4:60:2]
    held_out = np.stack([icons_train.outline(cross)])
    others = np.stack(
        [icons_train.outline(picture) for picture in (half, ring, np.full((64, 64), 255, np.uint8))]
    )
    alike = icons_train.nearest(others, held_out)
    assert alike[0] > icons_train.ALIKE and alike[1] < 0.5 and alike[2] == 0  # blank ones are like nothing


def test_emoji_are_refused_unless_their_codepoint_is_known_and_not_held_out():
    from glyphs import held_out

    codes = {"one": "1f600", "two": "1f680", "flag-france": "1f1eb-1f1f7"} | {
        f"n{i}": f"{0x1F400 + i:x}" for i in range(40)
    }
    reasons = {name: icons_train.refused({"set": "noto", "name": name}, codes) for name in codes}
    assert all((reason == "held-out emoji") == held_out(codes[name]) for name, reason in reasons.items())
    assert {"held-out emoji", None} == set(reasons.values()) and reasons["flag-france"] is None
    assert icons_train.refused({"set": "twemoji", "name": "strange"}, codes) == "unknown emoji"
    assert icons_train.refused({"set": "mdi", "name": "strange"}, codes) is None


def test_rows_whose_name_one_set_draws_go_first():
    rows = [row(prefix, f"both{i}") for i in range(5) for prefix in ("a", "b")]
    rows += [row("a", f"alone{i}") for i in range(10)] + [row("quickdraw", "", "") for _ in range(3)]
    kept = icons_train.sized(rows, 13)
    assert sum(r["name"].startswith("both") for r in kept) == 10 and len(kept) == 13
    assert kept == [r for r in rows if r in kept]  # in their order
    assert len(icons_train.sized(rows, None)) == len(rows)


def test_marks_are_thinned_by_set():
    rows = [row("brands", f"m{i}") for i in range(10)] + [row("ui", f"u{i}") for i in range(10)]
    kept = icons_train.thinned(rows, {"brands": "Logos", "ui": "UI 24px"}, 3)
    assert [sum(r["set"] == prefix for r in kept) for prefix in ("brands", "ui")] == [3, 10]
    assert kept == icons_train.thinned(rows, {"brands": "Logos", "ui": "UI 24px"}, 3)


def test_a_sample_of_variants_and_names():
    groups = {f"{name}-{style}": name for name in "abcdef" for style in ("x", "y", "z")}
    assert sample(groups, "set") == list(groups)
    few = sample(groups, "set", variants=2, names=3)
    assert len(few) == 6 and len({groups[name] for name in few}) == 3
    assert few != sample(groups, "other", variants=2, names=3)


def test_licences_are_refused_in_one_line():
    info = {"name": "Title", "author": {"name": "Somebody"}}
    spdx = {"good": "MIT", "bad": "GPL-3.0-or-later", "lucide": "ISC", "openmoji": "CC-BY-SA-4.0"}
    rows = licence_rows({prefix: info | {"license": {"spdx": licence}} for prefix, licence in spdx.items()})
    assert {r[0]: r[4] for r in rows} == {
        "good": "drawn", "bad": "refused: licence", "lucide": "held out", "openmoji": "held out",
    }  # fmt: skip


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(table, path):
        pathlib.Path(path).write_bytes(b"PAR1")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write([row("a", "b") | {"licence": "MIT"}], tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_the_plain_drawing_and_the_classes():
    rows = [
        row("ph", "house-bold", "house"),
        row("ph", "house", "house"),
        row("ph", "a", "a"),
        row("ph", "b", "b"),
    ]
    assert [r["name"] for r in plain(rows)] == ["a", "b", "house"]
    drawn = [row(prefix, "house") for prefix in (*LABELLED, "carbon")] + [
        row(prefix, "tree") for prefix in LABELLED
    ]
    labelled, tested = classes(drawn)
    assert {r["label"] for r in labelled} == {"house"} and len(labelled) == 5
    assert [r["set"] for r in tested] == ["carbon"]


@pytest.mark.parametrize("size", [16, 24, 48])
def test_a_screenshot(size):
    """The icon's size, a margin of a quarter to a half on each side all told, two colours that can be told apart."""
    png, rng, seen = png_of(icon(0, 0, 64, 64)[:, ::-1]), np.random.default_rng(0), set()
    for _ in range(60):
        shown = np.asarray(Image.open(io.BytesIO(on_screen(png, size, rng, quality=95)))).astype(int)
        side = shown.shape[0]
        assert shown.shape == (side, side, 3) and size + 2 * (size // 4) <= side <= 2 * size
        ground = min(
            GROUNDS, key=lambda c: min(np.abs(shown[y, x] - c).sum() for y in (0, -1) for x in (0, -1))
        )
        inked = np.abs(shown - ground).max(-1) > 60
        assert abs(inked.sum() - size**2) < 0.35 * size**2
        seen.add(side)
    assert len(seen) > 2


def test_colours_on_a_screen_can_be_told_apart():
    rng = np.random.default_rng(0)
    drawn = {colours(rng) for _ in range(500)}
    assert all(contrast(ink, ground) >= 60 for ink, ground in drawn)
    assert {ink for ink, _ in drawn} == set(INKS) and {ground for _, ground in drawn} == set(GROUNDS)
