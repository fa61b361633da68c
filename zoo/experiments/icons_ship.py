"""From a run of `resnet14_icons` to the folder of `massl_resnet14.icons`.

    python zoo/experiments/icons_ship.py RUN .data/icons/train.parquet OUT

takes the teacher's encoder, pools the maps of all its stages, and fits a last linear layer that keeps 384 directions
(`Whitening.fit_pairs`). It is fitted to pictures that were trained on, icons and all emoji, each once as it is and once
as on a screen, in other colours, small, through JPEG. No set or codepoint that is held out is read.
"""

import argparse
import collections
import os
import pathlib

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pyarrow.parquet as pq
import torch
from gpu_ship import pooled
from icon_sets import is_emoji
from PIL import Image

from memssl_keras import from_pretrained, save_pretrained
from memssl_keras.data import drawings
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.images import read_image
from memssl_keras.training.whiten import raw_features, whitening_of

SIDES = (16, 48)


def chosen(rows, most, each=6, seed=0):
    """Pictures but emoji whose name two sets or more draw, up to `each` of a name and `most` in all, as PNG."""
    rng, members = np.random.default_rng(seed), collections.defaultdict(list)
    for i, row in enumerate(rows):
        if row["group"] and not is_emoji(row["set"]):
            members[row["group"]].append(i)
    names = sorted(name for name, own in members.items() if len({rows[i]["set"] for i in own}) > 1)
    picked = [i for name in rng.permutation(names) for i in rng.permutation(members[name])[:each]]
    return [rows[i]["image"]["bytes"] for i in picked[:most]]


def shown(png, rng):
    """A drawing in other colours where it has none, at a small size, through JPEG."""
    picture = read_image(png)
    if drawings.is_grey(picture) and rng.random() < 0.8:
        picture = drawings.recolour(picture, rng)
    side, longest = int(rng.integers(SIDES[0], SIDES[1] + 1)), max(picture.shape[:2])
    size = [max(1, length * side // longest) for length in picture.shape[1::-1]]
    return drawings.jpeg(
        np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)), rng, (60, 95)
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("train", type=pathlib.Path, help="The Parquet file that it was trained on.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--pictures", type=int, default=12_000, help="At most, besides emoji.")
    parser.add_argument("--rank", type=int, default=384)
    parser.add_argument("--shrinkage", type=float, default=0.1)
    parser.add_argument("--power", type=float, default=0.75)
    parser.add_argument(
        "--pooling-grid",
        type=int,
        nargs="+",
        default=(2, 3, 2),
        help="Cells a side of each stage, 0 for none.",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows, rng = (
        pq.read_table(args.train, columns=["image", "group", "set"]).to_pylist(),
        np.random.default_rng(0),
    )
    pictures = chosen(rows, args.pictures)
    pictures += [row["image"]["bytes"] for row in rows if is_emoji(row["set"])]
    raw = from_pretrained(args.run)
    if whitening_of(raw) is not None:
        raw = without_whitening(raw)
    raw = pooled(raw, args.pooling_grid)
    encoder = raw.extended(whitening={"rank": args.rank, "reduce": True})
    layer = encoder.get_layer("whitening")
    shown_pictures = (shown(png, rng) for png in pictures)
    first, second = raw_features(raw, pictures), raw_features(raw, shown_pictures)
    layer.fit_pairs(
        np.concatenate([first, second]), first, second, args.shrinkage, within=args.power, power=args.power
    )
    encoder.set_weights([*raw.get_weights(), *layer.get_weights()])
    save_pretrained(encoder, args.out, half=True)
    print(f"{args.out}: {len(pictures):,} pictures, {encoder.embed_dim} numbers a picture")


if __name__ == "__main__":
    main()
