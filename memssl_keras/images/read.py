"""Read whatever counts as an image into one form: 8-bit RGB, upright, on white."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from memssl_keras.files import printable
from memssl_keras.images.depth import chosen_bits, to_8_bits
from memssl_keras.images.upright import Picture, upright

HEIF_SUFFIXES = (".heic", ".heif", ".hif")  # what telephones write

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


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
            `(H, W)`, `(H, W, 1)`, `(H, W, 3)` or `(H, W, 4)`: uint8, uint16, or floats in [0, 1]; a fourth channel is
            alpha.

    Returns:
        uint8 array `(H, W, 3)`. An array that is one already is returned itself, not copied.

    Raises:
        ImageError: the file is missing, empty, truncated or not an image, holds more pixels than
            `PIL.Image.MAX_IMAGE_PIXELS`, which the environment variable `MEMSSL_MAX_PIXELS` sets, or the array has
            another shape, dtype or range.
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
    _set_limit()
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        reason = "not an image, or cut off in its header, or a format that Pillow does not read"
        raise ImageError(name, reason) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        size = str(error).partition(", could be")[0]
        raise ImageError(name, f"{size}; MEMSSL_MAX_PIXELS raises it") from None
    except Exception as error:
        raise ImageError(name, f"damaged ({error})") from error
    with image:
        return _decode(image, name, least)


def _set_limit() -> None:
    """Pillow's limit of pixels, where `MEMSSL_MAX_PIXELS` says another: larger pictures may be made to fill memory."""
    chosen = os.environ.get("MEMSSL_MAX_PIXELS")
    if not chosen:
        return
    if not chosen.isdigit() or not int(chosen):
        raise ValueError(f"MEMSSL_MAX_PIXELS={chosen!r}: expected a number of pixels")
    Image.MAX_IMAGE_PIXELS = int(chosen)


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
        raise ImageError(name, f"{reason}; MEMSSL_MAX_PIXELS={image.width * image.height} raises it")
    if 0 in image.size:
        raise ImageError(name, f"has no pixels ({image.width} x {image.height})")
    picture = Picture.whole(image)
    if least and image.format == "JPEG" and (drafted := image.draft(image.mode, (least, least))):
        picture = picture._replace(box=drafted[1])
    chosen_bits()  # a wrong setting is no damage
    try:
        image.load()
        picture = upright(picture)
        return picture._replace(pixels=_to_rgb(picture.pixels, name))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes decoders raise nearly anything
        raise ImageError(name, f"truncated or damaged ({error})") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    # Pillow's own conversion clips wide greyscale to 255 instead of scaling it.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image)
        grey = to_8_bits(wide, name)
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


def _from_array(array: np.ndarray, name: str = "image array") -> np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)) or 0 in array.shape:
        raise ImageError(name, f"shape {array.shape}; expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if np.issubdtype(array.dtype, np.floating):
        low, high = array.min(), array.max()
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ImageError(name, f"floats from {low:.6g} to {high:.6g}; expected floats in [0, 1]")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = to_8_bits(array, name)
    elif array.dtype != np.uint8:
        raise ImageError(name, f"dtype {array.dtype}; expected uint8, uint16 or floats in [0, 1]")
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[-1] == 1:
        return np.repeat(array, 3, axis=-1)
    if array.shape[-1] == 4:
        return np.array(_to_rgb(Image.fromarray(np.ascontiguousarray(array), "RGBA"), name))
    return array
