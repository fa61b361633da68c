# %% [markdown]
# # Your own photographs, end to end
#
# Adapt a bundled encoder to a folder of photographs, export it in int8, embed the folder, and search it by a picture.
# Without a folder of your own, 96 tiles of two photographs stand in for one (scikit-learn's sample images, by
# danielbuechele, CC BY 2.0).
#
#     python docs/examples/own_photographs.py photos/

# %%
import pathlib
import sys

from memssl_keras import OnnxEncoder, export_onnx, from_pretrained
from memssl_keras.data.huggingface import open_data
from memssl_keras.embedding.embed import embed
from memssl_keras.embedding.table import draw_sheet, nearest, read_embeddings
from memssl_keras.training.adapt import adapt_recipe
from memssl_keras.training.pretrain import pretrain

OUT = pathlib.Path("own-photographs")


def tiles(folder, side=106):
    """The two photographs, cut into tiles."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    for number, photograph in enumerate(load_sample_images().images):
        for top in range(0, photograph.shape[0] - side + 1, 64):
            for left in range(0, photograph.shape[1] - side + 1, 64):
                tile = Image.fromarray(photograph[top : top + side, left : left + side])
                tile.save(folder / f"photo-{number}-{top:03}-{left:03}.png")
    return folder


photos = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else tiles(OUT / "photos")

# %% [markdown]
# ## Adapt
# The recipe follows from the encoder and the number of pictures. The folder of the run resumes after an interruption.

# %%
encoder, images = from_pretrained("massl_resnet14.cifar10"), open_data(str(photos))
recipe = adapt_recipe(encoder, len(images), epochs=3)
print(f"{len(images)} pictures, {recipe.epochs} epochs, a memory of {recipe.memory_size}")
model = pretrain(recipe, images, OUT / "run", init=encoder)

# %% [markdown]
# ## Export, embed, search
# int8 is calibrated with the photographs, and verified against the Keras model before it is saved.

# %%
export_onnx(model.encoder, OUT / "run", variants=["fp32", "int8"], images=[images[i] for i in range(64)])
embed([str(photos)], str(OUT / "run"), OUT / "photos.parquet", variant="int8")
stored = read_embeddings(OUT / "photos.parquet")
queries = [stored.locate(stored.images[row]) for row in (len(images) * 3 // 8, len(images) * 7 // 10)]
vectors = OnnxEncoder.from_pretrained(OUT / "run", variant="int8").embed(queries)
found = nearest(stored, vectors, k=6)

# %%
draw_sheet(stored, queries, found, OUT / "neighbours.png")
for query, neighbours in zip(queries, found, strict=True):
    names = [
        f"{pathlib.Path(stored.images[row]).name} {similarity:.2f}" for row, similarity in neighbours[1:4]
    ]
    print(pathlib.Path(query).name, "→", ", ".join(names))
