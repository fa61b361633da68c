"""Trains one recipe on one CUDA GPU, all pictures in its memory, views made there, a step one CUDA graph.

    python zoo/experiments/gpu_train.py RECIPE DATA OUT [--group group --pairs 0.6] [--set epochs=60 …]

DATA is a folder or Parquet file of pictures, OUT gets the encoder, the training state, `run.json` and
`metrics.csv`. `memssl pretrain` does the same on any machine, exactly resumable and with views by the processor.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import pathlib
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from gpu_graph import GraphedMaSSL
from gpu_views import DeviceViews, Pictures
from icon_sets import is_emoji
from torch.utils.data import DataLoader, IterableDataset

from memssl_keras import from_pretrained, get_recipe
from memssl_keras.data.classes import open_classes
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.evaluate.protocols.knn import knn_accuracy
from memssl_keras.files import write_json
from memssl_keras.images.read import read_image
from memssl_keras.training.adapt import without_whitening
from memssl_keras.training.callbacks.run import MetricsTable


def _side_by_side(job):
    from PIL import Image

    folder, side, rows = job
    source = open_source(folder)
    pixels = np.empty((len(rows), 3, side, side), np.uint8)
    for place, row in enumerate(rows):
        picture = Image.fromarray(read_image(source[row]))
        if picture.size != (side, side):
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        pixels[place] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
    return pixels


def read_all(folder, side, processes):
    """All pictures as `(N, 3, side, side)` uint8."""
    count = len(open_source(folder))
    parts = [(folder, side, part) for part in np.array_split(np.arange(count), 4 * processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return np.concatenate(pool.map(_side_by_side, parts))


class Steps(IterableDataset):
    """An epoch of batches of views, made where the pictures are; `rows` are the pictures of an epoch."""

    def __init__(self, views, rows, batch, seed):
        self.views, self.rows, self.batch, self.seed, self.epoch = views, rows, batch, seed, 0

    def __len__(self):
        return len(self.rows) // self.batch

    def __iter__(self):
        device = self.views.pictures.pixels.device
        torch.manual_seed(self.seed * 100_003 + self.epoch)
        self.epoch += 1
        order = self.rows.to(device)[torch.randperm(len(self.rows), device=device)]
        for i in range(len(self)):
            yield self.views(order[i * self.batch : (i + 1) * self.batch])


class DeviceKNN(keras.callbacks.Callback):
    """k-NN of the teacher's encoder after some epochs, as `OnlineKNN` has it, from pictures on the device."""

    def __init__(self, train, train_labels, test, test_labels, every):
        super().__init__()
        self.train, self.test, self.every = train, test, every
        self.train_labels, self.test_labels = train_labels, test_labels

    @torch.no_grad()
    def features(self, pixels):
        parts = [
            self.model.encoder(self.model.normalised([part.permute(0, 2, 3, 1).contiguous()])[0]).float()
            for part in pixels.split(2000)
        ]
        return torch.cat(parts).cpu().numpy()

    def on_epoch_end(self, epoch, logs=None):
        logs["knn"] = float("nan")
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            train, test = self.features(self.train), self.features(self.test)
            logs["knn"] = knn_accuracy(train, self.train_labels, test, self.test_labels)


class Saved(keras.callbacks.Callback):
    """The seconds since the start among the metrics; a line and the encoder as it is after some epochs."""

    def __init__(self, out, every):
        super().__init__()
        self.out, self.every, self.started = out, every, time.time()

    def on_epoch_end(self, epoch, logs=None):
        logs["seconds"] = time.time() - self.started
        if (epoch + 1) % self.every == 0:
            figures = ", ".join(f"{name} {float(value):.3f}" for name, value in sorted(logs.items()))
            print(f"{self.out.name}: epoch {epoch + 1}, {figures}", flush=True)
            self.model.save_pretrained(self.out)


