"""An exported model's variants beside the eager Keras encoder: size, start, latency, throughput, memory, cosine.

Start and peak memory are those of a new process for each; latency and throughput are taken in turns in one process,
so that whatever else the machine does meets all alike, and given as medians.
"""

from __future__ import annotations

import csv
import functools
import math
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.child import in_child
from memssl_keras.files import replace_file
from memssl_keras.processor import instruction_set, processor

BATCHES = (1, 8, 32)
CALLS = 3  # counted of one runner in a row
COLUMNS = {
    "variant": "",
    "file MB": "of the ONNX file, or of the Keras weights",
    "load s": "from the folder to an encoder, imports excluded",
    "first embedding s": "from the start of a new process to the first vector",
    "peak MB": "of that process",
    "latency ms": "of one image, preprocessed",
    "images/s at 8": "",
    "images/s at 32": "",
    "speed": "latency of Keras / its own",
    "cosine": "lowest to Keras, of 32 pictures",
    "instructions": "the best set of this processor for int8",
    "processor": "",
}
FASTER, ALIKE = 1.1, 0.98  # what a smaller variant must be, beside float32 and Keras, to be advised

_ONNX = """
import time, json, sys
from memssl_keras.export.runtime import OnnxEncoder
loading = time.perf_counter()
threads, size = (int(number) or None for number in sys.argv[3:5])
encoder = OnnxEncoder.from_pretrained(sys.argv[1], variant=sys.argv[2], threads=threads, image_size=size)
loaded, embed = time.perf_counter(), encoder.embed
"""
_KERAS = """
import time, json, sys
import torch
from memssl_keras.pretrained import from_pretrained
if int(sys.argv[3]):
    torch.set_num_threads(int(sys.argv[3]))
loading = time.perf_counter()
encoder = from_pretrained(sys.argv[1], image_size=int(sys.argv[4]) or None)
loaded, embed = time.perf_counter(), encoder.embed
"""
_EMBED = """
import numpy as np
from memssl_keras.child import peak_mb
embed(np.full((1, 64, 64, 3), 127, "uint8"))
print(json.dumps({"load": loaded - loading, "peak": peak_mb()}))
"""


def _start(folder, variant, threads, image_size):
    """A new process up to its first embedding: seconds in all, seconds to load, peak memory in MB."""
    code = _KERAS if variant == "keras" else _ONNX
    begin = time.perf_counter()
    seen = in_child(code + _EMBED, folder, variant, threads or 0, image_size or 0)
    return time.perf_counter() - begin, seen["load"], seen["peak"]


def _runners(folder, variants, threads, image_size):
    """Name → function from preprocessed images `(N, 3, S, S)` to embeddings `(N, D)`, and S."""
    import torch

    from memssl_keras.export.runtime import OnnxEncoder
    from memssl_keras.pretrained import from_pretrained

    if threads:
        torch.set_num_threads(threads)
    encoder = from_pretrained(folder, image_size=image_size)

    def eager(pixels):
        """The Keras encoder."""
        with torch.no_grad():
            return encoder(torch.from_numpy(pixels).permute(0, 2, 3, 1), training=False).numpy()

    runners = {"keras": eager}
    for variant in variants:
        opened = OnnxEncoder.from_pretrained(folder, variant=variant, threads=threads, image_size=image_size)
        runners[variant] = functools.partial(_run, opened.graph.session)
    return runners, encoder.preprocess.image_size


def _run(session, pixels):
    return session.run(["pooler_output"], {"pixel_values": pixels})[0]


def _pictures(count, size):
    """Smooth normalised pictures `(count, 3, size, size)` float32."""
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)) for _ in range(count)]
    smooth = np.stack([np.asarray(c.resize((size, size), Image.Resampling.BICUBIC)) for c in coarse])
    return np.ascontiguousarray(((smooth / 255 - 0.45) / 0.225).astype("float32").transpose(0, 3, 1, 2))


