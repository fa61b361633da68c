"""One short run of the search for small recipes: trains, measures, adds a row to a table.

    python zoo/experiments/search.py .data --name resnet-48 --set batch_size=64 --set views.global_size=48 --epochs 4

trains on `.data/glyphs/train.parquet`, starting from the recipe `vitt8_glyphs`, and adds a row to `search.csv` beside
this file: recall@1 from Noto to Twemoji among the codepoints trained on (settings are chosen by this one) and among
the held-out ones, and the accuracy of 5 shots of QuickDraw.
"""

import argparse
import ast
import dataclasses
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
from glyphs import held_out
from table import add_row

from memssl_keras import get_recipe
from memssl_keras.data.huggingface import open_data
from memssl_keras.evaluate.protocols.retrieval import retrieve


def recall(encoder, emoji, flags):
    """recall@1 from Noto to Twemoji among the codepoints for which `flags` holds."""
    vendor, codes = np.array(emoji["vendor"]), np.array(emoji["codepoint"])
    rows = [np.flatnonzero(flags & (vendor == v)) for v in (1, 2)]
    vectors = [encoder.embed([emoji["image"][i]["bytes"] for i in part], 128) for part in rows]
    return retrieve(vectors[0], codes[rows[0]], vectors[1], codes[rows[1]], ks=(1,)).scores["recall@1"]


def five_shots(encoder, sketches, draws=5, queries=10):
    """Accuracy of nearest class mean over 345 classes from 5 sketches each."""
    labels = np.array(sketches["label"])
    rows = [np.flatnonzero(labels == c)[: 5 * draws + queries] for c in np.unique(labels)]
    vectors = encoder.embed([sketches["image"][i]["bytes"] for part in rows for i in part], 256)
    vectors = vectors.reshape(len(rows), 5 * draws + queries, -1)
    vectors = vectors - vectors[:, queries:].mean((0, 1))
    test, correct = vectors[:, :queries].reshape(-1, vectors.shape[-1]), []
    for draw in range(draws):
        means = vectors[:, queries + 5 * draw : queries + 5 * draw + 5].mean(1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        correct.append((test @ means.T).argmax(1) == np.repeat(np.arange(len(rows)), queries))
    return float(np.mean(correct))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--recipe", default="vitt8_glyphs")
    parser.add_argument("--method", choices=["massl", "dino"], default="massl")
    parser.add_argument("--set", action="append", default=[], help="FIELD=VALUE or views.FIELD=VALUE")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keras.utils.set_random_seed(args.seed)
    changes, views = {"epochs": args.epochs}, {}
    for item in args.set:
        field, value = item.split("=", 1)
        (views if field.startswith("views.") else changes)[field.removeprefix("views.")] = ast.literal_eval(
            value
        )
    recipe = get_recipe(args.recipe)
    recipe = dataclasses.replace(recipe, views=dataclasses.replace(recipe.views, **views), **changes)
    model = recipe.build(seed=args.seed) if args.method == "massl" else build_dino(recipe, args.seed)
    images = open_data(str(args.data / "glyphs" / "train.parquet"))
    started = time.process_time()
    history = model.fit(
        images,
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        seed=args.seed,
        verbose=0,
        callbacks=[recipe.schedules()],
    ).history
    seconds = time.process_time() - started
    emoji = pq.read_table(args.data / "emoji" / "train-00000-of-00001.parquet").to_pydict()
    sketches = pq.read_table(args.data / "quickdraw" / "train-00000-of-00001.parquet").to_pydict()
    out = np.array([held_out(c) for c in emoji["codepoint"]])
    row = {
        "name": args.name,
        "method": args.method,
        "changes": " ".join(args.set),
        "seed": args.seed,
        "parameters": model.encoder.count_params(),
        "epochs": recipe.epochs,
        "processor minutes": round(seconds / 60, 1),
        "entropy": round(history["teacher_entropy"][-1], 2) if "teacher_entropy" in history else "",
        "recall@1 trained on": round(recall(model.encoder, emoji, ~out), 4),
        "recall@1 held out": round(recall(model.encoder, emoji, out), 4),
        "QuickDraw 5 shots": round(five_shots(model.encoder, sketches), 4),
    }
    table = pathlib.Path(__file__).parent / "search.csv"
    add_row(table, row)
    print(row, history.keys(), flush=True)


if __name__ == "__main__":
    main()
