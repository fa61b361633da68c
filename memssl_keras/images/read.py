"""Read whatever counts as an image into one form: 8-bit RGB, upright, on white."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from memssl_keras.files import printable

HEIF_SUFFIXES = (".heic", ".heif", ".hif")  # what telephones write

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {  # EXIF orientation -> what turns the stored pixels into the picture that was taken
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_T = Image.Transpose
_SIDEWAYS = {_T.TRANSPOSE, _T.TRANSVERSE, _T.ROTATE_90, _T.ROTATE_270}  # what was above is now at a side
_FROM_RIGHT = {
    _T.FLIP_LEFT_RIGHT,
    _T.ROTATE_180,
    _T.ROTATE_270,
    _T.TRANSVERSE,
}  # what was first is now at the right
_FROM_BELOW = {_T.FLIP_TOP_BOTTOM, _T.ROTATE_180, _T.ROTATE_90, _T.TRANSVERSE}


class ImageError(ValueError):
    """An image that cannot be read. `str(error)` is `"{name}: {reason}"`; both are attributes."""

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self):  # both arguments, so that the error crosses from a worker process
        return type(self), (self.name, self.reason)


def read_image(source: Any) -> np.ndarray:
    """Read an image as 8-bit RGB.

    EXIF rotation is applied, transparency is laid on white, 16-bit greyscale is scaled to 8 bits, CMYK and
    palettes become RGB, and the first frame stands for an animation. A 16-bit picture whose values stay below 4,096 or
    16,384 is read as one of 12 or 14 bits, with a warning; the environment variable `MEMSSL_BIT_DEPTH` decides instead.

    Args:
        source: a path, the bytes of an image file, a PIL image (its current frame), or an array of shape
            `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`: uint8, uint16 over its whole range, or
            floats in [0, 1]; a fourth channel is alpha.

    Returns:
        uint8 array `(H, W, 3)`. An array that is one already is returned itself, not copied.

    Raises:
        ImageError: the file is missing, empty, truncated or not an image, holds more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`, or the array has another shape, dtype or range.
        TypeError: `source` is of another type.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.images import read_image
        >>> read_image(np.full((2, 3), 65535, "uint16"))[0, 0]
        array([255, 255, 255], dtype=uint8)
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    return np.array(open_picture(source).pixels)


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


def open_picture(source: Any, least: int | None = None) -> Picture:
    """Read an image as an upright RGB picture of Pillow, without the copies that `read_image` makes.

    Args:
        source: as `read_image` takes it.
        least: a JPEG may be decoded at a half, a quarter or an eighth of its size, which is several times faster, as
            long as both sides stay at least this many pixels; None for full size.

    Raises:
        ImageError, TypeError: as `read_image` does.
    """
    if isinstance(source, np.ndarray):
        return Picture.whole(Image.fromarray(_from_array(source)))
    if isinstance(source, Image.Image):
        return _decode(source, str(getattr(source, "filename", "") or "PIL image"))
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        return _from_bytes(data, f"image of {len(data)} bytes", least)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return _from_bytes(_read_file(path), printable(path), least)
    raise TypeError(
        f"source: got {type(source).__name__}; expected a path, bytes, a PIL image or a numpy array"
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(printable(path), "no such file") from None
    except IsADirectoryError:
        raise ImageError(printable(path), "is a folder; an image file was expected") from None
    except OSError as error:
        raise ImageError(printable(path), f"cannot be opened ({error.strerror or error})") from error


def _from_bytes(data: bytes, name: str, least: int | None) -> Picture:
    if not data:
        raise ImageError(name, "the file is empty")
    if _is_heif(data):
        _register_heif(name)
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        reason = "not an image, or cut off in its header, or a format that Pillow does not read"
        raise ImageError(name, reason) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(name, str(error)) from None
    except Exception as error:
        raise ImageError(name, f"damaged ({error})") from error
    with image:
        return _decode(image, name, least)


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def _register_heif(name: str) -> None:
    """Let Pillow read HEIF, where the package for it is installed."""
    if "HEIF" in Image.OPEN:
        return
    try:
        import pillow_heif
    except ImportError:
        raise ImageError(name, "a HEIC or HEIF picture; pip install pillow-heif to read it") from None
    pillow_heif.register_heif_opener()


def _decode(image: Image.Image, name: str, least: int | None = None) -> Picture:
    # Pillow only warns between its limit and twice its limit; half-hearted here would be out of memory later.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        reason = f"{image.width} x {image.height} pixels are more than the limit of {limit}"
        raise ImageError(name, f"{reason} (PIL.Image.MAX_IMAGE_PIXELS)")
    if 0 in image.size:
        raise ImageError(name, f"has no pixels ({image.width} x {image.height})")
    picture = Picture.whole(image)
    if least and image.format == "JPEG" and (drafted := image.draft(image.mode, (least, least))):
        picture = picture._replace(box=drafted[1])
    _chosen_bits()  # a wrong setting is no damage
    try:
        image.load()
        picture = _turned(picture, _turn(image))
        return picture._replace(pixels=_to_rgb(picture.pixels, name))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        raise ImageError(name, f"truncated or damaged ({error})") from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns the stored pixels upright; None where they are."""
    try:
        return _UPRIGHT.get(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # broken metadata around good pixels: keep the picture as stored
        return None


def _turned(picture: Picture, turn: Image.Transpose | None) -> Picture:
    if turn is None:
        return picture
    upright = picture.pixels.transpose(turn)
    upright.format = picture.pixels.format
    size, (left, top, right, bottom) = picture.size, picture.box
    if turn in _SIDEWAYS:
        size, (left, top, right, bottom) = size[::-1], (top, left, bottom, right)
    if turn in _FROM_RIGHT:
        left, right = upright.width - right, upright.width - left
    if turn in _FROM_BELOW:
        top, bottom = upright.height - bottom, upright.height - top
    return Picture(upright, size, (left, top, right, bottom))


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    # Pillow's own conversion clips wide greyscale to 255 instead of scaling it.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image)
        grey = _to_8_bits(wide, name)
        if isinstance(transparent := image.info.get("transparency"), int):
            grey[wide == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "F":
        return Image.fromarray(_from_array(np.asarray(image), name))
    if image.mode == "I":
        raise ImageError(name, "32-bit integer pixels have no fixed range; save it with 8 or 16 bits")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    picture = image.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _to_8_bits(wide: np.ndarray, name: str, bits: int | None = None) -> np.ndarray:
    largest = (1 << (bits or _bits_used(wide, name))) - 1
    return ((wide.astype(np.uint32) * 255 + largest // 2) // largest).clip(0, 255).astype(np.uint8)


def _bits_used(wide: np.ndarray, name: str) -> int:
    """Bits of a 16-bit picture that its values use: cameras and scanners store 12 or 14 bits unscaled."""
    if chosen := _chosen_bits():
        return chosen
    top = int(wide.max())
    bits = next(bits for bits in (12, 14, 16) if top < 1 << bits)
    if top and bits < 16:
        warnings.warn(
            f"{name}: a 16-bit picture whose largest value is {top} is read as one of {bits} bits; "
            "MEMSSL_BIT_DEPTH=16 reads such pictures as they are",
            stacklevel=2,
        )
    return bits


def _chosen_bits() -> int | None:
    """What `MEMSSL_BIT_DEPTH` says; None where it says nothing."""
    chosen = os.environ.get("MEMSSL_BIT_DEPTH")
    if not chosen:
        return None
    if not chosen.isdigit() or not 8 <= int(chosen) <= 16:
        raise ValueError(f"MEMSSL_BIT_DEPTH={chosen!r}: expected a number of bits from 8 to 16")
    return int(chosen)


def _from_array(array: np.ndarray, name: str = "image array") -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)) or 0 in array.shape:
        raise ImageError(name, f"shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if np.issubdtype(array.dtype, np.floating):
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ImageError(name, f"floats from {low:.6g} to {high:.6g}; expected floats in [0, 1]")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = _to_8_bits(array, name, bits=16)
    elif array.dtype != np.uint8:
        raise ImageError(name, f"dtype {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[-1] == 1:
        return np.repeat(array, 3, axis=-1)
    if array.shape[-1] == 4:
        return np.array(_to_rgb(Image.fromarray(np.ascontiguousarray(array), "RGBA"), name))
    return array


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """Fit an image `(H, W, 3)` uint8 into a white square of `side` pixels; those of small pictures stay visible.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.images import thumbnail
        >>> thumbnail(np.zeros((10, 40, 3), "uint8"), 64).getpixel((32, 0))
        (255, 255, 255)
    """
    picture = Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = [max(1, round(edge * scale)) for edge in picture.size]
    picture = picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC)
    square = Image.new("RGB", (side, side), "white")
    square.paste(picture, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square
