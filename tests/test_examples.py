"""The examples of the documentation, run with small settings; the pictures they make are the page's."""

import pathlib
import runpy
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_run import pictures

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "examples"
MADE = {
    "own_photographs": "own-photographs/neighbours.png",
    "icon_finder": "icon-finder/found.png",
    "defects": "defects/alike.png",
}


def test_each_example_has_a_picture_and_stands_on_the_page():
    page = (FOLDER.parent / "examples.md").read_text(encoding="utf-8")
    assert {path.stem for path in FOLDER.glob("*.py")} == set(MADE)
    for name in MADE:
        assert f"docs/examples/{name}.py" in page and f"(examples/{name}.png)" in page
        assert (FOLDER / f"{name}.png").stat().st_size < 300_000


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PICTURES", "8")
    arguments = []
    if name == "own_photographs":
        (tmp_path / "photos").mkdir()
        for number, picture in enumerate(pictures(70)):
            Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
        arguments = ["photos"]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    said = capsys.readouterr().out
    with Image.open(tmp_path / MADE[name]) as made:
        assert made.width > 300 and np.ptp(np.asarray(made)) > 100
    if name == "icon_finder":
        found = [line.split(" ")[0] for line in said.splitlines() if ":" in line]
        assert found == [f"lucide:{one}" for one in ("house", "camera", "heart", "bell", "trash", "star")]
    if name == "defects":
        assert "massl_resnet14.cifar10: " in said and "pixels, mean-centred: " in said
