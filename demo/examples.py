"""The examples of the first page: pictures with the box around their icon, answered at one click."""

from __future__ import annotations

import functools
from html import escape
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memssl_keras.demo.pictures import data_uri
from memssl_keras.demo.vectors import pixel_digest
from memssl_keras.images.read import read_image

EXAMPLES_FOLDER = Path(__file__).parent / "examples"


class Example(NamedTuple):
    """A picture, and the part that is asked about."""

    name: str
    title: str
    box: list[float] | None  # left, top, right, bottom as fractions; None for the whole

    @property
    def file(self) -> Path:
        return EXAMPLES_FOLDER / f"{self.name}.webp"


# The boxes are those that zoo/experiments/icons_examples.py prints.
EXAMPLES = (
    Example("settings", "Screenshot", [0.083, 0.497, 0.164, 0.586]),
    Example("sign", "Sign", [0.3, 0.26, 0.68, 0.8]),
    Example("scribble", "Scribble", None),
    Example("emoji", "Emoji", None),
)


def cards() -> str:
    """The examples as buttons that carry their number."""
    buttons = "".join(
        f'<button type="button" class="card" data-row="{number}" title="Ask about it">'
        f'<img src="{data_uri(read_image(example.file))}" alt=""><span class="name">{escape(example.title)}</span>'
        "</button>"
        for number, example in enumerate(EXAMPLES)
    )
    return f'<div class="cards examples">{buttons}</div>'


@functools.cache
def _known() -> dict[bytes, list[float] | None]:
    return {pixel_digest(read_image(example.file)): example.box for example in EXAMPLES}


def box_of(pixels: np.ndarray) -> list[float] | None:
    """The box of an example, by its pixels; None for another picture, or an example that is asked about whole."""
    return _known().get(pixel_digest(pixels)) if pixels.size < 10**6 else None
