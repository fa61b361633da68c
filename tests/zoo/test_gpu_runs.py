"""The runs that want a GPU, on the processor with tiny settings: from drawings to the folder of a model."""

import json
import os
import pathlib
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from demo_page import png

from memssl_keras import from_pretrained

pytestmark = pytest.mark.slow
EXPERIMENTS = pathlib.Path(__file__).parents[2] / "zoo" / "experiments"
TINY = ("epochs=1", "batch_size=8", "memory_size=32", "block_size=16", "warmup_epochs=0")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What `gpu.sh` leaves of one run, twice called."""
    place = tmp_path_factory.mktemp("gpu")
    (place / "icons").mkdir()
    (place / "cifar10").mkdir()
    rows = [
        {
            "image": {"bytes": png((20 * i, 90, 255 - 20 * i)), "path": None},
            "group": "ab"[i % 2] if i < 8 else "",
            "set": "noto" if i < 2 else "tabler",
        }
        for i in range(12)
    ]
    pq.write_table(pa.Table.from_pylist(rows), place / "icons" / "train.parquet")
    python = str(pathlib.Path(sys.executable).parent)
    environment = {"RUNS": "icons icons_emoji", "PROCESSES": "1", "PATH": f"{python}:{os.environ['PATH']}"}
    command = ["sh", str(EXPERIMENTS / "gpu.sh"), str(place), str(place / "out"), *TINY]
    outputs = []
    for _ in range(2):
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    return place, outputs


def test_a_run_leaves_its_encoder_its_settings_and_its_epochs(runs):
    place, (first, second) = runs
    folder = place / "out" / "icons"
    assert "12 pictures, 1 epochs of 1 steps" in first and second == ""  # the second call finds it done
    run = json.loads((folder / "run.json").read_text())
    assert (run["name"], run["images"], run["pairs"], run["epochs"]) == ("resnet14_icons", 12, 0.6, 1)
    heads = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"epoch", "loss", "seconds", "spread", "teacher_entropy"} <= set(heads)


def test_a_run_goes_on_from_another_with_more_emoji(runs):
    place, (first, _) = runs
    assert "icons_emoji: 12 pictures, 1 epochs of 3 steps" in first  # 10 drawings, and 2 emoji eight times
    run = json.loads((place / "out" / "icons_emoji" / "run.json").read_text())
    assert (run["images"], run["emoji"], run["views"]["global_size"]) == (26, 8, 64)
    assert run["init"] == str(place / "out" / "icons")


def test_an_encoder_is_float32_whatever_it_was_trained_in(runs):
    folder = runs[0] / "out" / "icons"
    assert json.loads((folder / "run.json").read_text())["precision"] == "mixed_bfloat16"
    assert from_pretrained(folder).get_config()["dtype"] == "float32"


def test_a_run_becomes_a_model_of_fewer_features(runs):
    place = runs[0]
    command = [sys.executable, str(EXPERIMENTS / "gpu_ship.py"), str(place / "out" / "icons")]
    command += [str(place / "icons" / "train.parquet"), str(place / "model"), "--rank", "4"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert from_pretrained(place / "model").embed_dim == 4


def test_what_one_graph_cannot_hold_is_refused(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "gpu_train.py"), "vitt4_cifar10", "nothing", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and "vitt4_cifar10: drop_path=0.1: expected 0" in done.stderr
