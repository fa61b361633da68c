"""What going on from a trained encoder is worth on other pictures: one way and seed, measured and added to a table.

    python zoo/experiments/adapt.py .data/fashion_mnist massl_resnet14.icons --way adapt --seed 0

trains on some of the training pictures without their labels and adds a row to `adapt.csv` beside this file: k-NN (k =
20), and the nearest class mean of 5 and of 10 labelled pictures a class (means of ten draws), on test pictures. The
ways, all with the same views, steps and batches:

- `start`: the encoder as it came; `untrained`: its architecture; `pixels`: mean-centred, 32 px;
- `refit`: the encoder as it came with its whitening fitted anew, which is what `adapt` does without its steps;
- `adapt`: the recipe;
- `naive`: the same weights, a random memory, one rate for all, batch norm in training mode, no whitening;
- `published`: as `naive`, with a projection head without batch norm and a memory of 16,384, larger than the data, as
  the method's published recipes have them for ImageNet;
- `scratch`: the architecture from random weights at the naive rate, whitened in the end.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch
from table import add_row

from memssl_keras import from_pretrained
from memssl_keras.data.classes import open_classes
from memssl_keras.encoders.copies import fresh_copy, without_whitening
from memssl_keras.evaluate.embedders import pixels
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.knn import knn_predict
from memssl_keras.evaluate.protocols.lowshot import classify, draw_rows
from memssl_keras.training.adapt import adapt_recipe
from memssl_keras.training.refit import RefitWhitening, refitted
from memssl_keras.training.whiten import whitening_of

TRAINED = ("refit", "adapt", "naive", "published", "scratch")
ROOM = pathlib.Path(__file__).parent


def chosen(images, labels, classes, count, seed):
    """At most `count` pictures of the first classes, drawn at random, and their labels."""
    labels = np.asarray(labels)
    rows = np.flatnonzero(np.isin(labels, np.unique(labels)[:classes]))
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:count])
    return [images[int(row)] for row in rows], labels[rows]


def scores(embed, train, labels, test, answers):
    """k-NN and few-shot accuracy of features."""
    features, asked = unit(embed(train), "features"), unit(embed(test), "features")
    found = {"knn": (knn_predict(features, labels, asked, k=20) == answers).mean()}
    for shot in (5, 10):
        draws = [draw_rows(labels, shot, np.random.default_rng(draw)) for draw in range(10)]
        hits = [
            (classify("class mean", features[rows], labels[rows], asked) == answers).mean() for rows in draws
        ]
        found[f"shots_{shot}"] = np.mean(hits)
    return found


def changed(recipe, way):
    """The recipe of one of the ways."""
    if way == "published":
        recipe = dataclasses.replace(recipe, batch_norm=False, memory_size=16_384, block_size=4096)
    if way in ("naive", "published", "scratch"):
        plain = {"fill_memory": False, "frozen_epochs": 0, "thaw_epochs": 0, "fixed_statistics": False}
        return dataclasses.replace(recipe, **plain, encoder_rate=1.0, first_layer_rate=1.0)
    return recipe


def trained(start, images, args):
    """The encoder of one way, and the run's recipe."""
    recipe = changed(adapt_recipe(start, len(images), epochs=args.epochs), args.way)
    recipe = dataclasses.replace(recipe, **args.set)
    whitening = whitening_of(start)
    if args.way == "refit":
        return refitted(without_whitening(start), images, whitening, recipe.views)
    keras.utils.set_random_seed(args.seed)
    encoder = fresh_copy(start) if args.way == "scratch" else without_whitening(start)
    model, callbacks = recipe.build(encoder, seed=args.seed), [recipe.schedules()]
    if whitening is not None and args.way in ("adapt", "scratch"):
        callbacks.append(RefitWhitening(images, whitening, recipe.views))
    model.fit(
        images,
        views=recipe.views,
        batch_size=recipe.batch_size,
        epochs=recipe.epochs,
        callbacks=callbacks,
        seed=args.seed,
        verbose=0,
    )
    return model.encoder


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--way", choices=("pixels", "untrained", "start", *TRAINED), default="adapt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=20)
    parser.add_argument("--test-share", type=float, default=0.2, help="Where the data has no test pictures.")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--image-size", type=int, help="Of the encoder, in pixels; by default its own.")
    parser.add_argument("--set", nargs="*", default=[], help="Settings of the recipe, NAME=JSON.")
    parser.add_argument("--name", default="", help="Of the row.")
    args = parser.parse_args()
    args.set = {name: json.loads(value) for name, value in (one.split("=") for one in args.set)}
    torch.set_num_threads(1)
    of = open_classes(args.data, test_share=args.test_share)
    train, labels = chosen(of.train, of.train_labels, args.classes, args.pictures, 0)
    test, answers = chosen(of.test, of.test_labels, args.classes, args.tests, 1)
    start, began = from_pretrained(args.model, image_size=args.image_size), time.process_time()
    if args.way == "pixels":
        found = scores(lambda images: pixels(images, 32, centred=True), train, labels, test, answers)
    else:
        keras.utils.set_random_seed(args.seed)
        others = {"start": start, "untrained": fresh_copy(start)}
        encoder = others.get(args.way) or trained(start, train, args)
        seconds = time.process_time() - began
        found = scores(encoder.embed, train, labels, test, answers)
    row = {"data": pathlib.Path(args.data).name, "model": args.model, "way": args.name or args.way}
    row |= {"seed": args.seed, "pictures": len(train), "tests": len(test)}
    row |= {name: f"{100 * value:.2f}" for name, value in found.items()}
    row |= {"processor_seconds": round(seconds) if args.way in TRAINED else ""}
    add_row(ROOM / "adapt.csv", row)
    print(row)


if __name__ == "__main__":
    main()
