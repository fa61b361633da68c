"""Pictures in and out of the page: what visitors bring, within limits, and what the gallery shows, as files."""

from __future__ import annotations

import base64
import functools
import io
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.responses import Response
from starlette.routing import Route

from memssl_keras.images.read import ImageError, read_image

MOST_PIXELS = 50_000_000
_LONGEST_SIDE = 192  # pixels of a thumbnail: sharp on a dense screen at the size of a card
_LARGE_SIDE = 1024  # pixels of a picture of the gallery that becomes the query
_decoding = threading.BoundedSemaphore(2)  # a picture of 50 megapixels takes some 300 MB while it is decoded


def read_upload(path) -> np.ndarray:
    """Read what a visitor brought, as `read_image` does, uint8 `(H, W, 3)`; two at a time.

    Raises:
        ImageError: it cannot be read, or holds more than 50 million pixels.
    """
    name = Path(path).name
    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except Exception:
        width = height = 0  # `read_image` says what is wrong
    if width * height > MOST_PIXELS:
        millions = (
            f"{width * height / 1e6:.0f} megapixels are more than the {MOST_PIXELS / 1e6:.0f} that are read"
        )
        raise ImageError(name, f"{width} x {height} pixels: {millions}")
    with _decoding:
        try:
            return read_image(path)
        except ImageError as error:
            raise ImageError(name, error.reason) from error


def cut(pixels: np.ndarray, part) -> np.ndarray:
    """The part of an image in a box of fractions (left, top, right, bottom), at least one pixel.

    Raises:
        ValueError: the four are no fractions of 0 … 1, or the box is empty.
    """
    height, width = pixels.shape[:2]
    try:
        left, top, right, bottom = (float(value) for value in part)
    except (TypeError, ValueError):
        left = right = top = bottom = 0.0
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError(f"part: got {part!r}; expected left < right and top < bottom between 0 and 1")
    x, y = min(int(left * width), width - 1), min(int(top * height), height - 1)
    return pixels[y : max(y + 1, round(bottom * height)), x : max(x + 1, round(right * width))]


def data_uri(pixels: np.ndarray) -> str:
    """A small picture for the eyes of one visitor: within the page, under no address."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    return "data:image/webp;base64," + base64.b64encode(_webp(picture)).decode()


def _webp(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=90)
    return buffer.getvalue()


class Pictures:
    """Serves the galleries' pictures as thumbnails, by number and by nothing else.

    What is served was decoded as an image and encoded anew, so that no other file can be had through a gallery.
    """

    def __init__(self):
        self._galleries = {}
        self._thumbnail = functools.lru_cache(maxsize=4096)(self._make)
        self.route = Route("/gallery/{key}/{row:int}.webp", self._serve)

    def add(self, gallery) -> None:
        """Serve the pictures of a gallery, or of a memory, at `address(gallery, row)`."""
        self._galleries[gallery.key] = gallery

    def _make(self, key, row):
        picture = Image.fromarray(self._galleries[key].read(row))
        picture.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
        return _webp(picture)

    def _serve(self, request):
        key, row = request.path_params["key"], request.path_params["row"]
        if key not in self._galleries or not 0 <= row < len(self._galleries[key]):
            return Response("no such picture", 404, media_type="text/plain")
        try:
            data = self._thumbnail(key, row)
        except ImageError:
            return Response("this picture is gone or damaged", 410, media_type="text/plain")
        forever = {"Cache-Control": "private, max-age=86400"}
        return Response(data, media_type="image/webp", headers=forever)


def address(gallery, row: int) -> str:
    """Where `Pictures` serves a picture, relative to the page."""
    return f"gallery/{gallery.key}/{row}.webp"


class Shown:
    """Remembers which pictures of the gallery went to the page as queries, the last 1000, by their pixels."""

    def __init__(self):
        self._rows: OrderedDict[bytes, int] = OrderedDict()

    def prepare(self, pixels: np.ndarray, row: int, digest) -> Image.Image:
        """A picture of the gallery at a size that a page shows; `get` knows it again."""
        picture = Image.fromarray(pixels)
        picture.thumbnail((_LARGE_SIDE, _LARGE_SIDE))
        self._rows[digest(np.asarray(picture))] = row
        while len(self._rows) > 1000:
            self._rows.popitem(last=False)
        return picture

    def get(self, digest: bytes) -> int | None:
        return self._rows.get(digest)
