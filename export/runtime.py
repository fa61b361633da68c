"""Run an exported encoder with ONNX Runtime: images in, unit vectors out; neither torch nor Keras."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memssl_keras.annotations import PathLike
from memssl_keras.checks import check_at_least_1
from memssl_keras.export import foreign
from memssl_keras.export.finding import find_model, preprocessing_at
from memssl_keras.export.graph import Graph
from memssl_keras.export.pieces import in_order
from memssl_keras.export.session import PROVIDERS, open_session, providers_of
from memssl_keras.images import ImageError
from memssl_keras.images.listing import as_images
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.config import default_variant, find_onnx, read_config

PIECE = 4  # pictures of one run on a processor


class EmbeddedBatch(NamedTuple):
    """What `OnnxEncoder.stream` yields: which images became which vectors, and which could not be read."""

    indices: list[int]  # position of each vector's image in the input
    vectors: np.ndarray  # float32 (len(indices), D), of unit length
    failures: list[tuple[int, ImageError]]  # position in the input and reason


class OnnxEncoder:
    """An image encoder on ONNX Runtime. Make one with `OnnxEncoder.from_pretrained`.

    Attributes:
        config: the folder's `config.json` as a dict; of another library's encoder what was found out about it.
        preprocessing: the encoder's `Preprocessing`, at the image size that was asked for.
        embed_dim: D, the length of its vectors.
        graph: what runs, a `memssl_keras.export.graph.Graph`.
        file: its ONNX file.
    """

    def __init__(
        self,
        graph: Graph,
        config: dict,
        file: Path,
        threads: int | None = None,
        scaled_decoding: bool = True,
        preprocessing: Preprocessing | None = None,
    ):
        self.graph, self.file = graph, file
        self.threads, self.scaled_decoding = threads or os.cpu_count() or 1, scaled_decoding
        self.config = config
        self.preprocessing = preprocessing or Preprocessing.from_dict(config["preprocessing"])
        self.embed_dim = int(config["embed_dim"])

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: PathLike,
        *,
        variant: str | None = None,
        threads: int | None = None,
        providers: Sequence[str] = ("cpu",),
        preload: bool = False,
        scaled_decoding: bool = True,
        pool: str | None = None,
        preprocessing: Preprocessing | None = None,
        image_size: int | None = None,
        **hub: Any,
    ) -> OnnxEncoder:
        """Load an exported encoder, ours or another library's. Of a model on the Hub, only what runs is fetched.

        Of others: folders and repositories as transformers.js, optimum and timm write them, with a
        `preprocessor_config.json` or timm's `pretrained_cfg`, and single `.onnx` files. The feature is the output
        `image_embeds` or `pooler_output`, else a token of `last_hidden_state`, else the one output `(N, D)`; what is
        guessed is warned of.

        Args:
            name_or_folder: a folder that `export_onnx` wrote, a name of `list_models()`, a repository on the Hub,
                `owner/name`, a folder of another library, or an ONNX file.
            variant: which of the folder's ONNX files to run: `"fp32"`, `"fp16"`, `"int8"` or `"int8-static"`; by
                default float32, or where there is none the first that there is.
            threads: processor threads of one call, for reading pictures and for the model; all by default. Each
                reads a few pictures, and runs the model on them.
            providers: what runs it, the first choice first: `"cpu"`, `"cuda"`, `"tensorrt"`, `"coreml"`, `"openvino"`,
                `"xnnpack"`, or ONNX Runtime's names. What the first cannot run goes to the next and in the end to
                the processor.
            preload: run one image at once, so that the first of yours does not wait for memory to be laid out.
            scaled_decoding: decode large JPEGs at a fraction of their size, see `Preprocessing`.
            pool: of another library's graph that gives tokens: `"cls"` or `"mean"` of them.
            preprocessing: of another library's encoder, where its folder does not say it.
            image_size: side in pixels of the square that pictures are preprocessed to, in place of the model's own, a
                multiple of a ViT's patch; `resize_size` grows in proportion. A graph that was exported with a fixed
                size takes that one alone. Vectors of two sizes are those of two revisions.
            **hub: `revision`, `cache_dir`, `local_files_only`, `token` and `force_download`, as
                `memssl_keras.zoo.hub.find_folder` takes them.

        Raises:
            UnknownModel: `name_or_folder` is neither a folder, nor a model of the zoo, nor a repository's name.
            HubError: a file could not be fetched.
            FileNotFoundError: the folder lacks `config.json` or the ONNX file.
            ValueError: an argument is out of range, a file is damaged or of a newer format, or another's graph takes
                something other than pictures, has no output that is a feature, or contradicts its preprocessing, or
                the graph does not take `image_size`.

        Example:
            >>> import numpy as np
            >>> from memssl_keras import OnnxEncoder, list_models
            >>> for name in list_models():
            ...     encoder = OnnxEncoder.from_pretrained(name)
            ...     assert encoder.embed(np.zeros((64, 64, 3), "uint8")).shape == (1, encoder.embed_dim)
        """
        if threads is not None:
            check_at_least_1("threads", threads)
        folder, file, ours = find_model(name_or_folder, variant, hub)
        config = read_config(folder) if ours else {}
        file = file or find_onnx(folder, variant or default_variant(folder))
        if ours and (pool or preprocessing):
            raise ValueError(f"{folder}: pool and preprocessing are its own; expected none")
        graph = Graph(open_session(file, threads, providers_of(providers)), file, pool)
        if ours and graph.key:
            outputs = [node.name for node in graph.session.get_outputs()]
            raise ValueError(f"{file}: outputs {outputs}; expected 'pooler_output' among them")
        settings = Preprocessing.from_dict(config["preprocessing"]) if ours else preprocessing
        settings = settings or foreign.read_preprocessing(folder)
        own = settings
        if image_size is not None:
            settings = preprocessing_at(image_size, own, graph, folder)
        if not ours:
            config = {**foreign.describe(graph, settings, file), "preprocessing": own.to_dict()}
        if graph.guessed:
            warnings.warn(f"{file.name}: {graph.guessed}", stacklevel=2)
        encoder = cls(graph, config, file, threads, scaled_decoding, settings)
        if preload:
            side = encoder.preprocessing.image_size
            encoder.embed_pixels(np.zeros((1, side, side, 3), np.float32))
        return encoder

    def revision(self) -> str:
        """SHA-256 of the ONNX file, its weights and the preprocessing: vectors of two revisions do not compare."""
        digest = hashlib.sha256()
        for file in (self.file, *foreign.weight_files(self.file)):
            digest.update(file.read_bytes())
        digest.update(repr(self.preprocessing).encode() + self.graph.key.encode())
        return digest.hexdigest()

    def embed(self, images: Any, batch_size: int = 32, on_error: str = "raise") -> np.ndarray:
        """Embed images into unit vectors: their cosine similarity is their dot product.

        Args:
            images: one image or several: paths, file contents as bytes, PIL images or arrays, as
                `memssl_keras.images.read_image` takes them. An array `(H, W)` or `(H, W, C)` is one image,
                `(N, H, W, C)` are N. A folder stands for the images in it and in the folders below, in order of
                their paths.
            batch_size: images that run at once on a GPU, where more are faster. A processor runs a few at a time.
            on_error: `"raise"` for an image that cannot be read, or `"skip"` to leave it out with a warning
                (`stream` says which ones were).

        Returns:
            float32 array `(N, D)`, in the order of the images.

        Raises:
            ImageError: an image cannot be read and `on_error` is `"raise"`.
            ValueError: `batch_size` or `on_error` is out of range.
        """
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error: got {on_error!r}; expected 'raise' or 'skip'")
        parts = [np.empty((0, self.embed_dim), np.float32)]
        for batch in self.stream(images, batch_size):
            for index, error in batch.failures:
                if on_error == "raise":
                    raise error
                warnings.warn(f"image {index} is left out: {error}", stacklevel=2)
            parts.append(batch.vectors)
        return np.concatenate(parts)

    def stream(self, images: Iterable, batch_size: int = 32) -> Iterator[EmbeddedBatch]:
        """Embed any number of images in bounded memory; unreadable ones are reported, not raised.

        Args:
            images: as `embed` takes them, or any iterable of them.
            batch_size: images of one `EmbeddedBatch`; see `embed`.

        Yields:
            An `EmbeddedBatch` for every `batch_size` images.

        Raises:
            ValueError: `batch_size` is not at least 1.
        """
        check_at_least_1("batch_size", batch_size)
        return self._stream(enumerate(as_images(images)), batch_size)

    def _stream(self, numbered: Iterator, batch_size: int) -> Iterator[EmbeddedBatch]:
        """Pieces of batches, each read and run by one thread, so that reading and the model share all cores."""
        parts = []
        pieces = self._pieces(numbered, batch_size)
        for piece, part in in_order(self._embed_piece, pieces, self.threads):
            parts.append(part)
            if piece.ends_batch:
                yield _joined(parts)
                parts = []

    def _pieces(self, numbered, batch_size):
        size = self._piece_size(batch_size)
        for batch in iter(lambda: list(islice(numbered, batch_size)), []):
            few = len(batch) <= size and len(batch) < batch_size
            graph = self.graph if few else self._one_thread
            for start in range(0, len(batch), size):
                yield _Piece(batch[start : start + size], graph, start + size >= len(batch))

    def _piece_size(self, batch_size):
        """Pictures of one run. A processor's caches hold what a model makes of a few; other devices want many."""
        return min(batch_size, self.graph.batch or PIECE) if self._on_processor else batch_size

    @property
    def _on_processor(self):
        return self.graph.session.get_providers() == [PROVIDERS["cpu"]]

    @cached_property
    def _one_thread(self) -> Graph:
        """The graph in a session of one thread: several side by side do more than one on all threads."""
        if self.threads == 1 or not self._on_processor:
            return self.graph
        return Graph(open_session(self.file, 1), self.file, self.graph.pool)

    def _embed_piece(self, piece) -> EmbeddedBatch:
        indices, pixels, failures = [], [], []
        for index, image in piece.images:
            try:
                pixels.append(self.preprocessing(image, self.scaled_decoding))
                indices.append(index)
            except ImageError as error:
                failures.append((index, error))
        nothing = np.empty((0, self.embed_dim), np.float32)
        vectors = unit_vectors(piece.graph.run(np.stack(pixels))) if pixels else nothing
        return EmbeddedBatch(indices, vectors, failures)

    def features(self, image: Any) -> np.ndarray:
        """The feature `(1, D)` float32 of one image as the encoder gives it, not of unit length: a head's input.

        Args:
            image: as `memssl_keras.images.read_image` takes it.

        Raises:
            ImageError: it cannot be read.
        """
        pixels = self.preprocessing(image, self.scaled_decoding)
        return self.graph.run(pixels[None]).astype(np.float32, copy=False)

    def embed_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Unit vectors `(N, D)` float32 of pictures that are preprocessed already.

        Args:
            pixels: float32 `(N, H, W, 3)`, as `preprocessing` gives them.
        """
        if not len(pixels):
            return np.empty((0, self.embed_dim), np.float32)
        size = self._piece_size(len(pixels))
        if len(pixels) <= size:
            return unit_vectors(self.graph.run(pixels))
        pieces = (pixels[start : start + size] for start in range(0, len(pixels), size))
        return unit_vectors(
            np.concatenate([found for _, found in in_order(self._one_thread.run, pieces, self.threads)])
        )


class _Piece(NamedTuple):
    """Pictures that one thread reads and runs."""

    images: list[tuple[int, Any]]  # position in the input, and what `read_image` takes
    graph: Graph
    ends_batch: bool


def _joined(parts: Sequence[EmbeddedBatch]) -> EmbeddedBatch:
    return EmbeddedBatch(
        [index for part in parts for index in part.indices],
        np.concatenate([part.vectors for part in parts]),
        [failure for part in parts for failure in part.failures],
    )


def unit_vectors(features: np.ndarray) -> np.ndarray:
    """Features `(N, D)` as float32 of length 1; those of length 0 stay."""
    features = features.astype(np.float32, copy=False)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
