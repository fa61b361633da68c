"""From a run of `gpu_train.py` to the folder of a model: weights in float16, for a ResNet fewer features by PCA.

    python zoo/experiments/gpu_ship.py RUN DATA OUT [--rank 256 --power 0.25 --shrinkage 1.0]

fits the last linear layer on 10,000 of the pictures in DATA, without labels. RUN may be a model that has such a layer;
it gets another. `--pooling-grid` averages the last map over other parts, or adds maps of earlier stages to the
features; `--image-size` lets it see larger pictures than in training.
"""

import argparse
import os
import pathlib
import shutil

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import torch

from memssl_keras import from_pretrained, save_pretrained
from memssl_keras.data.huggingface import open_data
from memssl_keras.encoders.copies import without_whitening
from memssl_keras.training.whiten import raw_features, whitening_of

PICTURES = 10_000


def pooled(encoder, grid):
    """The encoder with other pooling, which has no weights."""
    changes = {"pooling_grid": grid[0] if len(grid) == 1 else grid}
    copy = type(encoder).from_config(encoder.get_config() | changes)
    copy.set_weights(encoder.get_weights())
    return copy


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="Folder of a run, or a model.")
    parser.add_argument("data", help="The pictures that it was trained on.")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rank", type=int, help="Axes that are kept; all features by default.")
    parser.add_argument("--power", type=float, default=0.25, help="Of whitening along them, 0 for none.")
    parser.add_argument("--shrinkage", type=float, default=1.0)
    parser.add_argument(
        "--pooling-grid",
        type=int,
        nargs="+",
        help="Cells a side of the last map, or of each stage's, 0 for none.",
    )
    parser.add_argument("--image-size", type=int, help="Pixels; those of the training by default.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    encoder = from_pretrained(args.run, image_size=args.image_size)
    if whitening_of(encoder) is not None:
        encoder = without_whitening(encoder)
    if args.pooling_grid:
        encoder = pooled(encoder, args.pooling_grid)
    if args.rank:
        images = open_data(args.data)
        rows = np.random.default_rng(0).permutation(len(images))[:PICTURES]
        reduced = encoder.extended(whitening={"rank": args.rank, "reduce": True})
        layer = reduced.get_layer("whitening")
        layer.fit(raw_features(encoder, (images[int(row)] for row in rows)), args.shrinkage, args.power)
        encoder = reduced
    save_pretrained(encoder, args.out, half=True)
    for name in ("run.json", "metrics.csv"):
        if (found := pathlib.Path(args.run) / name).exists():
            shutil.copy(found, args.out / name)
    print(f"{args.out}: {encoder.count_params():,} parameters, {encoder.embed_dim} numbers a picture")


if __name__ == "__main__":
    main()
