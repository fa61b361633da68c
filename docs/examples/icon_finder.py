# %% [markdown]
# # An icon finder
#
# Which icon is this? The bundled icons model finds an icon from a screenshot among the Lucide icons of the demo's
# gallery, and the same thing in Tabler's and Phosphor's hand.
#
#     python docs/examples/icon_finder.py

# %%
import io
import pathlib

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

import memssl_keras
from memssl_keras import OnnxEncoder
from memssl_keras.images import draw_rows

OUT = pathlib.Path("icon-finder")
OUT.mkdir(exist_ok=True)
# In a clone the demo lies beside the package, in an installation inside it.
places = [pathlib.Path(memssl_keras.__file__).parent / "demo", pathlib.Path(__file__).parents[2] / "demo"]
gallery = next(place for place in places if place.is_dir()) / "gallery" / "icons.parquet"
icons = [
    row for row in pq.read_table(gallery).to_pylist() if row["set"] in ("Lucide", "Tabler Icons", "Phosphor")
]
pictures = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("L") for row in icons]

# %% [markdown]
# ## What a screenshot does to an icon
# It is drawn small, in any colour on any ground, and the box around it is never exact.


# %%
def screenshot(icon, side, ink, ground, seed):
    """The icon at `side` px in a box that is a little too large, off centre."""
    rng = np.random.default_rng(seed)
    small = np.asarray(icon.resize((side, side), Image.Resampling.LANCZOS), "float32")[..., None] / 255
    box = np.full((side + 12, side + 12, 3), ground, "float32")
    top, left = rng.integers(0, 12, 2)
    box[top : top + side, left : left + side] = small * ground + (1 - small) * ink
    return box.round().astype("uint8")


names = ["house", "camera", "heart", "bell", "trash", "star"]
white, ink = np.array([255.0, 255, 255]), np.array([30.0, 41, 59])
grounds = [(ink, white), (white, ink), (np.array([37.0, 99, 235]), white)]
lucide = {
    row["name"]: picture for row, picture in zip(icons, pictures, strict=True) if row["set"] == "Lucide"
}
boxes = [
    screenshot(lucide[name], 24, *grounds[number % 3], seed=number)
    for number, name in enumerate(names)
    if name in lucide
]

# %% [markdown]
# ## Find them
# The model cuts the margin away and resizes by itself: its preprocessing lies in its folder.

# %%
encoder = OnnxEncoder.from_pretrained("massl_resnet14.icons", variant="int8")
vectors, asked = encoder.embed([picture.convert("RGB") for picture in pictures]), encoder.embed(boxes)
rows = []
for box, similarities in zip(boxes, asked @ vectors.T, strict=True):
    best = np.argsort(-similarities)[:6]
    rows.append((box, [(pictures[i].convert("RGB"), float(similarities[i])) for i in best]))
    print(", ".join(f"{icons[i]['id']} {similarities[i]:.2f}" for i in best[:4]))
draw_rows(rows, OUT / "found.png", tile=64)
