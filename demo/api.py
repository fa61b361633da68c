"""What the page does as named endpoints, for `gradio_client` and other programs."""

from __future__ import annotations

from typing import Any

import gradio as gr

from memssl_keras.demo.asking import PLAINLY, path_of, picture_input
from memssl_keras.demo.inside import Inside
from memssl_keras.demo.lessons import Lessons
from memssl_keras.demo.pictures import address, cut, read_upload
from memssl_keras.demo.recall import NEAREST, Block
from memssl_keras.demo.search import Retrieval
from memssl_keras.demo.taught import Taught
from memssl_keras.demo.teach_events import words
from memssl_keras.evaluate.protocols.lowshot import CLASSIFIERS
from memssl_keras.zoo.memory import ShippedMemory


class Endpoints:
    """What the endpoints answer; each public method is one of them, and its docstring is what clients are shown.

    Files come in as uploads, which `gradio_client.handle_file` makes of them, never as paths of this computer.

    Args:
        retrieval: the page's `Retrieval`.
        inside: the page's `Inside`, which has the memory that the model ships.
    """

    def __init__(self, retrieval: Retrieval, inside: Inside):
        self._retrieval, self._inside, self._lessons = retrieval, inside, Lessons(retrieval)

    def search(
        self,
        image: dict | str | None,
        k: int = 12,
        filters: dict[str, list[str]] | None = None,
        part: list[float] | None = None,
    ) -> dict[str, Any]:
        """Find the pictures of the gallery that are nearest to an image.

        Args:
            image: the picture.
            k: how many, 1 to 100.
            filters: {column: [values to allow]}; no restriction where there are none.
            part: [left, top, right, bottom] as fractions of the picture, to search for that part alone.

        Returns:
            {"results": [{"row", "name", "similarity", "picture", "columns"}], "among", "encode_ms", "search_ms"}; a
            picture's address is relative to the page's.
        """
        with words():
            pixels = _read(image)
            if part:
                pixels = cut(pixels, part)
            if isinstance(k, bool) or not isinstance(k, (int, float)) or not 1 <= k <= 100:
                raise ValueError(f"k: got {k}; expected 1 to 100")
            _check_filters(filters)
            found = self._retrieval.search(pixels, int(k), filters)
        if found is None:
            return {"results": [], "among": 0, "encode_ms": 0.0, "search_ms": 0.0}
        return {
            "results": [
                self._hit(int(row), float(similarity))
                for row, similarity in zip(found.rows, found.similarities, strict=True)
            ],
            "among": found.among,
            "encode_ms": 1000 * found.encoded,
            "search_ms": 1000 * found.searched,
        }

    def _hit(self, row: int, similarity: float) -> dict[str, Any]:
        gallery = self._retrieval.gallery
        return {
            "row": row,
            "name": gallery.names[row],
            "similarity": similarity,
            "picture": address(gallery, row),
            "columns": {label: gallery.value(row, label) for label in gallery.columns},
        }

    def embed(self, image: dict | str | None) -> list[float]:
        """Turn an image into a vector of unit length.

        Args:
            image: the picture.

        Returns:
            the vector, as a list of numbers.
        """
        with words():
            return self._retrieval.encoder.embed(_read(image))[0].tolist()

    def memory(self, image: str | None, draw: int = 0, k: int = NEAREST) -> dict[str, Any]:
        """Find the pictures of the training memory that are nearest to an image, block by block.

        The memory is cut into random blocks, as in a step of training; similarities within a block become shares by a
        softmax at the teacher's temperature.

        Args:
            image: the picture.
            draw: number of the permutation, from 0 on; the same number cuts the same blocks.
            k: how many of each block, 1 to 100.

        Returns:
            {"blocks": [[{"slot", "index", "name", "similarity", "share", "picture"}]], "block_size", "temperature",
            "credits"}; `index` is the picture's place in the training data, -1 where a slot has its random start, and
            its address is relative to the page's.
        """
        with words():
            recall = self._inside.recall
            if recall is None:
                raise ValueError("this model does not ship its memory")
            for name, number in (("draw", draw), ("k", k)):
                if isinstance(number, bool) or not isinstance(number, int):
                    raise ValueError(f"{name}: got {number!r}; expected a whole number")
            found, shipped = recall.look_up(_read(image), draw, k), recall.memory
        return {
            "blocks": [_slots(shipped, block) for block in found],
            "block_size": shipped.block_size,
            "temperature": shipped.temperature,
            "credits": shipped.credits,
        }

    def teach(self, images: list[str] | None, classes: list[str]) -> str:
        """Teach classes by pictures.

        Args:
            images: the pictures.
            classes: the class of each, in the same order.

        Returns:
            a file of what was taught, for `/classify` and for the page.
        """
        with words():
            images = images or []
            if not isinstance(classes, list) or len(classes) != len(images):
                raise ValueError(f"classes: expected a list of {len(images)} names, one for each image")
            taught = Taught()
            for image, name in zip(images, classes, strict=True):
                taught, wrong = self._lessons.add_files(taught, name, [image])
                if wrong:
                    raise ValueError(wrong[0])
            return self._lessons.save(taught)

    def classify(self, image: str | None, taught: str | None, classifier: str = "logistic") -> dict[str, Any]:
        """Say which class an image is of, and which examples spoke for it.

        Args:
            image: the picture.
            taught: a file that `/teach` gave or the page saved.
            classifier: logistic, class mean or k-NN.

        Returns:
            {"probabilities": {class: probability}, "examples": [{"example", "class", "share"}]}.
        """
        with words():
            known = self._lessons.load(_file(taught))
            answers, reasons = self._lessons.classify(known, classifier, _read(image))
        examples = [{"example": row, "class": known.classes[row], "share": share} for row, share in reasons]
        return {"probabilities": answers, "examples": examples}

    def export(self, taught: str | None, classifier: str = "logistic") -> str:
        """Write what was taught as one ONNX file: `image` uint8 (N, H, W, 3) in, `probabilities` (N, C) out.

        Args:
            taught: a file that `/teach` gave or the page saved.
            classifier: logistic, class mean or k-NN.

        Returns:
            the file.
        """
        with words():
            return self._lessons.export(self._lessons.load(_file(taught)), classifier)


