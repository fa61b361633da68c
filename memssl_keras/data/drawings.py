"""What happens to a drawing between its file and a screen, on uint8 pixels: colours, size, place, stroke, JPEG.

`MultiCrop` makes views with these where its options ask for them.
"""

from __future__ import annotations

import cv2
import numpy as np

from memssl_keras.data.augmentations import uniform

_LUMA = np.array([0.299, 0.587, 0.114])


def is_grey(image: np.ndarray) -> bool:
    """Whether all pixels of `(h, w, 3)` have three equal channels."""
    red, green, blue = cv2.split(image)
    return not (cv2.absdiff(red, green).any() or cv2.absdiff(green, blue).any())


def background(image: np.ndarray) -> tuple[int, ...]:
    """The colour that most of the four corners have, as a tuple of 3 whole numbers: their median."""
    corners = zip(*(image[y, x].tolist() for y in (0, -1) for x in (0, -1)), strict=True)
    return tuple(sum(sorted(values)[1:3]) // 2 for values in corners)


def recolour(image: np.ndarray, rng: np.random.Generator, contrast: int = 64) -> np.ndarray:
    """Two random colours in place of black and white, greys between them.

    Args:
        image: A picture in greys, `(h, w, 3)` uint8.
        rng: A `numpy.random.Generator`.
        contrast: How far apart the two are in luma at least, of 255; either may be the lighter one.
    """
    ink, paper = np.zeros(3), np.full(3, 255.0)
    for _ in range(40):  # one draw in three will do
        first, second = rng.random((2, 3)) * 255
        if abs((first - second) @ _LUMA) >= contrast:
            ink, paper = first, second
            break
    table = ink + (paper - ink) * (np.arange(256)[:, None] / 255)
    return cv2.LUT(image, table.round().astype(np.uint8)[None])


def stroke(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lines thicker or thinner by a 48th to a 20th of the side: dilated or eroded, with equal chance."""
    side = max(2, round(min(image.shape[:2]) * uniform(rng, 1 / 48, 1 / 20)))
    change = cv2.erode if rng.random() < 0.5 else cv2.dilate
    return change(image, np.ones((side, side), np.uint8), borderType=cv2.BORDER_REPLICATE)


def pad(image: np.ndarray, rng: np.random.Generator, share: tuple[float, float]) -> np.ndarray:
    """The picture somewhere on a larger ground of its background's colour.

    Args:
        image: `(h, w, 3)` uint8.
        rng: A `numpy.random.Generator`.
        share: Range of what is added to height and width, as a share of them.
    """
    added = uniform(rng, *share)
    height, width = (round(added * side) for side in image.shape[:2])
    top, left = int(rng.random() * (height + 1)), int(rng.random() * (width + 1))
    bottom, right = height - top, width - left
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=background(image))


def rotate(image: np.ndarray, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Turned about its middle by up to `degrees` either way, on the colour of its background."""
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), uniform(rng, -degrees, degrees), 1)
    return cv2.warpAffine(
        image,
        turn,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=background(image),
    )


_SCALERS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def small(image: np.ndarray, rng: np.random.Generator, share: tuple[float, float]) -> np.ndarray:
    """Drawn at a share of its size and scaled up again: by the nearest pixel, linearly or by cubics."""
    height, width = image.shape[:2]
    part = uniform(rng, *share)
    size = max(1, round(part * width)), max(1, round(part * height))
    reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (width, height), interpolation=_SCALERS[int(rng.random() * len(_SCALERS))])


def jpeg(image: np.ndarray, rng: np.random.Generator, quality: tuple[int, int]) -> np.ndarray:
    """Through JPEG and back, at a quality that is uniform in a range."""
    level = round(uniform(rng, *quality))
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, level])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1])
