"""Histograms of oriented gradients, a baseline for `memssl evaluate`: `PYTHONPATH=zoo/experiments … hog:features`.

Needs scikit-image, which is no dependency of the package.

References:
    Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
"""

import numpy as np
from PIL import Image

from memssl_keras.images import read_image


def features(images, size=64):
    """HOG of images brought to `size` px in grey: 8 × 8 px a cell, 2 × 2 cells a block, `(N, 1764)` at 64 px."""
    from skimage.feature import hog

    pictures = (Image.fromarray(read_image(image)).convert("L").resize((size, size)) for image in images)
    return np.stack(
        [hog(np.asarray(p), pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for p in pictures]
    ).astype("float32")
