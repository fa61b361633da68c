"""A pretraining run of seconds with what it was trained on, as a Parquet file; and its model with memory, exported."""

import dataclasses
import io

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tiny_run import RECIPE

from memssl_keras.data.sources import open_source
from memssl_keras.images import Preprocessing
from memssl_keras.training.recipe import Recipe

PIXELS = {
    "image_size": 32,
    "resize_size": 32,
    "interpolation": "bicubic",
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
}
RESNET = Recipe(
    "residual",
    {
        "blocks": (1, 1),
        "width": 8,
        "stem": "half",
        "preprocessing": Preprocessing.from_dict(PIXELS).to_dict(),
    },
    RECIPE.views,
    family="resnet",
    **{
        name: getattr(RECIPE, name)
        for name in (
            "epochs",
            "batch_size",
            "memory_size",
            "block_size",
            "hidden_dim",
            "output_dim",
            "batch_norm",
        )
    },
)
RECIPES = {"vit": dataclasses.replace(RECIPE, epochs=2), "resnet": dataclasses.replace(RESNET, epochs=2)}
CREDITS = "Waves, drawn for this test, public domain"


def write_pictures(path, images, names=None):
    """Images `(N, H, W, 3)` uint8 as a Parquet file with the column `image`, and `name` where given."""
    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    columns = {"image": rows} | ({"name": names} if names else {})
    pq.write_table(pa.table(columns), path)
    return path


def train(folder, data, family="vit", **options):
    """A run of that family on the pictures of a Parquet file; returns the `MaSSL`."""
    from memssl_keras.training.pretrain import pretrain

    options = {"checkpoint_every": 1000, "say": lambda line: None, "seed": 5, **options}
    return pretrain(RECIPES[family], open_source(data), folder, **options)
