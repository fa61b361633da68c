"""`memssl evaluate` over several data sets: one table, its files, and what it refuses."""

import json
import re

import pytest
from labelled_images import coloured, write
from PIL import Image
from typer.testing import CliRunner

from memssl_keras.cli import app

pytestmark = pytest.mark.slow

MODEL = "labelled_images:mean_colour"
NOTO = ("--group", "codepoint", "--by", "vendor", "--query", "Noto", "--gallery", "Twemoji")


def run(*arguments, code=0):
    result = CliRunner().invoke(app, ["evaluate", MODEL, *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEMSSL_CACHE", str(tmp_path / "kept"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def sets(tmp_path):
    """Two labelled sets, one of them not split, and one of instances without labels."""
    for split, count in (("train", 24), ("test", 12)):
        (tmp_path / "split").mkdir(exist_ok=True)
        labels = [i % 4 for i in range(count)]
        write(tmp_path / "split" / f"{split}-0.parquet", coloured(labels, count), label=labels)
    write(tmp_path / "whole.parquet", coloured([0, 1] * 10, 3), label=[0, 1] * 10)
    shows = [0, 1, 2] * 2
    vendors = ["Noto"] * 3 + ["Twemoji"] * 3
    write(tmp_path / "things.parquet", coloured(shows, 4), codepoint=list(map(str, shows)), vendor=vendors)
    return [tmp_path / name for name in ("split", "whole.parquet", "things.parquet")]


def test_one_table_of_several_data_sets(sets, tmp_path):
    data = [argument for path in sets for argument in ("--data", path)]
    said = run(
        *data, *NOTO, "--tasks", "knn,retrieval", "--k", 3, "--test-share", 0.3, "--out", tmp_path / "out"
    )
    assert "14 train and 6 test images (30% of each class, split with seed 0)" in said
    assert "note: column 'label' is missing: no knn" in said
    together = said[said.index("All together") :]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    rows = [(entry["data"], entry["task"]) for entry in found["results"]]
    assert rows == [
        ("split", "knn"),
        ("split", "retrieval"),
        ("whole.parquet", "knn"),
        ("whole.parquet", "retrieval"),
        ("things.parquet", "retrieval (Noto in Twemoji)"),
    ]
    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert (
        lines[0] == "| data | task | score | raw pixels, 16 px | mean-centred pixels, 16 px | the encoder |"
    )
    scores = found["results"][2]["scores"]["the encoder"]
    (line,) = [line for line in lines if line.startswith("| whole.parquet | knn | k = 3 |")]
    assert f"**{scores['k = 3']:.1%}**" in line.split(" | ")[-1]
    page = (tmp_path / "out" / "report.html").read_text()
    first = page[page.index("All together") : page.index("</table>")]
    for _, task in rows:
        assert task in together and task in first
    assert len(re.findall("<tr>", first)) == len(lines) - 1  # the head and a line per score


def test_scales_and_distractors_are_told(sets, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(coloured([3])[0]).save(tmp_path / "more" / "a.png")
    options = [
        *NOTO,
        "--tasks",
        "retrieval",
        "--no-baselines",
        "--scales",
        "1,0.5",
        "--distractors",
        tmp_path / "more",
    ]
    said = run("--data", sets[2], *options)
    assert "gallery of 3 of Twemoji and 1 distractors, at scales 1, 0.5" in " ".join(said.split())
    assert "got '1;2'; expected numbers with commas" in run(
        "--data", sets[2], *NOTO, "--scales", "1;2", code=1
    )
    said = run("--data", sets[2], *NOTO, "--tasks", "retrieval", "--scales", "0", code=1)
    assert "scales=(0.0,): expected positive numbers" in said and "Traceback" not in said
    said = run("--data", sets[2], *NOTO, "--tasks", "retrieval", "--distractors", tmp_path / "nope", code=1)
    assert "no such file or folder" in said


def test_the_linear_classifier_by_sgd(sets):
    said = run("--data", sets[0], "--tasks", "sgd", "--epochs", 20, "--no-baselines")
    assert "SGD, 20 epochs" in said and "no augmentation" in said and "the embedding is" in said
