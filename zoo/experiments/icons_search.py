"""One short run of the search for the icons' recipe: trains on some of the pictures, measures, adds a row to a table.

    python zoo/experiments/icons_search.py .data --name pairs --images 12800 --pairs 0.5 --set encoder.width=40

trains one epoch on a fixed draw of `.data/icons/train.parquet` and adds a row to `icons_search.csv` beside this file:
recall@1 from Lucide to Tabler by normalised name, with features as they are and PCA-whitened to 512 numbers over the
pictures trained on, and of Lucide as on a screen at 24 px among Lucide. Neither set is trained on.
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
from icons_screen import on_screen
from table import add_row

from memssl_keras import from_pretrained, get_recipe
from memssl_keras.data.pairs import Paired
from memssl_keras.training.start import start_from


def unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def whitened(features, parts, size=512, shrinkage=0.1):
    """Each of `parts` less the mean of `features`, along their `size` strongest axes, each of which weighs alike."""
    mean = features.mean(0)
    values, axes = np.linalg.eigh(np.cov((features - mean).T))
    values, axes = values[::-1][:size], axes[:, ::-1][:, :size]
    return [unit((part - mean) @ axes / np.sqrt(values + shrinkage * values.mean())) for part in parts]


def recall(queries, names, gallery, gallery_names, k=1):
    """Share of the queries whose name is among the gallery's and among the k nearest."""
    asked = np.isin(names, gallery_names)
    order = np.argsort(-(queries[asked] @ gallery.T), axis=1)[:, :k]
    return float((gallery_names[order] == names[asked][:, None]).any(1).mean())


def measure(encoder, data, fitted, queries=1000):
    """The scores of an encoder, by name."""
    rows = {
        p: pq.read_table(data / "icons" / "drawn" / f"{p}.parquet").to_pylist() for p in ("lucide", "tabler")
    }
    names = {p: np.array([row["group"] for row in part]) for p, part in rows.items()}
    vectors = {p: encoder.embed([row["image"]["bytes"] for row in part], 128) for p, part in rows.items()}
    rng = np.random.default_rng(0)
    asked = rng.permutation(len(rows["lucide"]))[:queries]
    screens = encoder.embed([on_screen(rows["lucide"][i]["image"]["bytes"], 24, rng) for i in asked], 128)
    parts = [vectors["lucide"], vectors["tabler"], screens]
    white = whitened(encoder.embed(fitted, 128), parts)
    scores = {}
    for kind, (lucide, tabler, shown) in (("", [unit(part) for part in parts]), (" whitened", white)):
        scores[f"Lucide to Tabler{kind}"] = recall(lucide, names["lucide"], tabler, names["tabler"])
        scores[f"on screen, 24 px{kind}"] = float((np.argmax(shown @ lucide.T, 1) == asked).mean())
    return {name: round(score, 4) for name, score in scores.items()}


def changed(recipe, items):
    changes = {"epochs": 1, "warmup_epochs": 0.05}
    nested = {"views": {}, "encoder": {}}
    for item in items:
        field, value = item.split("=", 1)
        group, _, name = field.rpartition(".")
        (nested[group] if group else changes)[name] = ast.literal_eval(value)
    changes["views"] = dataclasses.replace(recipe.views, **nested["views"])
    return dataclasses.replace(recipe, encoder={**recipe.encoder, **nested["encoder"]}, **changes)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--images", type=int, default=12_800)
    parser.add_argument("--pairs", type=float, default=0.0)
    parser.add_argument(
        "--set", action="append", default=[], help="FIELD=VALUE, views.FIELD=, encoder.FIELD="
    )
    parser.add_argument("--start", help="Trained encoder to begin with.")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keras.utils.set_random_seed(args.seed)
    recipe = changed(get_recipe("resnet12_icons"), args.set)
    table = pq.read_table(args.data / "icons" / "train.parquet", columns=["image", "group"])
    table = table.take(np.random.default_rng(0).permutation(len(table))[: args.images])
    images = [value["bytes"] for value in table["image"].to_pylist()]
    paired = Paired(images, table["group"].to_pylist(), args.pairs) if args.pairs else images
    encoder = args.start and start_from(recipe.build_encoder(), from_pretrained(args.start))
    model = recipe.build(encoder or None, seed=args.seed)
    started, wall = time.process_time(), time.time()
    fit = {"views": recipe.views, "batch_size": recipe.batch_size, "epochs": recipe.epochs, "seed": args.seed}
    history = model.fit(paired, **fit, verbose=0, callbacks=[recipe.schedules()]).history
    seconds, wall = time.process_time() - started, time.time() - wall
    encoder = model.encoder.extended(pooling_grid=(0, 3, 3))
    row = {
        "name": args.name,
        "start": args.start or "",
        "pairs": args.pairs,
        "changes": " ".join(args.set),
        "parameters": model.encoder.count_params(),
        "images": args.images * recipe.epochs,
        "images a processor second": round(args.images * recipe.epochs / seconds, 1),
        "entropy": round(history["teacher_entropy"][-1], 3),
        "spread": round(history["spread"][-1], 3),
        **measure(encoder, args.data, images[:4000]),
    }
    add_row(pathlib.Path(__file__).parent / "icons_search.csv", row)
    print(row, f"{args.images * recipe.epochs / wall:.0f} images a second by the clock", flush=True)


if __name__ == "__main__":
    main()
