"""Keras encoder → ONNX graph: traced with torch, cleaned of what the tracer leaves for debugging."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from memssl_keras.encoders.base import Encoder

if TYPE_CHECKING:
    import onnx

OPSETS = (18, 19, 20, 21)


class _ChannelsFirst(torch.nn.Module):
    """The encoder with torch's channel order in front: `(B, 3, H, W)` → tokens, where asked for, and the embedding."""

    def __init__(self, encoder, tokens):
        super().__init__()
        self.encoder, self.tokens = encoder, tokens

    def forward(self, pixel_values):
        images = pixel_values.permute(0, 2, 3, 1)
        if not self.tokens:
            return (self.encoder(images, training=False),)
        tokens = self.encoder.tokens(images, training=False)
        return tokens, tokens[:, 0]


def channels_first(encoder: Encoder, tokens: bool | None = None) -> torch.nn.Module:
    """The encoder as a torch module on `(B, 3, H, W)`; `tokens` are given where it is a `ViT`, unless refused."""
    return _ChannelsFirst(encoder, encoder.gives_tokens if tokens is None else tokens).eval()


def device_of(module: torch.nn.Module) -> torch.device:
    """Where a module's weights are; the processor for one without any."""
    return next((weight.device for weight in module.parameters()), torch.device("cpu"))


def outputs_of(module: torch.nn.Module) -> list[str]:
    """Names of what `channels_first` gives, in order."""
    return ["last_hidden_state", "pooler_output"] if module.tokens else ["pooler_output"]


def sizes_of(encoder: Encoder, image_size: int | None = None) -> list[tuple[int, int]]:
    """Image sizes to compare at: the fixed one, or the encoder's own choice."""
    return [(image_size, image_size)] if image_size else encoder.sample_sizes()


def trace(
    encoder: Encoder, *, image_size: int | None = None, tokens: bool | None = None, opset: int = OPSETS[0]
) -> onnx.ModelProto:
    """The encoder as a `ModelProto`: `pixel_values` `(N, 3, H, W)` float32 → `pooler_output` `(N, D)`.

    A `ViT` gives `last_hidden_state` `(N, T, D)` as well, unless `tokens=False`.

    Args:
        encoder: A `ViT` or another Keras model that maps `(B, H, W, 3)` to `(B, D)`.
        image_size: Side of the squares that it takes from then on, its position embedding baked in; None for
            any height and width.
        tokens: Whether all tokens are given; by default where there are any.
        opset: Version of ONNX's operators, one of `OPSETS`.

    Raises:
        ValueError: for an argument out of its range, or an encoder with an operation that ONNX lacks.
    """
    encoder = Encoder.wrap(encoder)
    if opset not in OPSETS:
        raise ValueError(f"opset={opset!r}: expected one of {', '.join(map(str, OPSETS))}")
    if image_size is not None:
        encoder.check_image_size(image_size)
    module, sizes = channels_first(encoder, tokens), sizes_of(encoder, image_size)
    batch, height, width = (torch.export.Dim(name, min=1) for name in ("batch", "height", "width"))
    dims = {0: batch} | ({2: height, 3: width} if len(sizes) > 1 else {})
    # Two images, and two patches a side where any size is taken: one would be taken for a constant.
    size = next((size for size in sizes if min(size) >= 2 * encoder.patch_size), sizes[0])
    sample = torch.zeros(2, 3, *size, device=device_of(module))
    try:
        return to_graph(module, sample, dims, "pixel_values", outputs_of(module), opset)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(
            f"encoder={encoder.name}: an operation of it cannot be written as ONNX: {_reason(error)}"
        ) from error


def to_graph(
    module: torch.nn.Module,
    sample: torch.Tensor,
    dims: dict[int, Any],
    name: str,
    outputs: Sequence[str],
    opset: int = OPSETS[0],
) -> onnx.ModelProto:
    """A torch module of one tensor as a `ModelProto`; `dims` are the dynamic dimensions of its input `name`."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            opset_version=opset,
            input_names=[name],
            output_names=outputs,
            dynamic_shapes=(dims,),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return clean(program.model_proto)


def _reason(error):
    """The innermost cause of a failed trace, as one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def clean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Strip doc strings and metadata: they name files of the machine that traced."""
    model.doc_string = ""
    del model.metadata_props[:]
    graphs = [model.graph, *model.functions]
    for graph in graphs:
        graph.doc_string = ""
        del graph.metadata_props[:]
        for node in graph.node:
            node.doc_string = ""
            del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    return model
