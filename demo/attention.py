"""What the last block of a ViT attends to, read off its ONNX graph: the file needs no output for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnxruntime
from PIL import Image

_SIDE = 224  # pixels of a drawn map


class Attention(NamedTuple):
    """The picture as the encoder saw it, uint8 `(S, S, 3)`, and what each head's CLS looked at in it, `(heads, h, w)`.

    A head's weights and what it gives CLS and the registers sum to 1.
    """

    seen: np.ndarray
    weights: np.ndarray


class LastAttention:
    """Gives the attention of a model's last block: the last softmax of its graph, as a further output.

    Args:
        model: a `Model`.

    Raises:
        ValueError: the model is no ViT, its graph has no such softmax, or the package `onnx` is missing.
    """

    def __init__(self, model):
        self._preprocessing = model.encoder.preprocessing
        try:
            import onnx
        except ModuleNotFoundError:
            raise ValueError("showing attention needs onnx: pip install 'memssl-keras[demo]'") from None
        graph = onnx.load(model.file)
        softmax = [node for node in graph.graph.node if node.op_type == "Softmax"]
        strides = [
            attribute.ints[0]
            for node in graph.graph.node
            if node.op_type in ("Conv", "ConvInteger")
            for attribute in node.attribute
            if attribute.name == "strides"
        ]
        if not softmax or not strides:
            raise ValueError(f"{model.name}: not a ViT, whose attention could be shown")
        self._grid = self._preprocessing.image_size // strides[0]  # the first convolution cuts the patches
        del graph.graph.output[:]
        self._name = softmax[-1].output[0]
        graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(self._name))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        tokens = self._run(np.zeros((8, 8, 3), np.uint8)).shape[-1]
        self._before = tokens - self._grid**2  # CLS and registers
        if not 1 <= self._before <= 32:
            raise ValueError(
                f"{model.name}: its last softmax is not over its {self._grid} × {self._grid} patches"
            )

    def _run(self, pixels):
        inputs = self._preprocessing(pixels).transpose(2, 0, 1)[None]
        (weights,) = self._session.run([self._name], {"pixel_values": np.ascontiguousarray(inputs)})
        if weights.ndim != 4:
            raise ValueError(
                f"attention: the last softmax has shape {weights.shape}; expected (1, heads, T, T)"
            )
        return weights[0, :, 0]

    def __call__(self, pixels: np.ndarray) -> Attention:
        """The attention of CLS over a picture, uint8 `(H, W, 3)`."""
        weights = self._run(pixels)[:, self._before :].reshape(-1, self._grid, self._grid)
        normalised = self._preprocessing(pixels) * self._preprocessing.std + self._preprocessing.mean
        return Attention(np.rint(normalised * 255).clip(0, 255).astype(np.uint8), weights.astype(np.float32))


def draw(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A picture lit where it is looked at: uint8 `(224, 224, 3)` of a picture `(S, S, 3)` and weights `(h, w)`."""
    picture = np.asarray(Image.fromarray(seen).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), np.float32)
    low, high = float(weights.min()), float(weights.max())
    shares = Image.fromarray((weights - low) / max(high - low, 1e-12))
    wide = np.asarray(shares.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    light = 0.15 + 0.85 * wide[..., None]
    return np.rint(picture * light).astype(np.uint8)
