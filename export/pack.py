"""Weights that float16 holds exactly, stored in it: half the file, the same numbers."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

SMALLEST = 1024  # numbers; of fewer, what is saved is not worth a node


def packed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same `ModelProto` with every large float32 weight that float16 holds exactly stored so, and cast back.

    Those are the weights of an encoder that was saved in float16. A runtime that optimises graphs casts them once, when
    it opens the file, and computes in float32 as before. To quantise such a file, let ONNX Runtime's
    `quant_pre_process` fold the casts first: quantisers look for weights, and find casts.
    """
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    casts = []
    for tensor in smaller.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) < SMALLEST:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}_float16"))
        casts.append(
            onnx.helper.make_node("Cast", [tensor.name], [name], f"{name}_cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *smaller.graph.node]
    del smaller.graph.node[:]
    smaller.graph.node.extend(nodes)
    return smaller
