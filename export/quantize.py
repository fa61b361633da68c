"""Smaller variants of an encoder's graph: float16 weights, int8 weights, and int8 throughout."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from memssl_keras.export.trace import clean

# What stays in float32 beside inputs and outputs: sums over many values, and the arithmetic of patch positions.
_FLOAT32 = [
    "LayerNormalization",
    "BatchNormalization",
    "Softmax",
    "ReduceMean",
    "ReduceL2",
    "GlobalAveragePool",
]
_POSITIONS = ["Abs", "Clip", "Floor", "Less", "LessOrEqual", "Range", "Reciprocal", "Where", "Resize"]
MOST_CALIBRATION_IMAGES = 256


def to_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and most arithmetic in float16; inputs, outputs, norms and softmax in float32."""
    from onnxruntime.transformers import float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *_FLOAT32, *_POSITIONS]
    smaller = OnnxModel(float16.convert_float_to_float16(copy, keep_io_types=True, op_block_list=blocked))
    smaller.topological_sort()  # the casts stand at the end
    del smaller.model.graph.value_info[:]  # in part of the types before
    return clean(smaller.model)


def _operators(model):
    """What is quantised: matrix products with weights and all convolutions but the first, see `_stem`.

    ReLU goes into the convolution before it: else that one's range would hold what ReLU then cuts off, and each of its
    steps would be about twice as wide.
    """
    return ["MatMul", "Gemm"] + (["Conv", "Relu"] if is_convolutional(model) else [])


def is_convolutional(model: onnx.ModelProto) -> bool:
    """Whether a graph's work is in convolutions, and not in matrix products behind a single one."""
    return sum(node.op_type == "Conv" for node in model.graph.node) > 1


def _stem(path):
    """The first convolution: few products, of pixels, whose rounding every other one would see."""
    return [node.name for node in onnx.load(path).graph.node if node.op_type == "Conv"][:1]


def to_int8(
    model: onnx.ModelProto, batches: Callable[[], Iterable[np.ndarray]] | None = None
) -> onnx.ModelProto:
    """The fastest graph in int8 that processors run: matrix products dynamic, convolutions static.

    Quantising the activations of convolutions as they come takes longer than the float32 convolution itself; with
    ranges known before, int8 is faster. Matrix products gain from both, and dynamic needs no images.

    Weights use 7 of their 8 bits: processors without VNNI add pairs of products in 16 bits, which 8 bits overflow,
    so that the same file gives the same vectors everywhere.

    Args:
        model: The float32 graph.
        batches: Function without arguments that gives preprocessed images to take the ranges of a convolutional
            graph from, arrays `(n, 3, H, W)` float32.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if is_convolutional(model):
        if batches is None:
            raise ValueError("batches: got None; expected a function, for a graph with convolutions")
        return to_static_int8(model, batches())
    return _quantised(
        model,
        lambda source, out: quantize_dynamic(
            source,
            out,
            op_types_to_quantize=_operators(model),
            nodes_to_exclude=_stem(source),
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        ),
    )


def to_static_int8(model: onnx.ModelProto, batches: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Weights in int8 per output channel, activations in uint8, their ranges taken from images.

    Ranges of convolutions leave out the largest of a million values, so that the steps between the others are finer;
    transformers need theirs.

    Args:
        model: The float32 graph.
        batches: Preprocessed images, arrays `(n, 3, H, W)` float32.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    method = CalibrationMethod.MinMax
    options: dict[str, Any] = {"MatMulConstBOnly": True}
    if is_convolutional(model):
        method = CalibrationMethod.Percentile
        # One batch after another: all maps of all images would not fit into memory.
        options |= {"CalibPercentile": 99.9999, "CalibStridedMinMax": 1}
    reader = _reader(list(batches))
    return _quantised(
        model,
        lambda source, out: quantize_static(
            source,
            out,
            reader,
            quant_format=QuantFormat.QDQ,
            calibrate_method=method,
            op_types_to_quantize=_operators(model),
            nodes_to_exclude=_stem(source),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=options,
        ),
    )


def _reader(batches):
    """The batches as ONNX Runtime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.set_range(0, len(batches))

        def __len__(self):
            return len(batches)

        def set_range(self, start_index, end_index):
            self.remaining = iter(batches[start_index:end_index])

        def get_next(self):
            batch = next(self.remaining, None)
            return None if batch is None else {"pixel_values": batch}

    return Reader()


def _quantised(model, quantise):
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().addFilter(_quiet)
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, prepared, out = (Path(folder) / f"{name}.onnx" for name in ("source", "prepared", "out"))
            onnx.save(model, source)
            # Its optimiser folds batch norm into convolutions, which are then quantised as one.
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
                quantise(prepared, out)
            return clean(onnx.load(out))
    finally:
        logging.getLogger().removeFilter(_quiet)


def _quiet(record):
    """The quantiser advises on the root logger to do what was just done."""
    return "pre-process" not in record.getMessage()
