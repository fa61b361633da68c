"""The method's own claims at a small scale: size of the memory, number of blocks, FIFO or frozen noise; and DINO.

    python zoo/experiments/ablation.py .data --seeds 0 1 2

trains one small network on 25,000 training images of CIFAR-10 for each line of `RUNS` and each seed, and adds a row
to `ablation.csv` beside this file after each run: k-NN after every epoch on other training images, the teacher's
entropy as a share of the largest possible one, the spread of its embeddings. Runs that are in the table are not
repeated, so that it can be stopped and started; `--table` prints means and ranges over the seeds.
"""

import argparse
import csv
import dataclasses
import math
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from dino import build_dino
from table import add_row, ranged

from memssl_keras import get_recipe
from memssl_keras.data.classes import open_classes
from memssl_keras.images.read import read_image
from memssl_keras.training.callbacks.observe import OnlineKNN

TABLE = pathlib.Path(__file__).parent / "ablation.csv"
IMAGES, EPOCHS, VOTERS, QUERIES, PIXELS = 25_000, 4, 10_000, 5_000, 24
# name, method, slots K of the memory, slots P of a block, what the memory holds
RUNS = (
    ("base", "massl", 4096, 1024, "FIFO"),
    ("frozen random memory", "massl", 4096, 1024, "frozen noise"),
    ("one block", "massl", 4096, 4096, "FIFO"),
    ("64 blocks", "massl", 4096, 64, "FIFO"),
    ("small memory", "massl", 1024, 256, "FIFO"),
    ("large memory", "massl", 16384, 4096, "FIFO"),
    ("DINO", "dino", "", "", ""),
    ("small memory, one block", "massl", 1024, 1024, "FIFO"),
    ("large memory, 16 blocks", "massl", 16384, 1024, "FIFO"),
)


def small_recipe(memory_size, block_size):
    """What all runs share, but for the memory."""
    constants = {"interpolation": "bicubic", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    recipe = get_recipe("resnet18_cifar10")
    return dataclasses.replace(
        recipe,
        name="ablation",
        encoder={
            "blocks": (1, 1, 1),
            "width": 32,
            "stem": "half",
            "preprocessing": {"image_size": PIXELS, "resize_size": PIXELS, **constants},
        },
        views=dataclasses.replace(recipe.views, global_size=PIXELS),
        epochs=EPOCHS,
        batch_size=128,
        learning_rate=2e-3,
        warmup_epochs=0.5,
        memory_size=memory_size,
        block_size=block_size,
    )


def _keep(embeddings):
    """In place of `Memory.update`: the memory stays as it is."""


def one_run(name, method, memory_size, block_size, holds, seed, images, labels):
    """Trains, and returns a row of the table."""
    keras.utils.set_random_seed(seed)
    recipe = small_recipe(memory_size or 4096, block_size or 1024)
    model = build_dino(recipe, seed) if method == "dino" else recipe.build(seed=seed)
    if holds == "frozen noise":
        model.memory.update = _keep
    voters, queries = (
        slice(IMAGES, IMAGES + VOTERS),
        slice(IMAGES + VOTERS, IMAGES + VOTERS + QUERIES),
    )
    online = OnlineKNN(images[voters], labels[voters], images[queries], labels[queries])
    untrained, started = online.measure(model.encoder), time.process_time()
    history = model.fit(
        images[:IMAGES],
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=EPOCHS,
        seed=seed,
        verbose=0,
        callbacks=[recipe.schedules(), online],
    ).history
    largest = math.log(model.student.head.count if method == "dino" else block_size)
    return {
        "name": name,
        "method": method,
        "memory": memory_size,
        "block": block_size,
        "holds": holds,
        "seed": seed,
        "processor minutes": round((time.process_time() - started) / 60, 1),
        "untrained": round(untrained, 4),
        **{f"epoch {i + 1}": round(value, 4) for i, value in enumerate(history["knn"])},
        "loss": round(float(history["loss"][-1]), 4),
        "entropy share": round(float(history["teacher_entropy"][-1]) / largest, 3),
        "spread": round(float(history["spread"][-1]), 3),
    }


def print_table(rows):
    """Mean over the seeds, and the smallest and largest, of the last epoch's k-NN; then the curve of means."""
    columns = [name for name in rows[0] if name == "untrained" or name.startswith("epoch ")]
    print("| | K | P | seeds | k-NN, mean (least … most) | its curve | entropy share | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        values = np.array([[float(row[column]) for column in columns] for row in mine]) * 100
        curve = ", ".join(f"{value:.1f}" for value in values.mean(0))
        entropy, minutes = (
            np.mean([float(row[key]) for row in mine]) for key in ("entropy share", "processor minutes")
        )
        print(
            f"| {name} | {mine[0]['memory']} | {mine[0]['block']} | {len(mine)} | "
            f"{ranged(mine, columns[-1])} | {curve} | {entropy:.2f} | {minutes:.1f} |"
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print what has been measured, train nothing")
    args = parser.parse_args()
    rows = list(csv.DictReader(TABLE.open())) if TABLE.exists() else []
    if args.table:
        print_table(rows)
        return
    torch.set_num_threads(1)
    found = open_classes(str(args.data / "cifar10"))
    images, labels = found.train, found.train_labels
    images = np.stack([read_image(images[i]) for i in range(IMAGES + VOTERS + QUERIES)])
    labels = np.asarray(labels[: len(images)])
    done = {(row["name"], int(row["seed"])) for row in rows}
    for seed in args.seeds:
        for run in RUNS:
            if (run[0], seed) in done:
                continue
            row = one_run(*run, seed, images, labels)
            add_row(TABLE, row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
