"""Trains one recipe on one CUDA GPU, all pictures in its memory, views made there, a step one CUDA graph.

    python zoo/experiments/gpu_train.py RECIPE DATA OUT [--group group --pairs 0.6] [--set epochs=60 …]

DATA is a folder or Parquet file of pictures, OUT gets the encoder, the training state and `metrics.csv`. With
`--minutes` the number of epochs is what the time allows, by the speed of the first steps. `memssl pretrain` does the
same on any machine, exactly resumable and with views by the processor.
"""

import argparse
import csv
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
from torch.utils.data import DataLoader, IterableDataset

from memssl_keras import get_recipe
from memssl_keras.data.classes import open_classes
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.images.read import read_image
from memssl_keras.training import massl


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
    """An epoch of batches of views, made where the pictures are."""

    def __init__(self, views, batch, seed):
        self.views, self.batch, self.seed, self.epoch = views, batch, seed, 0

    def __len__(self):
        return len(self.views.pictures) // self.batch

    def __iter__(self):
        device = self.views.pictures.pixels.device
        torch.manual_seed(self.seed * 100_003 + self.epoch)
        self.epoch += 1
        order = torch.randperm(len(self.views.pictures), device=device)
        for i in range(len(self)):
            yield self.views(order[i * self.batch : (i + 1) * self.batch])


class DeviceKNN(keras.callbacks.Callback):
    """k-NN of the teacher's encoder after some epochs, as `OnlineKNN` measures it, from pictures on the device."""

    def __init__(self, train, train_labels, test, test_labels, every, k=20, temperature=0.07):
        super().__init__()
        self.train, self.test, self.every, self.k, self.temperature = train, test, every, k, temperature
        self.train_labels = torch.as_tensor(np.asarray(train_labels), device=train.device)
        self.test_labels = torch.as_tensor(np.asarray(test_labels), device=train.device)

    @torch.no_grad()
    def features(self, pixels):
        parts = [
            self.model.encoder(self.model.normalised([part.permute(0, 2, 3, 1).contiguous()])[0]).float()
            for part in pixels.split(2000)
        ]
        return torch.nn.functional.normalize(torch.cat(parts), dim=1)

    @torch.no_grad()
    def on_epoch_end(self, epoch, logs=None):
        logs["knn"] = float("nan")
        if (epoch + 1) % self.every and epoch + 1 != self.params["epochs"]:
            return
        voters, right = self.features(self.train), 0
        for queries, labels in zip(
            self.features(self.test).split(1000), self.test_labels.split(1000), strict=True
        ):
            near, rows = (queries @ voters.T).topk(self.k)
            votes = torch.zeros(len(queries), int(self.train_labels.max()) + 1, device=near.device)
            votes.scatter_add_(1, self.train_labels[rows], (near / self.temperature).exp())
            right += (votes.argmax(1) == labels).sum()
        logs["knn"] = float(right) / len(self.test)


class Watch(keras.callbacks.Callback):
    """Rows of `metrics.csv`, a line now and then, and the encoder as it is after some epochs."""

    def __init__(self, out, batch, every):
        super().__init__()
        self.out, self.batch, self.every, self.started = out, batch, every, time.time()
        self.steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps in (20, 60) or self.steps % 500 == 0:
            print(f"{self.out.name}: step {self.steps}, {time.time() - self.started:.0f} s", flush=True)

    def on_epoch_end(self, epoch, logs=None):
        row = {"epoch": epoch, "seconds": round(time.time() - self.started, 1)}
        row |= {name: round(float(value), 4) for name, value in sorted((logs or {}).items())}
        path = self.out / "metrics.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        if (epoch + 1) % self.every == 0:
            print(f"{self.out.name}: {row}", flush=True)
            self.model.save_pretrained(self.out)


def changed(recipe, changes):
    """The recipe with settings given as `name=value`, values as JSON."""
    values = {name: json.loads(value) for name, value in (change.split("=", 1) for change in changes)}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return dataclasses.replace(recipe, **values)


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
    parser.add_argument("--start", help="Encoder whose weights the run begins with.")
    parser.add_argument("--labelled", help="Labelled data set that DATA is the training part of, for k-NN.")
    parser.add_argument("--every", type=int, default=5, help="Epochs between two saves.")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    recipe = changed(get_recipe(args.recipe), args.set)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder = recipe.build_encoder()
    pixels = read_all(args.data, args.side or encoder.preprocess.image_size, args.processes)
    groups = None
    if args.group:
        names = [name or "" for name in column_of(open_source(args.data), args.group)]
        places = {name: place for place, name in enumerate(sorted(set(names)))}
        groups = [places[name] if name else -1 for name in names]
    pictures = Pictures(torch.from_numpy(pixels).to(device), groups)
    views = DeviceViews(recipe.views, pictures, args.pairs if args.group else 0.0)
    if device == "cuda":
        massl.MaSSL = GraphedMaSSL  # what the recipe builds
    model = recipe.build(encoder, seed=args.seed)
    observers = []
    if args.labelled:
        found = open_classes(args.labelled)
        test = [np.asarray(read_image(found.test[i])).transpose(2, 0, 1) for i in range(len(found.test))]
        test = torch.from_numpy(np.stack(test)).to(device)
        observers = [DeviceKNN(pictures.pixels, found.train_labels, test, found.test_labels, args.every)]
    steps = Steps(views, recipe.batch_size, args.seed)
    print(
        f"{args.out.name}: {len(pictures):,} pictures, {recipe.epochs} epochs of {len(steps)} steps",
        flush=True,
    )
    (args.out / "run.json").write_text(
        json.dumps(
            {
                **dataclasses.asdict(recipe),
                "images": len(pictures),
                "pairs": args.pairs if args.group else 0,
                "seed": args.seed,
            },
            indent=2,
        )
    )
    model.fit(
        DataLoader(steps, batch_size=None),
        epochs=recipe.epochs,
        verbose=0,
        callbacks=[recipe.schedules(), *observers, Watch(args.out, recipe.batch_size, args.every)],
    )
    model.save_pretrained(args.out)


if __name__ == "__main__":
    main()
