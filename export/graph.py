"""An ONNX graph of an image encoder, ours or another's: what goes in, and which output is the feature."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from memssl_keras.export.session import open_session

POOLS = ("cls", "mean")
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Outputs that are the feature of a whole picture, best first; then those that are pooled.
_FEATURES = ("image_embeds", "pooler_output")
_TOKENS = ("last_hidden_state", "features")


class Graph:
    """A session, its one input and its one feature.

    Args:
        session: of ONNX Runtime.
        file: what it was read from, for messages.
        pool: `"cls"` or `"mean"`, of a graph that gives tokens alone; None takes CLS.

    Attributes:
        session, file, pool: as given.
        guessed: what was decided without being told, in words; empty where nothing was.
        key: which output becomes the feature, and how, where it is not the one that our own graphs have.
        size: (height, width) that the graph is fixed to; None where it takes any.
        batch: number of pictures that it is fixed to; None where it takes any.

    Raises:
        ValueError: the graph takes something other than images, or which output is the feature cannot be told.
    """

    def __init__(self, session: onnxruntime.InferenceSession, file: Path, pool: str | None = None):
        if pool is not None and pool not in POOLS:
            raise ValueError(f"pool={pool!r}: expected one of {', '.join(POOLS)}")
        self.session, self.file, self.pool, self.guessed = session, file, pool, ""
        images = [node for node in session.get_inputs() if len(node.shape) == 4 and node.type in _DTYPES]
        others = [node.name for node in session.get_inputs() if node not in images]
        if len(images) != 1 or others:
            inputs = ", ".join(f"{n.name!r} {n.type} of rank {len(n.shape)}" for n in session.get_inputs())
            raise ValueError(
                f"{file}: inputs {inputs}; expected one alone, floats (N, 3, H, W) or (N, H, W, 3). Of a model of "
                "pictures and texts, take the file of its picture half, such as vision_model.onnx"
            )
        (self._input,) = images
        shape = self._input.shape
        self._channels_last = shape[3] == 3 and shape[1] != 3
        if not self._channels_last and isinstance(shape[1], int) and shape[1] != 3:
            raise ValueError(f"{file}: its input is {shape}; expected pictures of 3 channels")
        sides = shape[1:3] if self._channels_last else shape[2:4]
        self.size = tuple(sides) if all(isinstance(side, int) for side in sides) else None
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self._output, self._pool = self._choose(file, pool)
        own = (self._output, self._pool) == ("pooler_output", None)
        self.key = "" if own else f"{self._output} {self._pool}"

    def __reduce__(self):  # a session cannot be pickled: its file is opened again
        threads = self.session.get_session_options().intra_op_num_threads
        return _opened, (self.file, threads or None, self.session.get_providers(), self.pool)

    def _choose(self, file, pool):
        """Name of the output that is run, and how it becomes `(N, D)`."""
        ranks = {node.name: len(node.shape) for node in self.session.get_outputs()}
        for name in _FEATURES if pool is None else ():
            if ranks.get(name) == 2:
                return name, None
        for name in _TOKENS:
            if ranks.get(name) in (3, 4):
                if ranks[name] == 3 and pool is None:
                    self.guessed = (
                        f"the feature is the first token of {name!r}; pool='mean' takes the mean of all"
                    )
                return name, (pool or "cls") if ranks[name] == 3 else "map"
        flat = [name for name, rank in ranks.items() if rank == 2]
        if len(flat) == 1 and pool is None:
            return flat[0], None
        raise ValueError(
            f"{file}: outputs {', '.join(ranks)}; expected {' or '.join(_FEATURES)}, {' or '.join(_TOKENS)}"
            f"{', or one (N, D) alone' if pool is None else f', tokens for pool={pool!r}'}"
        )

    def check_size(self, image_size: int) -> None:
        """Raise ValueError where the graph is fixed to another size than squares of that side, in pixels."""
        if self.size and self.size != (image_size, image_size):
            height, width = self.size
            raise ValueError(
                f"image_size={image_size}: {self.file} is fixed to {height} × {width} px; expected "
                + (
                    f"{height}, or a file that was exported without a fixed size"
                    if height == width
                    else "another file"
                )
            )

    def check_runs(self, image_size: int) -> None:
        """Raise ValueError where the graph fails on a square picture of that side, in pixels."""
        try:
            self.run(np.zeros((1, image_size, image_size, 3), np.float32))
        except Exception as error:  # ONNX Runtime's exception classes share no public base
            raise ValueError(
                f"image_size={image_size}: {self.file} does not run on pictures of {image_size} × {image_size} px "
                f"({error})"
            ) from error

    def run(self, pixels: np.ndarray) -> np.ndarray:
        """Features `(N, D)` of preprocessed pictures `(N, H, W, 3)` float32, as the graph gives them."""
        if self.batch and len(pixels) != self.batch:
            return np.concatenate([self.run(part) for part in self._parts(pixels)])[: len(pixels)]
        pixels = pixels if self._channels_last else pixels.transpose(0, 3, 1, 2)
        dtype = _DTYPES[self._input.type]
        inputs = {self._input.name: np.ascontiguousarray(pixels, dtype)}
        (found,) = self.session.run([self._output], inputs)
        if self._pool == "cls":
            return found[:, 0]
        if self._pool == "mean":
            return found.mean(1)
        return found.mean((2, 3)) if self._pool == "map" else found

    def _parts(self, pixels):
        """Batches of the size that the graph is fixed to; the last one filled up with zeros."""
        missing = -len(pixels) % self.batch
        filled = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), pixels.dtype)])
        return np.split(filled, len(filled) // self.batch)


def _opened(file, threads, providers, pool):
    return Graph(open_session(file, threads, providers), file, pool)
