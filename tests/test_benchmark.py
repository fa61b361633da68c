"""`memssl benchmark`: its rows, its advice, the processor's instructions, and folders of JPEGs."""

import json
import platform
import sys

import numpy as np
import peers_speed
import pytest
from commands import run
from onnx_folder import write_encoder
from PIL import Image

from memssl_keras.benchmark import advice
from memssl_keras.benchmark_folders import in_this_process, measure_folders, write_jpegs
from memssl_keras.child import in_child, peak_mb
from memssl_keras.export.graph import Graph
from memssl_keras.processor import instruction_set, processor


def rows(**rates):
    """Rows of a table: variant → (images/s at 32, cosine)."""
    where = {"processor": "Some CPU", "instructions": "AVX2"}
    return [{"variant": "keras", "images/s at 32": 1.0, "cosine": 1.0, **where}] + [
        {"variant": name, "images/s at 32": rate, "cosine": cosine, **where}
        for name, (rate, cosine) in rates.items()
    ]


@pytest.mark.parametrize(
    "rates, words",
    [
        (
            {"fp32": (100.0, 1), "int8": (250.0, 0.995)},
            "int8, at 250.0 images/s, 2.5 times float32, cosine 0.995",
        ),
        (
            {"fp32": (100.0, 1), "int8": (105.0, 0.999)},
            "fp32, at 100.0 images/s; int8 would gain less than a tenth",
        ),
        (
            {"fp32": (100.0, 1), "int8": (300.0, 0.9), "fp16": (120.0, 1)},
            "fp16, at 120.0 images/s, 1.2 times",
        ),
        (
            {"fp32": (100.0, 1), "int8": (300.0, 0.9)},
            "fp32, at 100.0 images/s; the vectors of int8 differ (cosine below 0.98).",
        ),
        ({"int8": (300.0, 0.99)}, "int8, at 300.0 images/s."),
        ({"int8": (300.0, 0.5)}, "none, as the vectors of every variant differ"),
    ],
)
def test_the_advice_is_the_fastest_that_is_alike(rates, words):
    said = advice(rows(**rates))
    assert said.startswith("On Some CPU (AVX2): ") and words in said


@pytest.mark.parametrize(
    "flags, name",
    [
        ("flags : sse avx2 avx512f avx512_vnni", "AVX-512 VNNI"),
        ("flags : sse avx2 avx_vnni", "AVX-VNNI"),
        ("flags : sse avx2", "AVX2"),
        ("Features : fp asimd asimddp i8mm", "NEON i8mm"),
        ("flags : sse", platform.machine()),
    ],
)
def test_instructions_are_those_that_the_kernel_names(tmp_path, flags, name):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : Some   CPU @ 2 GHz\n{flags}\n")
    assert instruction_set(str(tmp_path / "cpuinfo")) == name
    assert processor(str(tmp_path / "cpuinfo")) == "Some CPU @ 2 GHz"
    assert processor(str(tmp_path / "none")) and instruction_set(str(tmp_path / "none")) == platform.machine()


def test_jpegs_have_their_size_and_differ(tmp_path):
    paths = write_jpegs(tmp_path / "jpegs", 3, (120, 90))
    seen = [np.asarray(Image.open(path)) for path in paths]
    assert [one.shape for one in seen] == [(90, 120, 3)] * 3
    assert all(one.std() > 20 for one in seen) and not np.array_equal(seen[0], seen[1])


def test_a_folder_is_measured_beside_the_model_alone(tmp_path, monkeypatch):
    model, paths = write_encoder(tmp_path / "model"), write_jpegs(tmp_path / "jpegs", 5, (64, 48))
    batches = []
    alone = Graph.run
    monkeypatch.setattr(Graph, "run", lambda self, pixels: batches.append(len(pixels)) or alone(self, pixels))
    seen = in_this_process(str(model), "fp32", str(tmp_path / "jpegs"), 1, 2)
    assert sum(batches) == 5 * 5 and len(paths) == 5  # once to begin with, then two rounds of both
    assert all(value > 0 for value in seen.values())


@pytest.mark.slow
def test_rows_of_folders_are_of_processes_of_their_own(tmp_path):
    held = np.ones(400 << 20, np.uint8)  # of this process
    model = write_encoder(tmp_path / "model")
    (row,) = measure_folders(model, ["fp32"], tmp_path, threads=1, rounds=1, count=4, sizes=[(64, 48)])
    assert row["JPEGs"] == "64 x 48" and row["images/s"] > 0 and row["CPU ms"] >= 0
    assert row["peak MB"] < 400 < peak_mb() and held.all()


@pytest.mark.slow
def test_sides_take_turns_and_give_the_same_vectors(tmp_path):
    write_jpegs(tmp_path / "jpegs", 5, (64, 48))
    model = write_encoder(tmp_path / "model")
    ours, alone = peers_speed.measure(model, tmp_path / "jpegs", sys.executable, 1, 2, peers=())
    assert (ours.name, alone.name, len(ours.seen), len(alone.seen)) == ("memssl", "model_alone", 2, 2)
    np.testing.assert_allclose(ours.seen[0]["vectors"], alone.seen[1]["vectors"], atol=1e-5)
    assert ours.median("seconds") > 0 and ours.process.returncode == alone.process.returncode == 0


@pytest.mark.slow
def test_the_command_prints_tables_and_advice(tmp_path, monkeypatch):
    monkeypatch.setattr("memssl_keras.benchmark_folders.SIZES", ((64, 48),))
    monkeypatch.setattr(measure_folders, "__defaults__", (None, 1, 4, ((64, 48),)))
    arguments = (
        "benchmark",
        "massl_vitn4.cifar10",
        "--rounds",
        "3",
        "--threads",
        "1",
        "--out",
        tmp_path / "speed",
    )
    said = run(*arguments)
    assert (
        instruction_set() in said
        and "From a folder of JPEGs to vectors" in said
        and f"On {processor()}" in said
    )
    written = sorted(path.name for path in (tmp_path / "speed").iterdir())
    assert written == ["benchmark.csv", "benchmark.png", "folders.csv"]
    assert processor() in (tmp_path / "speed" / "folders.csv").read_text()
    assert "instructions" in (tmp_path / "speed" / "benchmark.csv").read_text().splitlines()[0]
    shown = run(*arguments[:-2], "--json", "--no-folders")
    content = json.loads(shown[shown.index("{") :])
    assert content["folders"] == [] and content["advice"].startswith("On ")
    assert {row["variant"] for row in content["variants"]} == {"keras", "fp32", "int8"}


def test_a_process_that_fails_says_why():
    assert in_child("import sys; print('noise'); print(len(sys.argv[1]))", "four") == 4
    with pytest.raises(
        ValueError, match="a process that measures failed: ZeroDivisionError: division by zero"
    ):
        in_child("1 / 0")
