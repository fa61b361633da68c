# %% [markdown]
# # Defects, with five examples a class
#
# Surfaces of four kinds, drawn here: sound, scratched, stained, and with a missing thread. Five labelled pictures of
# each kind teach a class mean on the features of an encoder that has seen none of them; the rest is sorted by it.
#
#     python docs/examples/defects.py

# %%
import os
import pathlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from memssl_keras import OnnxEncoder
from memssl_keras.evaluate.embedders import pixels
from memssl_keras.evaluate.protocols.features import unit
from memssl_keras.evaluate.protocols.lowshot import classify
from memssl_keras.images import draw_rows

OUT, SIDE, SHOTS, SIZES = pathlib.Path("defects"), 96, 5, (16, 24, 32, 40)
OUT.mkdir(exist_ok=True)
EACH = int(os.environ.get("PICTURES", 60))  # of a kind
KINDS = ("sound", "scratched", "stained", "missing thread")


def surface(kind, rng):
    """A woven surface with one defect, or none."""
    y, x = np.mgrid[:SIDE, :SIDE]
    period, turn = rng.uniform(5, 9), rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    weave = np.sin(2 * np.pi * along / period) * np.sin(2 * np.pi * across / period)
    values = rng.uniform(110, 170) + 35 * weave + rng.normal(0, 6, (SIDE, SIDE))
    if kind == "missing thread":
        at = rng.uniform(-0.2, 0.2) * SIDE + (SIDE / 2) * (np.cos(turn) - np.sin(turn))
        values = np.where(np.abs(across - at) < period / 2, values.mean() - 45, values)
    picture = Image.fromarray(values.clip(0, 255).astype("uint8"))
    place = rng.uniform(0.25, 0.75, 2) * SIDE
    if kind == "scratched":
        turned, reach = rng.uniform(0, np.pi), rng.uniform(0.3, 0.5) * SIDE
        ends = [place + sign * reach * np.array([np.cos(turned), np.sin(turned)]) for sign in (-1, 1)]
        ImageDraw.Draw(picture).line([tuple(end) for end in ends], fill=int(rng.uniform(215, 245)), width=2)
    if kind == "stained":
        mask, radius = Image.new("L", (SIDE, SIDE)), rng.uniform(0.12, 0.25) * SIDE
        ImageDraw.Draw(mask).ellipse([*(place - radius), *(place + radius)], fill=200)
        picture.paste(int(rng.uniform(30, 70)), (0, 0), mask.filter(ImageFilter.GaussianBlur(4)))
    return picture.convert("RGB")


rng = np.random.default_rng(0)
images = [surface(kind, rng) for kind in KINDS for _ in range(EACH)]
labels = np.repeat(np.arange(len(KINDS)), EACH)

# %% [markdown]
# ## Five of each kind, at four image sizes
# The same five for the encoder and for plain pixels, ten draws. The weave is finer than the defects: a small picture
# blurs it away. Try the sizes on a few labelled pictures of your own.


# %%
def accuracy(vectors):
    """Share of the pictures that were not taught which the class mean gets right."""
    right = []
    for draw in range(10):
        order = np.random.default_rng(draw)
        taught = np.concatenate(
            [order.choice(np.flatnonzero(labels == k), SHOTS, replace=False) for k in range(len(KINDS))]
        )
        asked = np.setdiff1d(np.arange(len(labels)), taught)
        right.append(
            np.mean(classify("class mean", vectors[taught], labels[taught], vectors[asked]) == labels[asked])
        )
    return np.mean(right)


def encoded(side):
    return OnnxEncoder.from_pretrained("massl_resnet14.cifar10", image_size=side).embed(images)


def plain(side):
    return unit(pixels(images, side, centred=True), "pixels")


features = {side: encoded(side) for side in SIZES}
for name, by_size in (
    ("massl_resnet14.cifar10", features),
    ("pixels, mean-centred", {s: plain(s) for s in SIZES}),
):
    print(f"{name}: {', '.join(f'{s} px {accuracy(vectors):.1%}' for s, vectors in by_size.items())}")

# %% [markdown]
# ## What looks most like a defect

# %%
vectors, rows = features[SIZES[0]], []
for kind in range(len(KINDS)):
    query = int(np.flatnonzero(labels == kind)[0])
    similarities = vectors @ vectors[query]
    similarities[query] = -1
    rows.append((images[query], [(images[i], float(similarities[i])) for i in np.argsort(-similarities)[:6]]))
draw_rows(rows, OUT / "alike.png")
