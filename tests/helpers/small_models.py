"""Small models and images for tests that need one but none in particular."""

import numpy as np


def small_vit(**changes):
    """A ViT of 32-px images that builds in milliseconds."""
    from memssl_keras import ViT

    return ViT(**{"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "image_size": 32, **changes})


def rich_vit(**changes):
    """One with registers and layer scale, every weight moved off its initial value; the same every time."""
    encoder = small_vit(register_tokens=2, layer_scale=0.1, **changes)
    rng = np.random.default_rng(0)
    start = [w if w.ndim == 1 else 0 for w in encoder.get_weights()]  # what is random would differ each time
    shapes = [w.shape for w in encoder.get_weights()]
    moved = [w + rng.normal(0, 0.1, shape) for w, shape in zip(start, shapes, strict=True)]
    encoder.set_weights([w.astype("float32") for w in moved])
    return encoder


def small_cnn(size=32, width=12):
    """A functional Keras model with batch norm, no ViT: `(B, size, size, 3)` → `(B, width)`."""
    from keras import Input, Model, layers

    images = Input((size, size, 3))
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(images)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(width, 3, strides=2, name="deep")(x)
    return Model(images, layers.GlobalAveragePooling2D(name="pool")(x), name="cnn")


def small_massl(encoder=None, **changes):
    """A compiled MaSSL with a memory of 40."""
    from memssl_keras import AdamW, MaSSL

    sizes = {"memory_size": 40, "block_size": 10, "hidden_dim": 32, "output_dim": 16}
    model = MaSSL(encoder or small_vit(), **{**sizes, **changes})
    model.compile(AdamW(1e-3, clipnorm=3.0))
    return model


def small_crops(**changes):
    """A MultiCrop of 2 × 32 and 2 × 16 px."""
    from memssl_keras import MultiCrop

    return MultiCrop(**{"global_size": 32, "local_size": 16, "local_views": 2, **changes})


def pictures(count=8, size=40, seed=0):
    """Smooth colour pictures `(count, size, size, 3)` uint8, each different."""
    from PIL import Image

    coarse = np.random.default_rng(seed).integers(0, 256, (count, 5, 5, 3), np.uint8)
    smooth = [Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC) for c in coarse]
    return np.stack([np.asarray(picture) for picture in smooth])


def position_waves(rows, columns, width=24):
    """Positions of patches `(rows · columns, width)`: sines and cosines of both axes, as MAE and MoCo v3 have them."""
    rates = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    places = np.mgrid[:rows, :columns].reshape(2, -1, 1)
    return np.concatenate([part(axis * rates) for axis in places for part in (np.sin, np.cos)], 1)


def varied(encoder, seed=0):
    """The encoder, with weights that are large enough to tell one from another by what comes out."""
    rng = np.random.default_rng(seed)
    for variable in encoder.weights:
        variable.assign(variable.numpy() + rng.normal(0, 0.1, variable.shape))
    return encoder


def same_weights(model, other):
    """Whether every weight of two models is bit-identical."""
    ours, theirs = model.get_weights(), other.get_weights()
    return len(ours) == len(theirs) and all(map(np.array_equal, ours, theirs))


def small_recipe(name, encoder=None, **changes):
    """A recipe of seconds for a small ViT."""
    from memssl_keras.training.recipe import Recipe

    settings = {
        "epochs": 3,
        "batch_size": 4,
        "warmup_epochs": 1,
        "memory_size": 30,
        "block_size": 10,
        "hidden_dim": 32,
        "output_dim": 16,
        "batch_norm": True,
    }
    vit = {"embed_dim": 24, "depth": 2, "num_heads": 3, "patch_size": 8, "image_size": 32}
    return Recipe(name, {**vit, **(encoder or {})}, small_crops(), **{**settings, **changes})
