"""Pictures turned upright, also such as were decoded at a fraction of their size."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image

_T = Image.Transpose
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what turns the stored pixels into the picture that was taken
    2: _T.FLIP_LEFT_RIGHT,
    3: _T.ROTATE_180,
    4: _T.FLIP_TOP_BOTTOM,
    5: _T.TRANSPOSE,
    6: _T.ROTATE_270,
    7: _T.TRANSVERSE,
    8: _T.ROTATE_90,
}
_SIDEWAYS = {_T.TRANSPOSE, _T.TRANSVERSE, _T.ROTATE_90, _T.ROTATE_270}  # what was above is now at a side
_FROM_RIGHT = {_T.FLIP_LEFT_RIGHT, _T.ROTATE_180, _T.ROTATE_270, _T.TRANSVERSE}  # what was first is now last
_FROM_BELOW = {_T.FLIP_TOP_BOTTOM, _T.ROTATE_180, _T.ROTATE_90, _T.TRANSVERSE}


class Picture(NamedTuple):
    """An upright RGB picture, perhaps decoded at a fraction of its size.

    Attributes:
        pixels: What was decoded.
        size: Width and height of the full picture.
        box: What the full picture covers of `pixels`: left, top, right and bottom. Of a size that the fraction does
            not divide, the last row and column of `pixels` lie partly outside.
    """

    pixels: Image.Image
    size: tuple[int, int]
    box: tuple[float, float, float, float]

    @classmethod
    def whole(cls, pixels: Image.Image) -> Picture:
        """A picture at its full size."""
        return cls(pixels, pixels.size, (0, 0, *pixels.size))


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns the stored pixels upright; None where they are."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata around good pixels: keep the picture as stored
        return None


def upright(picture: Picture) -> Picture:
    """The picture turned as the EXIF data of its pixels say."""
    turn = _turn(picture.pixels)
    if turn is None:
        return picture
    turned = picture.pixels.transpose(turn)
    turned.format = picture.pixels.format
    size, (left, top, right, bottom) = picture.size, picture.box
    if turn in _SIDEWAYS:
        size, (left, top, right, bottom) = size[::-1], (top, left, bottom, right)
    if turn in _FROM_RIGHT:
        left, right = turned.width - right, turned.width - left
    if turn in _FROM_BELOW:
        top, bottom = turned.height - bottom, turned.height - top
    return Picture(turned, size, (left, top, right, bottom))
