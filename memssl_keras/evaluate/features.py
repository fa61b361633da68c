"""Features to evaluate: an encoder's, and what it has to beat."""

import numpy as np
from PIL import Image

from memssl_keras.images import read_image


def unit(features, name):
    """Features `(N, D)` as float32 rows of unit length.

    Raises:
        ValueError: naming them, where they have another shape or are not finite.
    """
    features = np.asarray(features, "float32")
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"{name} has shape {features.shape}: expected finite features (N, D)")
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def pixels(images, size, centred=False):
    """Pixels as features, the baseline that an encoder has to beat: `(N, size · size · 3)` float32, 0 … 255.

    Args:
        images: What `read_image` takes.
        size: Side in pixels to which each image is resized.
        centred: Subtract each image's own mean. That takes brightness out, which raw pixels are mostly compared by,
            and makes the baseline much harder to beat.
    """
    rows = []
    for image in images:
        picture = Image.fromarray(read_image(image)).resize((size, size), Image.Resampling.BICUBIC)
        row = np.asarray(picture, "float32").ravel()
        rows.append(row - row.mean() if centred else row)
    return np.stack(rows)


def extractors(encoder):
    """Name → function from a list of images to features `(N, D)`: pixels, the encoder untrained, the encoder.

    The untrained one has the same architecture and weights drawn with seed 0.
    """
    import keras

    from memssl_keras.pretrained import embed, preprocessing_of

    keras.utils.set_random_seed(0)
    untrained, size = type(encoder).from_config(encoder.get_config()), preprocessing_of(encoder).image_size
    return {
        f"raw pixels, {size} px": lambda images: pixels(images, size),
        f"pixels less their mean, {size} px": lambda images: pixels(images, size, centred=True),
        "the encoder, untrained": lambda images: embed(untrained, images, batch_size=250),
        "the encoder": lambda images: embed(encoder, images, batch_size=250),
    }


def extract(extractor, images, chunk=500, track=iter):
    """Features of a whole sequence, `chunk` images at a time; `track` wraps the chunks' starts, for a progress bar."""
    starts = range(0, len(images), chunk)
    parts = [extractor([images[i] for i in range(s, min(s + chunk, len(images)))]) for s in track(starts)]
    return np.concatenate(parts)
