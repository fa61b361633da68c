"""Projection head → ONNX: from the feature of any variant of its encoder to the memory's unit vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from memssl_keras.annotations import PathLike
from memssl_keras.export.bounds import ParityError
from memssl_keras.export.pack import packed
from memssl_keras.export.session import open_session
from memssl_keras.export.trace import to_graph
from memssl_keras.files import replace_file
from memssl_keras.weights.folder import halved

if TYPE_CHECKING:
    import keras

TOLERANCE = 1e-5  # largest difference to the Keras head; the vectors are of unit length


class _Head(torch.nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head

    def forward(self, feature):
        return self.head(feature, training=False)


def export_head(head: keras.layers.Layer, path: PathLike, width: int, half: bool = False) -> float:
    """Write a head as one ONNX file: `feature` `(N, width)` float32 → unit vectors `embedding` `(N, D)`, N dynamic.

    Batch norm is that of inference, and everything is computed in float32, whatever the head was trained in. The file
    is run beside the Keras head before it is put in place.

    Args:
        head: A built `ProjectionHead`.
        path: Where to; its folder is made if missing.
        width: Width of the encoder's feature.
        half: Round its matrices to float16 first, for half the bytes.

    Returns:
        The largest difference of a vector to the Keras head, of the same matrices.

    Raises:
        ValueError: half, and a matrix is beyond float16.
        ParityError: the difference is more than 1e-5; nothing is written.

    Example:
        >>> import pathlib, tempfile
        >>> from memssl_keras import ProjectionHead
        >>> head = ProjectionHead(hidden_dim=16, output_dim=8, batch_norm=True)
        >>> head.build((None, 12))
        >>> export_head(head, pathlib.Path(tempfile.mkdtemp()) / "head.onnx", 12) < 1e-5
        True
    """
    exact = type(head).from_config(head.get_config() | {"dtype": "float32"})
    exact.build((None, width))
    exact.set_weights(_rounded(head) if half else head.get_weights())
    module = _Head(exact).eval()
    sample = torch.zeros(2, width, device=next(module.parameters()).device)
    batch = torch.export.Dim("batch", min=1)
    graph = packed(to_graph(module, sample, {0: batch}, "feature", ["embedding"]))
    found = []

    def verified(part):
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, part)
        found.append(_largest_difference(part, module, sample))
        if not found[0] <= TOLERANCE:
            raise ParityError(
                f"{path}: differs from the Keras head by {found[0]:.1e}, more than {TOLERANCE:.0e}; it was not written"
            )

    replace_file(path, verified)
    return found[0]


def _rounded(head):
    weights = {weight.path: weight.numpy() for weight in head.weights}
    matrices = halved({name: array for name, array in weights.items() if array.ndim > 1})
    return [matrices.get(name, array).astype("float32") for name, array in weights.items()]


def _largest_difference(path, module, sample):
    session, rng, worst = open_session(path), np.random.default_rng(0), 0.0
    for count, scale in ((1, 1.0), (5, 10.0), (64, 0.1)):
        features = rng.normal(scale=scale, size=(count, sample.shape[1])).astype(np.float32)
        with torch.no_grad():
            expected = module(torch.from_numpy(features).to(sample.device)).cpu().numpy()
        (given,) = session.run(["embedding"], {"feature": features})
        difference = float(np.abs(given - expected).max()) if given.shape == expected.shape else np.inf
        worst = max(worst, difference) if np.isfinite(difference) else np.inf
    return worst
