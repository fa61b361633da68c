"""What the memory is good for, on icons: FIFO or frozen noise, blocks or one, DINO at an equal budget.

    python zoo/experiments/icons_ablation.py .data --seeds 0 1 2

trains one small network on 10,000 icons whose names two sets or more draw, for each line of `RUNS` and each seed, and
adds a row to `icons_ablation.csv` beside this file after each run: Lucide found among Tabler by name, recall@1, before
training and after every second epoch. Runs that are in the table are not repeated; `--table` prints means and ranges.
"""

import argparse
import collections
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
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from dino import build_dino
from table import add_row

from memssl_keras import get_recipe
from memssl_keras.data.pairs import Paired
from memssl_keras.images.read import read_image
from memssl_keras.training.whiten import raw_features

TABLE = pathlib.Path(__file__).parent / "icons_ablation.csv"
PICTURES, EPOCHS, EVERY, PIXELS, PAIRS = 10_000, 4, 2, 32, 0.6
# name, method, slots K of the memory, slots P of a block, what the memory holds
RUNS = (
    ("base", "massl", 4096, 1024, "FIFO"),
    ("frozen random memory", "massl", 4096, 1024, "frozen noise"),
    ("one block", "massl", 4096, 4096, "FIFO"),
    ("DINO", "dino", "", "", ""),
)


def small_recipe(memory_size, block_size):
    """What all runs share, but for the memory."""
    recipe = get_recipe("resnet8_icons")
    encoder = {**recipe.encoder, "preprocessing": {**recipe.encoder["preprocessing"]}}
    encoder["preprocessing"] |= {"image_size": PIXELS, "resize_size": PIXELS}
    return dataclasses.replace(
        recipe,
        name="icons ablation",
        encoder=encoder,
        views=dataclasses.replace(recipe.views, global_size=PIXELS),
        epochs=EPOCHS,
        batch_size=128,
        learning_rate=2e-3,
        warmup_epochs=0.5,
        precision="float32",
        hidden_dim=512,
        memory_size=memory_size,
        block_size=block_size,
    )


def chosen(path):
    """Pictures of names that two sets or more draw, and their names, whole names until there are enough."""
    rows = pq.read_table(path, columns=["image", "group", "set"]).to_pylist()
    members = collections.defaultdict(list)
    for i, row in enumerate(rows):
        if row["group"]:
            members[row["group"]].append(i)
    names = sorted(name for name, own in members.items() if len({rows[i]["set"] for i in own}) > 1)
    picked = []
    for name in np.random.default_rng(0).permutation(names):
        picked += members[name]
        if len(picked) >= PICTURES:
            break
    pictures = [read_image(rows[i]["image"]["bytes"]) for i in picked[:PICTURES]]
    return pictures, [rows[i]["group"] for i in picked[:PICTURES]]


class OtherHand(keras.callbacks.Callback):
    """Lucide found among Tabler by normalised name, recall@1, every few epochs."""

    def __init__(self, path):
        super().__init__()
        table = pq.read_table(path, columns=["image", "set", "group"])
        sets, groups = (np.array(table[name].to_pylist()) for name in ("set", "group"))
        gallery = sets == "tabler"
        queries = (sets == "lucide") & np.isin(groups, groups[gallery])
        pictures = np.array([row["bytes"] for row in table["image"].to_pylist()], object)
        self.queries, self.gallery = pictures[queries], pictures[gallery]
        self.asked, self.there, self.values = groups[queries], groups[gallery], {}

    def measure(self, encoder):
        """Share of the queries whose nearest icon has their name, 0 … 1."""
        gallery, queries = (raw_features(encoder, part) for part in (self.gallery, self.queries))
        mean = gallery.mean(0)
        units = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries - mean, gallery - mean)]
        return float((self.there[(units[0] @ units[1].T).argmax(1)] == self.asked).mean())

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % EVERY == 0:
            self.values[f"epoch {epoch + 1}"] = round(self.measure(self.model.encoder), 4)


def one_run(name, method, memory_size, block_size, holds, seed, images, observer):
    """Trains, and returns a row of the table."""
    keras.utils.set_random_seed(seed)
    recipe = small_recipe(memory_size or 4096, block_size or 1024)
    model = build_dino(recipe, seed) if method == "dino" else recipe.build(seed=seed)
    if holds == "frozen noise":
        model.memory.update = lambda embeddings: None
    observer.values = {"untrained": round(observer.measure(model.encoder), 4)}
    started = time.process_time()
    history = model.fit(
        images,
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=EPOCHS,
        seed=seed,
        verbose=0,
        callbacks=[recipe.schedules(), observer],
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
        **observer.values,
        "entropy share": round(float(history["teacher_entropy"][-1]) / largest, 3),
        "spread": round(float(history["spread"][-1]), 3),
    }


def print_table(rows):
    """Mean over the seeds, and the smallest and largest, of the last measurement; then the curve of means."""
    columns = [name for name in rows[0] if name == "untrained" or name.startswith("epoch ")]
    print("| | K | P | seeds | recall@1, mean (least … most) | its curve | entropy share | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        values = np.array([[float(row[column]) for column in columns] for row in mine]) * 100
        curve = ", ".join(f"{value:.1f}" for value in values.mean(0))
        entropy, minutes = (
            np.mean([float(row[k]) for row in mine]) for k in ("entropy share", "processor minutes")
        )
        last = values[:, -1]
        print(
            f"| {name} | {mine[0]['memory']} | {mine[0]['block']} | {len(mine)} | "
            f"{last.mean():.1f} ({last.min():.1f} … {last.max():.1f}) | {curve} | {entropy:.2f} | {minutes:.1f} |"
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
    images = Paired(*chosen(args.data / "icons" / "train.parquet"), PAIRS)
    observer = OtherHand(args.data / "icons" / "benchmark" / "all.parquet")
    done = {(row["name"], int(row["seed"])) for row in rows}
    for seed in args.seeds:
        for run in RUNS:
            if (run[0], seed) not in done:
                row = one_run(*run, seed, images, observer)
                add_row(TABLE, row)
                print(row, flush=True)


if __name__ == "__main__":
    main()
