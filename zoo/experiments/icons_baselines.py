"""What an encoder of icons has to beat, as functions that `memssl evaluate` takes: `icons_baselines:hog`, `…:pixels`.

The folder of this file has to be in PYTHONPATH. HOG needs scikit-image, which is no dependency of the package. Both
trim margins as the icons' encoder does, so that what is compared is what follows.

References:
    Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
"""

import numpy as np
from PIL import Image

from memssl_keras.images import read_image
from memssl_keras.images.trim import trimmed

TRIM = 0.08


def _squares(images, size, mode):
    for image in images:
        picture = trimmed(Image.fromarray(read_image(image)), TRIM)
        yield np.asarray(picture.convert(mode).resize((size, size), Image.Resampling.BICUBIC), np.float32)


def hog(images):
    """HOG of trimmed images at 64 px in grey: 8 × 8 px a cell, 2 × 2 cells a block, `(N, 1764)`."""
    from skimage.feature import hog as of

    return np.stack(
        [of(p, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for p in _squares(images, 64, "L")]
    )


def pixels(images):
    """Mean-centred pixels of trimmed images at 32 px, `(N, 3072)`."""
    rows = np.stack([picture.ravel() for picture in _squares(images, 32, "RGB")])
    return rows - rows.mean(1, keepdims=True)
