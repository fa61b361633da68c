"""An image file becomes pixels: reading, preprocessing, thumbnails. Needs numpy and Pillow alone."""

from memssl_keras.images.listing import Listing, find_images, list_images
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.images.read import ImageError, read_image
from memssl_keras.images.sheet import draw_rows, thumbnail

__all__ = [
    "ImageError",
    "Listing",
    "Preprocessing",
    "draw_rows",
    "find_images",
    "list_images",
    "read_image",
    "thumbnail",
]
