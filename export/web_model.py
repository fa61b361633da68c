"""What a static page runs: ONNX Runtime for browsers, and a model that takes raw pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from memssl_keras.annotations import PathLike
from memssl_keras.export import verify
from memssl_keras.export.bounds import TOLERANCES
from memssl_keras.export.calibration import dead_leaves
from memssl_keras.export.graph import Graph
from memssl_keras.export.session import open_session
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.images.trim import trimmed
from memssl_keras.weights.config import RAW_PIXELS, onnx_file, read_config
from memssl_keras.zoo.hub import find_folder

if TYPE_CHECKING:
    from memssl_keras.encoders import Encoder

RUNTIME = "onnxruntime-web@1.30.0"  # the version that the page was tested with
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_COMPARED = 8  # pictures on which a graph that was made for the page is compared


def copy_runtime(target: pathlib.Path, package: PathLike | None) -> None:
    """Copy ONNX Runtime for browsers into a new folder.

    Args:
        target: The folder.
        package: Folder of the npm package onnxruntime-web; None fetches it by npm.

    Raises:
        ValueError: it cannot be had.
    """
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch:
        dist = pathlib.Path(package or _fetch_runtime(scratch)) / "dist"
        for name in (*RUNTIME_FILES, "../LICENSE"):
            if (dist / name).is_file():
                shutil.copyfile(dist / name, target / pathlib.PurePath(name).name)
            elif name in RUNTIME_FILES:
                raise ValueError(
                    f"runtime={str(package)!r}: {name} is not in its dist/; expected {RUNTIME} from npm"
                )


def _fetch_runtime(scratch):
    if not shutil.which("npm"):
        raise ValueError(
            f"ONNX Runtime for browsers comes from npm, which is not installed; runtime=FOLDER takes {RUNTIME}"
        )
    done = subprocess.run(
        ["npm", "pack", "--silent", RUNTIME], cwd=scratch, capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(f"npm could not fetch {RUNTIME}: {reason}; runtime=FOLDER takes an unpacked one")
    with tarfile.open(pathlib.Path(scratch) / done.stdout.strip().splitlines()[-1]) as archive:
        archive.extractall(scratch, filter="data")
    return pathlib.Path(scratch) / "package"


class PageModel:
    """A model as a page runs it: the page trims pictures where the model's preprocessing does, its graph does the rest.

    Args:
        model: Bundled model, repository or folder of one.
        variant: `"fp32"`, `"fp16"` or `"int8"`.
        file: Where to write the graph: `image` `(1, H, W, 3)` uint8 → `embedding` `(1, D)` of unit length.
        open_encoder: From `model` to its Keras encoder: called where the model's folder lacks the file that is needed.

    Attributes:
        trim: What the page leaves around a drawing; None where it trims nothing.

    Raises:
        ValueError: the folder lacks it and `open_encoder` is None, or the graph does not give the encoder's vectors.
    """

    def __init__(
        self,
        model: PathLike,
        variant: str,
        file: pathlib.Path,
        open_encoder: Callable[[str], Encoder] | None = None,
    ):
        config = read_config(find_folder(model, lambda config: []))
        preprocessing = Preprocessing.from_dict(config["preprocessing"])
        self.trim = preprocessing.trim
        if self.trim is None:
            with _held(model, RAW_PIXELS[variant], variant, open_encoder) as found:
                shutil.copyfile(found, file)
        else:
            with _held(model, onnx_file(variant), variant, open_encoder) as found:
                _write_graph(found, dataclasses.replace(preprocessing, trim=None), file)
                self._compare(file, found, preprocessing, variant)
        self._session = open_session(file)

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """The unit vector `(D,)` of an image, uint8 `(H, W, 3)`, as the page has it."""
        if self.trim is not None:
            pixels = np.asarray(trimmed(Image.fromarray(pixels), self.trim))
        return verify.embed_raw_pixels(self._session, pixels)[0]

    def _compare(self, file, found, preprocessing, variant):
        """The graph gives what the file that it was made of gives, which was verified when it was exported."""
        self._session = open_session(file)
        reference, pictures = Graph(open_session(found), found), dead_leaves(_COMPARED)
        expected = reference.run(preprocessing.batch(pictures))
        given = np.stack([self.embed(np.asarray(picture)) for picture in pictures])
        similar, least = float(verify.cosines(given, expected).mean()), TOLERANCES[variant][1]
        if not similar >= least:
            raise ValueError(
                f"variant={variant!r}: the page's graph has a mean cosine of {similar:.4f} to the encoder's file; "
                f"expected {least} or more"
            )


@contextlib.contextmanager
def _held(model, name, variant, open_encoder) -> Iterator[pathlib.Path]:
    """A file of the model's folder, or one made of its Keras weights for as long as it is needed."""
    held = find_folder(model, lambda config: [(f"onnx/{name}", "")]) / "onnx" / name
    if held.is_file():
        yield held
        return
    if open_encoder is None:
        raise ValueError(
            f"model={str(model)!r} holds no onnx/{name}; expected open_encoder=from_pretrained, which makes one"
        )
    # Needs keras and torch, which a folder with that file does not.
    from memssl_keras.export.onnx import export_onnx

    with tempfile.TemporaryDirectory() as scratch:
        made, variants = pathlib.Path(scratch) / "model", list(dict.fromkeys(["fp32", variant]))
        export_onnx(open_encoder(str(model)), made, variants=variants, raw_pixels=name in RAW_PIXELS.values())
        yield made / "onnx" / name


def _write_graph(encoder_file, preprocessing, file):
    import onnx

    from memssl_keras.export.raw_pixels import with_raw_pixels

    file.write_bytes(with_raw_pixels(onnx.load(encoder_file), preprocessing).SerializeToString())
