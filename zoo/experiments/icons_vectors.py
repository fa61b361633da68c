"""The vectors of the demo's gallery that ship with the package, so that its first start embeds nothing.

    python zoo/experiments/icons_vectors.py

embeds `demo/gallery/icons.parquet` with the demo's model and writes `demo/gallery/vectors/REVISION/icons.safetensors`:
int8, 3 MB. The revision is that of the model's file, so a new model or gallery needs this again; without it the first
start embeds. `map.npy` beside it has the places of 2,000 of them on the map of "Look inside".
"""

import shutil

import numpy as np

from memssl_keras.demo.gallery import open_gallery
from memssl_keras.demo.map import lay_out, map_rows
from memssl_keras.demo.models import DEFAULT, open_model
from memssl_keras.demo.vectors import SHIPPED, embed_gallery, write_shipped


def main():
    model, source = open_model(DEFAULT), open_gallery().source
    embedded = embed_gallery(model.encoder, source, None)
    shutil.rmtree(SHIPPED, ignore_errors=True)
    path = write_shipped(embedded, source, SHIPPED / model.revision)
    again = embed_gallery(model.encoder, source, None, shipped=path.parent)
    least = float(np.min(np.sum(again.vectors * embedded.vectors, 1)))
    np.save(path.with_name("map.npy"), lay_out(again.vectors[map_rows(len(again.vectors))]))
    print(
        f"{path}: {len(embedded.rows):,} vectors, {path.stat().st_size / 1e6:.2f} MB, cosine {least:.5f} or more"
    )


if __name__ == "__main__":
    main()