def check(recipe):
    """End where a graph that is captured once would not be the recipe's step."""
    cold, warm = recipe.teacher_temperature
    for name, value, expected in (
        ("teacher_temperature", (cold, warm), (cold, cold)),
        ("accumulate", recipe.accumulate, 1),
        ("drop_path", recipe.encoder.get("drop_path", 0), 0),
        ("precision", recipe.precision, recipe.precision.replace("mixed_float16", "mixed_bfloat16")),
    ):
        if value != expected:
            raise SystemExit(
                f"{recipe.name}: {name}={value}: expected {expected}, as one graph serves all steps"
            )


def changed(recipe, changes):
    """The recipe with settings given as `name=value`, values as JSON."""
    values = {name: json.loads(value) for name, value in (change.split("=", 1) for change in changes)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return dataclasses.replace(recipe, **values)


def rows_of(data, emoji):
    """The rows that an epoch shows: each picture once, those of emoji sets `emoji` times."""
    rows = torch.arange(len(open_source(data)))
    if emoji == 1:
        return rows
    more = torch.tensor([is_emoji(name) for name in column_of(open_source(data), "set")])
    return torch.cat([rows, rows[more].repeat(emoji - 1)])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe")
    parser.add_argument("data")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--group", help="Column that says which pictures may be views of each other.")
    parser.add_argument("--pairs", type=float, default=0.5)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="Settings in place of the recipe's."
    )
    parser.add_argument(
        "--side", type=int, help="Side of the pictures in memory; by default the encoder's input."
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--labelled", help="Labelled data set that DATA is the training part of, for k-NN.")
    parser.add_argument("--every", type=int, default=5, help="Epochs between two saves.")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--view-size", type=int, help="Side of the global views; the recipe's by default.")
    parser.add_argument(
        "--emoji", type=int, default=1, metavar="TIMES", help="Show drawings of emoji sets more often."
    )
    parser.add_argument("--init", help="Model whose weights, but for a whitening layer, are started from.")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    recipe = changed(get_recipe(args.recipe), args.set)
    if args.view_size:
        recipe = dataclasses.replace(
            recipe, views=dataclasses.replace(recipe.views, global_size=args.view_size)
        )
    check(recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = recipe.build_encoder()
    if args.init:
        encoder.set_weights(without_whitening(from_pretrained(args.init)).get_weights())
    pixels = read_all(args.data, args.side or encoder.preprocess.image_size, args.processes)
    groups = None
    if args.group:
        names = np.array([name or "" for name in column_of(open_source(args.data), args.group)])
        groups = np.where(names == "", -1, np.unique(names, return_inverse=True)[1])
    pictures = Pictures(torch.from_numpy(pixels).to(device), groups)
    views = DeviceViews(recipe.views, pictures, args.pairs if args.group else 0.0)
    model = recipe.build(encoder, args.seed, GraphedMaSSL if device == "cuda" else None)
    observers = []
    if args.labelled:
        found = open_classes(args.labelled)
        test = [np.asarray(read_image(found.test[i])).transpose(2, 0, 1) for i in range(len(found.test))]
        test = torch.from_numpy(np.stack(test)).to(device)
        observers = [DeviceKNN(pictures.pixels, found.train_labels, test, found.test_labels, args.every)]
    steps = Steps(views, rows_of(args.data, args.emoji), recipe.batch_size, args.seed)
    print(
        f"{args.out.name}: {len(pictures):,} pictures, {recipe.epochs} epochs of {len(steps)} steps",
        flush=True,
    )
    shown = {"images": len(steps.rows), "pairs": args.pairs if args.group else 0}
    ways = {name: getattr(args, name) for name in ("seed", "emoji", "init")}
    write_json(args.out / "run.json", {**dataclasses.asdict(recipe), **shown, **ways})
    model.fit(
        DataLoader(steps, batch_size=None),
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[
            recipe.schedules(),
            *observers,
            Saved(args.out, args.every),
            MetricsTable(args.out / "metrics.csv"),
        ],
    )
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
