"""An image file becomes pixels: reading, preprocessing, thumbnails. Needs numpy and Pillow alone."""

from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.images.read import IMAGE_SUFFIXES, ImageError, list_images, read_image, thumbnail
from memssl_keras.images.sheet import draw_rows

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageError",
    "Preprocessing",
    "draw_rows",
    "list_images",
    "read_image",
    "thumbnail",
]