def add_endpoints(retrieval: Retrieval, inside: Inside) -> None:
    """Add the endpoints to the page that is being built; nothing of it is seen there."""
    answer = Endpoints(retrieval, inside)
    with gr.Column(visible=False):
        image, taught = picture_input("image", "api-image"), gr.File(type="filepath")
        images = gr.File(file_count="multiple", type="filepath")
        k, filters, part = gr.Number(12, precision=0), gr.JSON(), gr.JSON()
        draw, nearest = gr.Number(0, precision=0), gr.Number(NEAREST, precision=0)
        classes, classifier = gr.JSON(), gr.Radio(list(CLASSIFIERS), value="logistic")
        data, file = gr.JSON(), gr.File()
        for function, inputs, output in (
            (answer.search, [image, k, filters, part], data),
            (answer.embed, [image], data),
            (answer.memory, [image, draw, nearest], data),
            (answer.teach, [images, classes], file),
            (answer.classify, [image, taught, classifier], data),
            (answer.export, [taught, classifier], file),
        ):
            name = function.__name__
            queue = name == "export"  # the queue would take longer than the others
            plainly = PLAINLY if function in (answer.search, answer.embed) else {}
            gr.Button(name).click(function, inputs, output, api_name=name, queue=queue, **plainly)


def _check_filters(filters):
    if not filters:
        return
    if not isinstance(filters, dict) or not all(isinstance(values, list) for values in filters.values()):
        raise ValueError(f"filters: got {filters!r}; expected {{column: [values]}}")


def _slots(shipped: ShippedMemory, block: Block) -> list[dict[str, Any]]:
    """The nearest of a block of the memory, as JSON."""
    return [
        {
            "slot": int(slot),
            "index": int(shipped.indices[slot]),
            "name": shipped.names[slot] if shipped.names else None,
            "similarity": float(similarity),
            "share": float(share),
            "picture": address(shipped, slot) if shipped.indices[slot] >= 0 else None,
        }
        for slot, similarity, share in zip(*block, strict=True)
    ]


def _read(image):
    path = path_of(image)
    if not path:
        raise ValueError("image: got none; expected a picture")
    return read_upload(path)


def _file(path):
    if not path:
        raise ValueError("taught: got none; expected a file that was saved here")
    return path
