"""From folders of JPEGs to vectors beside other libraries, each with the same ViT-S/16 of random weights.

The others run in an environment of their own, each through its public API:
`python -m venv .venv-peers && .venv-peers/bin/pip install torch fastembed transformers timm`. Sides take turns, so that
whatever else the machine does meets all alike; medians count.
"""

import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Annotated

import numpy as np
import typer

from memssl_keras.benchmark_folders import SIZES, write_jpegs
from memssl_keras.processor import instruction_set, processor

SIDE = str(pathlib.Path(__file__).with_name("peer_side.py"))
OURS, PEERS = ("memssl", "model_alone"), ("fastembed", "transformers", "timm")


def write_model(folder):
    """A ViT-S/16 of random weights as our folder, which all sides read.

    fastembed takes the first output alone, so that it gets the graph without the tokens.
    """
    import onnx

    from memssl_keras.export.onnx import export_onnx
    from memssl_keras.training.recipes import RECIPES

    encoder = RECIPES["vits16_in1k"].build_encoder()
    encoder.save_pretrained(folder)
    export_onnx(encoder, folder, variants=["fp32"])
    graph = onnx.load(folder / "onnx" / "model.onnx")
    (tokens,) = (output for output in graph.graph.output if output.name == "last_hidden_state")
    graph.graph.output.remove(tokens)
    onnx.save(graph, folder / "onnx" / "pooled.onnx")


class Side:
    """A process of one side."""

    def __init__(self, name, python, model, folder, threads):
        command = [python, SIDE, name, str(model), str(folder), str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, text=True, env=environment, **pipes)
        self.name, self.seen = name, []

    def go(self):
        """Embed all files once."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}; what it said stands above")
        self.seen.append(json.loads(line))

    def median(self, key):
        return statistics.median(seen[key] for seen in self.seen)

    def stop(self):
        """Let it end."""
        self.process.stdin.close()
        self.process.wait()


def measure(model, folder, python, threads, rounds, peers=PEERS):
    """The sides after their rounds, ours first."""
    sides = [Side(name, sys.executable, model, folder, threads) for name in OURS]
    sides += [Side(name, python, model, folder, threads) for name in peers]
    try:
        for turn in range(rounds):
            for side in sides if turn % 2 else reversed(sides):
                side.go()
    finally:
        for side in sides:
            side.stop()
    return sides


def benchmark_peers(
    python: Annotated[str, typer.Option(help="Python of the environment that has the other libraries.")],
    threads: Annotated[int, typer.Option(min=1, help="Processor threads of each side.")] = os.cpu_count()
    or 1,
    count: Annotated[int, typer.Option(min=8, help="JPEGs of each size.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side; medians count.")] = 5,
    out: Annotated[pathlib.Path, typer.Option(help="CSV file to write.")] = pathlib.Path("peers.csv"),
):
    """Embed folders of JPEGs by this library, fastembed, transformers with ONNX Runtime, and timm."""
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        model = pathlib.Path(scratch) / "model"
        write_model(model)
        for size in SIZES:
            folder = pathlib.Path(scratch) / f"{size[0]}"
            write_jpegs(folder, count, size)
            sides = measure(model, folder, python, threads, rounds)
            ours = sides[0]
            for side in sides:
                # Of neighbouring runs, so that a change of the machine's load meets both.
                ratios = [a["seconds"] / b["seconds"] for a, b in zip(side.seen, ours.seen, strict=True)]
                alike = (np.array(side.seen[0]["vectors"]) * np.array(ours.seen[0]["vectors"])).sum(1)
                lines.append(
                    {
                        "side": side.name.replace("_", " "),
                        "JPEGs": f"{size[0]} x {size[1]}",
                        "images/s": round(1 / side.median("seconds"), 2),
                        "CPU ms": round(1000 * side.median("processor"), 1),
                        "peak MB": round(side.median("peak")),
                        "time / ours": round(statistics.median(ratios), 2),
                        "least cosine to ours": round(float(alike.min()), 4),
                        "threads": threads,
                        "instructions": instruction_set(),
                        "processor": processor(),
                    }
                )
                print("  ".join(f"{name}: {value}" for name, value in lines[-1].items()), flush=True)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
