"""From a folder of JPEGs to vectors, as `memssl embed` goes, beside the model alone on preprocessed pixels."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.child import in_child, peak_mb

SIZES = ((500, 375), (1280, 960))
BATCH = 32
COLUMNS = {
    "variant": "",
    "JPEGs": "width x height",
    "images/s": "from files to vectors",
    "CPU ms": "processor time of one image, all threads",
    "peak MB": "of that process",
    "of model alone": "images/s / those of the model on preprocessed pixels",
}


def write_jpegs(folder: PathLike, count: int, size: tuple[int, int], seed: int = 0) -> list[Path]:
    """JPEGs of about the detail of photographs: edges at several scales, and some noise.

    Args:
        folder: where to; made if it is missing.
        count: how many.
        size: width and height.
        seed: of their content.
    """
    folder, rng, paths = Path(folder), np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        layers = np.zeros((size[1], size[0], 3), np.float32)
        for cells, weight in ((4, 90), (16, 50), (64, 30), (200, 15)):
            coarse = rng.integers(0, 256, (cells * size[1] // size[0], cells, 3), np.uint8)
            fine = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            layers += (np.asarray(fine, np.float32) / 255 - 0.5) * weight * 2
        layers += rng.normal(0, 4, layers.shape)
        paths.append(folder / f"{number:05d}.jpg")
        Image.fromarray((layers + 128).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def in_this_process(
    model: str, variant: str, folder: str, threads: int, rounds: int, image_size: int = 0
) -> dict[str, float]:
    """Rate, processor time, peak memory, and share of the rate of the model alone; both in turns, medians."""
    from memssl_keras.export.runtime import OnnxEncoder

    encoder = OnnxEncoder.from_pretrained(
        model, variant=variant, threads=threads or None, image_size=image_size or None
    )
    files = sorted(Path(folder).glob("*.jpg"))
    pixels = np.stack([encoder.preprocessing(file) for file in files[:BATCH]])
    encoder.embed(files[:BATCH])
    taken: dict[str, list[float]] = {"whole": [], "processor": [], "alone": []}
    for _ in range(rounds):
        begin, used = time.perf_counter(), time.process_time()
        encoder.embed(files, BATCH)
        taken["whole"].append((time.perf_counter() - begin) / len(files))
        taken["processor"].append((time.process_time() - used) / len(files))
        begin = time.perf_counter()
        for start in range(0, len(files), BATCH):
            encoder.embed_pixels(pixels[: min(BATCH, len(files) - start)])
        taken["alone"].append((time.perf_counter() - begin) / len(files))
    whole, processor, alone = (statistics.median(seconds) for seconds in taken.values())
    return {"whole": whole, "processor": processor, "alone": alone, "peak": peak_mb()}


_CODE = """
import json, sys
from memssl_keras.benchmark_folders import in_this_process
print(json.dumps(in_this_process(*sys.argv[1:4], *map(int, sys.argv[4:]))))
"""


def measure_folders(
    model: PathLike,
    variants: Sequence[str],
    scratch: PathLike,
    threads: int | None = None,
    rounds: int = 3,
    count: int = 96,
    sizes: Sequence[tuple[int, int]] = SIZES,
    *,
    image_size: int | None = None,
) -> list[dict[str, Any]]:
    """Rows with the keys of `COLUMNS`: each variant on a folder of JPEGs of each size, in a process of its own.

    Args:
        model: folder of an exported model.
        variants: those of its ONNX files to measure.
        scratch: folder for the pictures.
        threads: processor threads; all by default.
        rounds: runs of which the median is taken.
        count: JPEGs of each size.
        sizes: width and height.
        image_size: side in pixels of the square that the model sees, in place of its own.
    """
    rows = []
    for size in sizes:
        folder = Path(scratch) / f"{size[0]}x{size[1]}"
        write_jpegs(folder, count, size)
        for variant in variants:
            given = [model, variant, folder, threads or 0, rounds, image_size or 0]
            seen = in_child(_CODE, *given)
            rows.append(
                {
                    "variant": variant,
                    "JPEGs": f"{size[0]} x {size[1]}",
                    "images/s": round(1 / seen["whole"], 1),
                    "CPU ms": round(1000 * seen["processor"], 1),
                    "peak MB": round(seen["peak"]),
                    "of model alone": round(seen["alone"] / seen["whole"], 2),
                }
            )
    return rows