def _in_turns(runners, pixels, rounds):
    """Median seconds of each runner, a few calls of each in turn.

    The first call of a turn is not counted: the threads of the runner before still wait for work, busily.
    """
    taken = {name: [] for name in runners}
    for _ in range(-(-rounds // CALLS) + 1):
        for name, run in runners.items():
            time.sleep(0.05)
            for call in range(CALLS + 1):
                begin = time.perf_counter()
                run(pixels)
                if call:
                    taken[name].append(time.perf_counter() - begin)
    # Less the first turn, which lays out memory.
    return {name: statistics.median(seconds[CALLS:]) for name, seconds in taken.items()}


def measure(
    folder: PathLike,
    variants: Sequence[str],
    threads: int | None = None,
    rounds: int = 20,
    starts: int = 3,
    image_size: int | None = None,
) -> list[dict[str, Any]]:
    """Rows of the benchmark, as dictionaries with the keys of `COLUMNS`: Keras first, then the variants.

    Args:
        folder: Of a model with Keras weights and ONNX files.
        variants: Those to measure.
        threads: Processor threads; all by default.
        rounds: Calls of which the median is taken.
        starts: New processes, likewise.
        image_size: Side in pixels of the square that the model sees, in place of its own.
    """
    from memssl_keras.weights.config import find_onnx

    folder = pathlib.Path(folder)
    runners, size = _runners(folder, variants, threads, image_size)
    pixels = _pictures(max(BATCHES), size)
    seconds = {n: _in_turns(runners, pixels[:n], max(3, rounds // n)) for n in BATCHES}
    expected, rows = runners["keras"](pixels), []
    for name, run in runners.items():
        begun = [_start(folder, name, threads, image_size) for _ in range(starts)]
        first, load, peak = (statistics.median(values) for values in zip(*begun, strict=True))
        path = folder / "model.safetensors" if name == "keras" else find_onnx(folder, name)
        vectors = run(pixels)
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
        rows.append(
            {
                "variant": name,
                "file MB": round(path.stat().st_size / 1e6, 2),
                "load s": round(load, 3),
                "first embedding s": round(first, 2),
                "peak MB": round(peak),
                "latency ms": round(1000 * seconds[1][name], 2),
                "images/s at 8": round(8 / seconds[8][name], 1),
                "images/s at 32": round(32 / seconds[32][name], 1),
                "speed": round(seconds[1]["keras"] / seconds[1][name], 2),
                "cosine": round(float(((vectors * expected).sum(1) / norms).min()), 6),
                "instructions": instruction_set(),
                "processor": processor(),
            }
        )
    return rows


def advice(rows: Sequence[dict[str, Any]]) -> str:
    """Which variant to use on this machine, and why, in one sentence.

    The fastest at a batch of 32 whose vectors keep a cosine of .98 to Keras; float32 unless it is 1.1 times as fast.

    Args:
        rows: as `measure` gives them.
    """
    there = {row["variant"]: row for row in rows if row["variant"] != "keras"}
    alike = {name: row for name, row in there.items() if row["cosine"] >= ALIKE}
    where = f"{rows[0]['processor']} ({rows[0]['instructions']})"
    if not alike:
        return f"On {where}: none, as the vectors of every variant differ from Keras (cosine below {ALIKE})."
    plain = there.get("fp32")
    best = max(alike, key=lambda name: alike[name]["images/s at 32"])
    if plain and "fp32" in alike and alike[best]["images/s at 32"] < FASTER * plain["images/s at 32"]:
        best = "fp32"
    said = f"On {where}: {best}, at {alike[best]['images/s at 32']:,} images/s"
    if plain and best != "fp32":
        times = alike[best]["images/s at 32"] / plain["images/s at 32"]
        least = math.floor(1000 * alike[best]["cosine"]) / 1000
        return f"{said}, {times:.1f} times float32, cosine {least:.3f} or more to Keras."
    slower, others = [name for name in alike if name != best], [name for name in there if name not in alike]
    reasons = [f"{' and '.join(slower)} would gain less than a tenth"] if slower else []
    reasons += [f"the vectors of {' and '.join(others)} differ (cosine below {ALIKE})"] if others else []
    return "; ".join([said, *reasons]) + "."


def exported(model: str, variants: Sequence[str] | None) -> tuple[Path, list[str], Any]:
    """A folder with Keras weights and those variants: the model's own, or one made for the purpose.

    Args:
        model: Bundled model, repository, folder, or a recipe, of which an untrained encoder is taken: its speed and
            size are those of a trained one.
        variants: Variants; None for those that the folder holds, or float32, float16 and int8.

    Returns:
        The folder, its variants, and what to keep alive while it is used.
    """
    from memssl_keras.export.onnx import export_onnx
    from memssl_keras.pretrained import from_pretrained, save_pretrained
    from memssl_keras.training.recipes import RECIPES
    from memssl_keras.weights.config import VARIANTS, find_onnx
    from memssl_keras.zoo.registry import list_models, resolve

    folder = resolve(model) if model in list_models() else pathlib.Path(model)
    if folder.is_dir():
        held = [v for v, file in VARIANTS.items() if (folder / "onnx" / file).is_file()]
        if held:
            for variant in variants or ():
                find_onnx(folder, variant)
            return folder, list(variants or held), None
    encoder = RECIPES[model].build_encoder() if model in RECIPES else from_pretrained(model)
    scratch = tempfile.TemporaryDirectory()
    made, variants = pathlib.Path(scratch.name) / "model", list(variants or ("fp32", "fp16", "int8"))
    save_pretrained(encoder, made)
    export_onnx(encoder, made, variants=variants)
    return made, variants, scratch


def write_csv(rows: Sequence[dict[str, Any]], path: PathLike) -> None:
    """The rows as a CSV file, under the names of the first."""

    def write(part):
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)

    replace_file(path, write)


def draw(rows: Sequence[dict[str, Any]], path: PathLike, title: str) -> None:
    """The rows as bars: latency, throughput, size and memory."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = ["latency ms", "images/s at 32", "file MB", "first embedding s", "peak MB"]
    figure, axes = plt.subplots(1, len(shown), figsize=(13, 2.9), layout="constrained")
    names = [row["variant"] for row in rows]
    colours = ["#9aa0a6"] + ["#d9622b"] * (len(rows) - 1)
    for axis, column in zip(axes, shown, strict=True):
        bars = axis.barh(names, [row[column] for row in rows], color=colours)
        axis.bar_label(bars, padding=3, fontsize=8)
        axis.set_title(
            column + (" (less is better)" if "images" not in column else " (more is better)"), fontsize=9
        )
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.25)
        axis.tick_params(labelsize=9)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=130)
    plt.close(figure)
