"""The method's own claims on icons: FIFO memory or frozen noise, random blocks or one block, and DINO.

    python zoo/experiments/icons_ablation.py .data --seeds 0 1 2

trains the smallest icon network on the same 60,000 drawings for each line of `RUNS` and each seed, and adds a row to
`icons_ablation.csv` beside this file after each run: recall@1 and mAP of icons of one name in two sets, means over
all pairs of the held-out sets of `.data/icons/benchmark/hands.parquet`; the teacher's entropy as a share of the largest
possible one; the spread of its embeddings. Mean-centred features are scored, and features that are PCA-whitened on
training pictures. Runs that are in the table are not repeated, so that it can be stopped and started; `--table` prints
means and ranges over the seeds.
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
import pyarrow.parquet as pq
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from ablation import _keep
from dino import build_dino
from icons_hands import pairs_of
from table import add_row, ranged

from memssl_keras import get_recipe
from memssl_keras.data.pairs import Paired
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.encoders.whitening import Whitening
from memssl_keras.training.whiten import raw_features

TABLE = pathlib.Path(__file__).parent / "icons_ablation.csv"
IMAGES, FITTED, PIXELS = 60_000, 4000, 32
# name, method, slots K of the memory, slots P of a block, what the memory holds
RUNS = (
    ("base", "massl", 8192, 2048, "FIFO"),
    ("frozen random memory", "massl", 8192, 2048, "frozen noise"),
    ("one block", "massl", 8192, 8192, "FIFO"),
    ("DINO", "dino", "", "", ""),
)


def small_recipe(memory_size, block_size, epochs):
    """What all runs share, but for the memory."""
    recipe = get_recipe("resnet8_icons")
    return dataclasses.replace(
        recipe,
        name="icons_ablation",
        views=dataclasses.replace(recipe.views, global_size=PIXELS, local_size=PIXELS // 2),
        epochs=epochs,
        batch_size=128,
        learning_rate=4e-3,
        warmup_epochs=0.1 * epochs,
        memory_size=memory_size,
        block_size=block_size,
        hidden_dim=512,
        precision="float32",
    )


def measure(encoder, fitted, source, sets, groups):
    """Means over all pairs of sets, of mean-centred and of PCA-whitened features."""
    scores, known = {}, raw_features(encoder, fitted)
    vectors = raw_features(encoder, source)
    for kind, power in (("", 0.0), (", whitened", 1.0)):
        layer = Whitening(min(256, encoder.embed_dim), reduce=True)
        layer.build((None, encoder.embed_dim))
        layer.fit(known, shrinkage=0.1, power=power)
        features = keras.ops.convert_to_numpy(layer(vectors))
        means = np.array([pair[-3:] for pair in pairs_of(features, sets, groups)]).mean(0)
        scores |= {f"recall@1{kind}": round(means[0], 4), f"mAP{kind}": round(means[2], 4)}
    return scores


def one_run(run, seed, args, images, groups, benchmark):
    """Trains, and returns a row of the table."""
    name, method, memory_size, block_size, holds = run
    keras.utils.set_random_seed(seed)
    recipe = small_recipe(memory_size or 8192, block_size or 2048, args.epochs)
    model = build_dino(recipe, seed) if method == "dino" else recipe.build(seed=seed)
    if holds == "frozen noise":
        model.memory.update = _keep
    fitted, started = images[:FITTED], time.process_time()
    row = {"name": name, "method": method, "memory": memory_size, "block": block_size, "holds": holds}
    row |= {"pairs": args.pairs, "epochs": args.epochs, "seed": seed}
    if not args.epochs:
        return row | measure(model.encoder, fitted, *benchmark)
    history = model.fit(
        Paired(images, groups, args.pairs) if args.pairs else images,
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        seed=seed,
        verbose=0,
        callbacks=[recipe.schedules()],
    ).history
    minutes = round((time.process_time() - started) / 60, 1)
    largest = math.log(model.student.head.count if method == "dino" else block_size)
    return row | {
        **measure(model.encoder, fitted, *benchmark),
        "entropy share": round(float(history["teacher_entropy"][-1]) / largest, 3),
        "spread": round(float(history["spread"][-1]), 3),
        "processor minutes": minutes,
    }


def print_table(rows):
    """Means over the seeds, and the smallest and largest."""
    scores = [column for column in rows[0] if column.startswith(("recall", "mAP"))]
    print("| | K | P | seeds | " + " | ".join(scores) + " | entropy share | minutes |")
    print("|---" * (len(scores) + 6) + "|")
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        cells = [ranged(mine, column) for column in scores]
        for column, form in (("entropy share", ".2f"), ("processor minutes", ".1f")):
            found = [float(row[column]) for row in mine if row[column]]
            cells.append(format(np.mean(found), form) if found else "")
        print(f"| {name} | {mine[0]['memory']} | {mine[0]['block']} | {len(mine)} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--names", nargs="+", help="Of the lines of RUNS; all by default.")
    parser.add_argument("--epochs", type=int, default=2, help="0 scores the untrained network.")
    parser.add_argument("--pairs", type=float, default=0.0, help="How often views are of two hands.")
    parser.add_argument("--out", type=pathlib.Path, default=TABLE)
    parser.add_argument("--table", action="store_true", help="print what has been measured, train nothing")
    args = parser.parse_args()
    rows = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    if args.table:
        print_table(rows)
        return
    torch.set_num_threads(1)
    table = pq.read_table(args.data / "icons" / "train.parquet", columns=["image", "group"])
    table = table.take(np.random.default_rng(0).permutation(len(table))[:IMAGES])
    images = [value["bytes"] for value in table["image"].to_pylist()]
    source = open_source(str(args.data / "icons" / "benchmark" / "hands.parquet"))
    benchmark = source, column_of(source, "set"), column_of(source, "group")
    done = {(row["name"], int(row["seed"])) for row in rows}
    for seed in args.seeds:
        for run in RUNS:
            if (run[0], seed) in done or (args.names and run[0] not in args.names):
                continue
            row = one_run(run, seed, args, images, table["group"].to_pylist(), benchmark)
            add_row(args.out, row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
