"""Trains one recipe on one CUDA GPU: all pictures in its memory, views made there, a step one CUDA graph.

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
from gpu_step import DeviceStep
from gpu_views import DeviceViews, Pictures
from icon_sets import is_emoji

from memssl_keras import from_pretrained, get_recipe
from memssl_keras.data.classes import open_classes
from memssl_keras.data.sources import column_of, open_source
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.evaluate.protocols.knn import knn_accuracy
from memssl_keras.files import write_json
from memssl_keras.images.read import read_image
from memssl_keras.training.callbacks.run import MetricsTable

VARIANTS = 16  # orders of colour changes


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


class Judge:
    """k-NN accuracy of the teacher's encoder, as `OnlineKNN` has it, from pictures on the device.

    Args:
        model: The model that is trained.
        train: Pictures `(N, 3, S, S)` on the device.
        labelled: Labelled data set that they are the training part of; None for no accuracy.
    """

    def __init__(self, model, train, labelled):
        self.model, self.train, self.found = model, train, None
        if labelled:
            self.found = open_classes(labelled)
            test = [
                np.asarray(read_image(self.found.test[i])).transpose(2, 0, 1)
                for i in range(len(self.found.test))
            ]
            self.test = torch.from_numpy(np.stack(test)).to(train.device)

    def __call__(self):
        if self.found is None:
            return float("nan")
        train, test = features(self.model, self.train), features(self.model, self.test)
        return knn_accuracy(train, self.found.train_labels, test, self.found.test_labels)


@torch.no_grad()
def features(model, pixels):
    """The teacher's features of pictures `(N, 3, S, S)` on the device, as an array."""
    parts = [
        model.encoder(model.normalised([part.permute(0, 2, 3, 1).contiguous()])[0]).float()
        for part in pixels.split(2000)
    ]
    return torch.cat(parts).cpu().numpy()


def schedules_of(recipe, steps):
    """What `DeviceStep.COLUMNS` name, for each step of a run, `(steps, 4)`."""
    schedules = recipe.schedules().schedules
    return np.stack([schedules[name].values(recipe.epochs, steps) for name in DeviceStep.COLUMNS], 1)


def fit(step, recipe, rows, seed, at_end, seconds=None):
    """Take the steps of all epochs.

    Args:
        step: The `DeviceStep`.
        rows: The pictures that an epoch shows, `(N,)`.
        at_end: Called after each epoch with its number, whether it is the last one, and {name: value}.
        seconds: Take as many epochs as fit in them: the recipe's schedules are then stretched over that time.
    """
    torch.manual_seed(seed)
    rows, batch, epoch = rows.to(step.device), recipe.batch_size, 0
    steps = len(rows) // batch
    values, started, done, share = schedules_of(recipe, steps), time.time(), 0.0, 1 / recipe.epochs
    while done < 1:
        ahead = (done + share * np.arange(steps) / steps) * len(values)
        step.begin_epoch(
            np.stack([np.interp(ahead, np.arange(len(values)), column) for column in values.T], 1)
        )
        for part in rows[torch.randperm(len(rows), device=step.device)][: steps * batch].split(batch):
            step(part)
        figures, epoch, passed = step.figures(), epoch + 1, time.time() - started
        if seconds:
            share = (passed / seconds - done) if epoch > 1 else share
            done = passed / seconds if passed + share * seconds / 2 < seconds else 1.0
        else:
            done = epoch / recipe.epochs
        at_end(epoch, done >= 1, {**figures, "seconds": passed})
    return epoch


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


def arguments():
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
    parser.add_argument("--seconds", type=float, help="End about then, with as many epochs as fit.")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--view-size", type=int, help="Side of the global views; the recipe's by default.")
    parser.add_argument(
        "--emoji", type=int, default=1, metavar="TIMES", help="Show drawings of emoji sets more often."
    )
    parser.add_argument("--init", help="Model whose weights, but for a whitening layer, are started from.")
    return parser.parse_args()


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(args.seed)
    recipe = changed(get_recipe(args.recipe), args.set)
    if args.view_size:
        recipe = dataclasses.replace(
            recipe, views=dataclasses.replace(recipe.views, global_size=args.view_size)
        )
    check(recipe)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
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
    model = recipe.build(encoder, args.seed)
    model._let_teacher_learn(False)
    rows = rows_of(args.data, args.emoji)
    steps = len(rows) // recipe.batch_size
    step = DeviceStep(model, views, steps, 0 if views.sizes_vary else VARIANTS)
    print(f"{args.out.name}: {len(pictures):,} pictures, {recipe.epochs} epochs of {steps} steps", flush=True)
    judge, table = Judge(model, pictures.pixels, args.labelled), MetricsTable(args.out / "metrics.csv")

    def at_end(epoch, last, figures):
        seen = epoch % args.every == 0 or last
        figures["knn"] = judge() if seen else float("nan")
        table.on_epoch_end(epoch - 1, figures)
        if seen:
            told = ", ".join(f"{name} {value:.3f}" for name, value in sorted(figures.items()))
            print(f"{args.out.name}: epoch {epoch}, {told}", flush=True)
            model.save_pretrained(args.out)

    epochs = fit(step, recipe, rows, args.seed, at_end, args.seconds)
    shown = {"images": len(rows), "pairs": args.pairs if args.group else 0, "epochs": epochs}
    ways = {name: getattr(args, name) for name in ("seed", "emoji", "init", "seconds")}
    write_json(args.out / "run.json", {**dataclasses.asdict(recipe), **shown, **ways})


if __name__ == "__main__":
    main()
