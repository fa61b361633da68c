"""From an image to what the encoder takes: resize, centre crop, normalise. Every engine reads it here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace

import numpy as np
from PIL import Image

from memssl_keras.images.read import open_picture
from memssl_keras.images.trim import trimmed
from memssl_keras.images.upright import Picture

_LONGEST = 4  # sides as many times the shortest one are still resized whole, as other libraries do it
_LARGE = 128  # px; of smaller pictures a vector depends more on how they were scaled
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Preprocessing:
    """Turns images into the normalised pixels that an encoder was trained on.

    The shortest side is resized to `resize_size` (Pillow, antialiased), the central square of `image_size`
    is cut out, values are scaled to [0, 1] and normalised per channel. With `squash` the whole picture becomes
    that square instead, whatever its shape, as transformers' `ViTImageProcessor` does it.

    Args:
        image_size: side of the square that comes out, in pixels.
        resize_size: length of the shortest side before the crop; at least `image_size`.
        interpolation: `"bicubic"` or `"bilinear"`.
        mean: per channel (red, green, blue), on the scale [0, 1].
        std: likewise; greater than zero.
        squash: resize to `image_size` × `image_size` without regard to the shape; `resize_size` is then the same.
        trim: of drawings, cut the margin away before all else and leave this much, as a share of the drawing's longer
            side in 0 … 1; None leaves pictures as they are. See `memssl_keras.images.trim`.

    Raises:
        ValueError: a value is of the wrong type or out of range.

    Example:
        >>> import numpy as np
        >>> from memssl_keras.images import Preprocessing
        >>> preprocess = Preprocessing(image_size=32, resize_size=36)
        >>> preprocess(np.zeros((480, 640, 3), "uint8")).shape
        (32, 32, 3)
    """

    image_size: int = 224
    resize_size: int = 256
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    squash: bool = False
    trim: float | None = None

    def __post_init__(self):
        for key in ("image_size", "resize_size"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f"{key}: got {value!r}; expected a number of pixels of at least 1")
            object.__setattr__(self, key, int(value))
        if self.resize_size < self.image_size:
            raise ValueError(
                f"resize_size: got {self.resize_size}; expected at least image_size ({self.image_size})"
            )
        if self.interpolation not in _INTERPOLATIONS:
            names = " or ".join(map(repr, _INTERPOLATIONS))
            raise ValueError(f"interpolation: got {self.interpolation!r}; expected {names}")
        for key in ("mean", "std"):
            object.__setattr__(self, key, _three_numbers(key, getattr(self, key)))
        if min(self.std) <= 0:
            raise ValueError(f"std: got {self.std}; expected numbers greater than 0")
        if not isinstance(self.squash, bool):
            raise ValueError(f"squash: got {self.squash!r}; expected true or false")
        numeric = isinstance(self.trim, (int, float)) and not isinstance(self.trim, bool)
        if self.trim is not None and not (numeric and 0 <= self.trim <= 1):
            raise ValueError(f"trim: got {self.trim!r}; expected a share in 0 … 1, or null")
        if self.squash and self.resize_size != self.image_size:
            raise ValueError(
                f"resize_size: got {self.resize_size}; with squash expected image_size ({self.image_size})"
            )

    def at(self, image_size: int, patch_size: int = 1) -> Preprocessing:
        """The same at another image size: `resize_size` grows in proportion, everything else stays.

        Args:
            image_size: side of the square that comes out, in pixels.
            patch_size: of the encoder; `image_size` has to be a multiple of it, unless it is the present one.

        Raises:
            ValueError: as `check_image_size` does.

        Example:
            >>> from memssl_keras.images import Preprocessing
            >>> Preprocessing(image_size=224, resize_size=256).at(448).resize_size
            512
        """
        check_image_size(image_size)
        if image_size == self.image_size:
            return self
        check_image_size(image_size, patch_size)
        resize_size = round(self.resize_size * image_size / self.image_size)
        return replace(self, image_size=image_size, resize_size=resize_size)

    def to_dict(self) -> dict:
        """Return the settings as plain JSON values, as they stand in a model's `config.json`.

        `squash` is left out where it is false and `trim` where it is None, as `from_dict` has them.
        """
        settings = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        if not self.squash:
            del settings["squash"]
        if self.trim is None:
            del settings["trim"]
        return settings

    @classmethod
    def from_dict(cls, settings: dict) -> Preprocessing:
        """Rebuild from `to_dict()`.

        Raises:
            ValueError: a key is missing or unknown, or a value is out of range.
        """
        keys = [field.name for field in fields(cls)]
        expected = f"expected {', '.join(keys)}"
        if not isinstance(settings, dict):
            raise ValueError(f"preprocessing: got {settings!r}; {expected}")
        if missing := [key for key in keys if key not in settings and key not in ("squash", "trim")]:
            raise ValueError(f"preprocessing: {', '.join(missing)} missing; {expected}")
        if unknown := [str(key) for key in settings if key not in keys]:
            raise ValueError(f"preprocessing: unknown {', '.join(unknown)}; {expected}")
        return cls(**settings)

    def __call__(self, image, scaled_decoding: bool = True) -> np.ndarray:
        """Preprocess one image.

        Args:
            image: anything that `memssl_keras.images.read_image` takes.
            scaled_decoding: decode a JPEG at a half, a quarter or an eighth of its size where its sides stay at least
                twice `image_size`, four times below 128 px, and at least `resize_size`, so that the antialiased resize
                still decides the pixels; several times faster for photographs, with vectors that hardly differ.

        Returns:
            float32 array `(image_size, image_size, 3)`.

        Raises:
            ImageError: the image cannot be read.
        """
        # How much of a picture is margin is not known before it is decoded.
        scaled_decoding = scaled_decoding and self.trim is None
        least = max(self.image_size * (2 if self.image_size >= _LARGE else 4), self.resize_size)
        picture = open_picture(image, least if scaled_decoding else None)
        if self.trim is not None:
            picture = Picture.whole(trimmed(picture.pixels, self.trim))
        pixels = np.asarray(self._resize_and_crop(picture), np.float32)
        return (pixels / 255 - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)

    def batch(self, images: Iterable, scaled_decoding: bool = True) -> np.ndarray:
        """Preprocess several images into float32 `(N, image_size, image_size, 3)`; see `__call__`."""
        stack = [self(image, scaled_decoding) for image in images]
        return np.stack(stack) if stack else np.empty((0, self.image_size, self.image_size, 3), np.float32)

    def _resize_and_crop(self, picture: Picture) -> Image.Image:
        (width, height), size = picture.size, self.image_size
        image, shortest, resampling = picture.pixels, min(width, height), _INTERPOLATIONS[self.interpolation]
        if self.squash:
            return image.resize((size, size), resampling, box=picture.box)
        wide, high = width * self.resize_size // shortest, height * self.resize_size // shortest
        left, top = round((wide - size) / 2), round((high - size) / 2)
        if shortest == self.resize_size:
            return image.crop((left, top, left + size, top + size))
        if image.size == picture.size and max(wide, high) <= _LONGEST * self.resize_size:
            return image.resize((wide, high), resampling).crop((left, top, left + size, top + size))
        # Of a longer image only what the crop shows is resized: the whole of one of 1 x 4000 would become
        # 256 x 1,024,000 first. Pillow filters across the edges of the box, but has them in single precision: a
        # value may be rounded otherwise. Of one that was decoded at a fraction values differ anyway.
        x, y, right, bottom = picture.box
        across, down = (right - x) / wide, (bottom - y) / high
        box = (x + left * across, y + top * down, x + (left + size) * across, y + (top + size) * down)
        return image.resize((size, size), resampling, box=box)


def check_image_size(image_size: int, patch_size: int = 1) -> None:
    """Raise ValueError for a side of square images that is no positive multiple of the patch, in pixels."""
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 1:
        raise ValueError(f"image_size={image_size!r}: expected a number of pixels of at least 1")
    if image_size % patch_size:
        below = image_size // patch_size * patch_size
        near = " or ".join(str(n) for n in (below, below + patch_size) if n)
        raise ValueError(
            f"image_size={image_size}: expected a multiple of the patch of {patch_size} px, such as {near}"
        )


def _three_numbers(key: str, value) -> tuple[float, float, float]:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{key}: got {value!r}; expected three finite numbers: red, green, blue")
    return numbers
