"""Pictures of landmarks with published ground truth: queries are cut to their boxes."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.data.hashes import data_key
from memssl_keras.data.sequences import Images
from memssl_keras.data.sources import open_source
from memssl_keras.evaluate.protocols.revisited import GroundTruth, read_ground_truth
from memssl_keras.images.read import read_image


class Boxes:
    """A sequence of images cut to boxes (left, top, right, bottom) in pixels; a box of None is the whole image."""

    def __init__(self, images: Any, boxes: Sequence):
        self.images, self.boxes = images, boxes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        pixels, box = read_image(self.images[index]), self.boxes[index]
        if box is None:
            return pixels
        left, top, right, bottom = (max(0, round(edge)) for edge in box)
        cut = pixels[top:bottom, left:right]
        if not cut.size:
            raise ValueError(
                f"box {tuple(box)} of query {index}: outside its picture of {pixels.shape[1::-1]} px"
            )
        return cut


def open_landmarks(data: PathLike, path: PathLike) -> tuple[Images, Images, GroundTruth]:
    """Queries, cut to their boxes, the gallery (both `Images`), and the `GroundTruth` of a folder of pictures.

    Args:
        data: Folder that holds every picture that the ground truth names, with any suffix, in any subfolder.
        path: Ground truth as `read_ground_truth` takes it.

    Raises:
        ValueError: where a picture is missing, or what `read_ground_truth` raises.
    """
    truth, source = read_ground_truth(path), open_source(data)
    rows = {pathlib.Path(name).stem: row for row, name in enumerate(source.ids)}
    if missing := [name for name in (*truth.images, *truth.queries) if name not in rows]:
        raise ValueError(
            f"{data}: {len(missing)} of the pictures that {path} names are not there, such as {', '.join(missing[:3])}"
        )
    key, boxes = data_key(source), [query["bbx"] for query in truth.relevant]
    asked = [rows[name] for name in truth.queries]
    about = hashlib.sha256(json.dumps([key, asked, boxes]).encode()).hexdigest()
    queries = Images(Boxes([source[row] for row in asked], boxes), about, np.arange(len(asked)))
    return queries, Images(source, key, np.array([rows[name] for name in truth.images])), truth
