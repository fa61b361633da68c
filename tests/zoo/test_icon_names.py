"""Names of icons, normalised alike for all sets."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "zoo" / "experiments"))
from icon_names import Styles, normalised
from icon_sets import BENCHMARK, HELD_OUT, LICENCES, drawings, is_held_out, read_set, svg

PHOSPHOR = Styles.of(
    {"suffixes": {"thin": "Thin", "light": "Light", "": "Regular", "bold": "Bold", "fill": "Fill"}}
)
SOLAR = Styles.of({"suffixes": {"bold": "Bold", "line-duotone": "", "bold-duotone": "", "linear": ""}})
MATERIAL = Styles.of({"prefixes": {"baseline": "Baseline", "round": "Round", "sharp": "Sharp"}})
REMIX = Styles.of({"suffixes": {"line": "Line", "fill": "Fill"}})


@pytest.mark.parametrize(
    ("name", "styles", "expected"),
    [
        ("house", Styles(), "house"),
        ("house-bold", PHOSPHOR, "house"),
        ("map-point-wave-bold-duotone", SOLAR, "map-point-wave"),
        ("home-line-duotone", SOLAR, "home"),
        ("baseline-bathtub", MATERIAL, "bathtub"),
        ("round-width-full", MATERIAL, "full-width"),
        ("mail-check-line", REMIX, "check-mail"),
        ("chart-line", Styles(), "chart-line"),
        ("light-bulb", Styles(), "bulb-light"),
        ("circle-check", Styles(), "check-circle"),
        ("check-circle-outline", Styles(), "check-circle"),
        ("keyboard-dock-24-filled", Styles(), "dock-keyboard"),
        ("phone-arrow-down-left-20-solid", Styles(), "arrow-down-left-phone"),
        ("bell-check-sharp-two-tone", Styles.of({"suffixes": {"sharp-two-tone": ""}}), "bell-check"),
        ("brand-github", Styles(), "github"),
        ("github-logo", Styles(), "github"),
        ("logo-github", Styles(), "github"),
        ("folder-2", Styles(), "folder"),
        ("flag-03", Styles(), "flag"),
        ("download-three", Styles(), "download"),
        ("h-1", Styles(), "1-h"),
        ("24-hours-fill", REMIX, "24-hours"),
        ("Account_Box.svg", Styles(), "account-box-svg"),
        ("outline", Styles(), "outline"),
        ("fill", REMIX, "fill"),
        ("2", Styles(), "2"),
    ],
)
def test_names(name, styles, expected):
    assert normalised(name, styles) == expected


def test_no_name_becomes_empty():
    words = ("outline", "fill", "2", "24", "brand", "icon", "alt", "round", "bold", "two", "tone")
    for first in words:
        for second in words:
            assert normalised(f"{first}-{second}", MATERIAL), (first, second)


def test_normalising_twice_changes_nothing_that_is_sorted():
    for name in ("circle-check-24-filled", "brand-github-2", "arrow-up-right-bold"):
        once = normalised(name)
        assert normalised(once) == once


def test_held_out_families():
    assert all(
        is_held_out(prefix)
        for prefix in ("lucide-lab", "feather", "ph", "fa", "fa6-brands", "heroicons-solid")
    )
    assert not any(
        is_held_out(prefix) for prefix in ("fad", "fe", "mdi", "phosphor-like", "bitcoin-icons", "ri-like")
    )
    assert [next(f for f, sets in HELD_OUT.items() if p in sets) for p in BENCHMARK] == list(HELD_OUT)
    assert "CC-BY-SA-4.0" not in LICENCES and "GPL-2.0-only" not in LICENCES


SET = {
    "width": 24,
    "icons": {"up": {"body": "<path d='M0 0h8v9z'/>"}, "old": {"body": "<path/>", "hidden": True}},
    "aliases": {
        "down": {"parent": "up", "vFlip": True},
        "up-again": {"parent": "down", "vFlip": True, "rotate": 1},
        "lost": {"parent": "nothing"},
        "snake": {"parent": "tail"},
        "tail": {"parent": "snake"},
    },
}


def test_aliases_are_followed_with_their_turns():
    found = dict(drawings(SET))
    assert set(found) == {"up", "down", "up-again", "lost", "snake", "tail"}  # without the withdrawn one
    assert found["up"]["width"] == 24
    assert (found["down"]["vFlip"], found["down"]["hFlip"], found["down"]["rotate"]) == (True, False, 0)
    assert (found["up-again"]["vFlip"], found["up-again"]["rotate"]) == (False, 1)
    assert found["lost"] is None and found["snake"] is None


def test_a_drawing_as_svg():
    text = svg({"body": "<path/>", "width": 20, "left": -2}, 64)
    assert 'viewBox="-2 0 20 16"' in text and 'width="64"' in text and "<path/>" in text


def test_a_missing_or_damaged_set_is_named(tmp_path):
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"set 'gone': the package holds no gone\.json"):
        read_set(tmp_path, "gone")
    with pytest.raises(ValueError, match=r"set 'bad': bad\.json is not readable"):
        read_set(tmp_path, "bad")
