"""A small real encoder folder for tests that need a model but none in particular."""

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EMBED_DIM = 24
PATCH = 8
PREPROCESSING = {
    "image_size": 32,
    "resize_size": 32,
    "interpolation": "bicubic",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


def write_encoder(folder, **config):
    """Write `config.json` and `onnx/model.onnx`: random patch filters, rectified and averaged over patches.

    Args:
        folder: where to; made if it is missing.
        config: entries that replace those of `config.json`.

    Returns:
        `folder` as given.
    """
    filters = np.random.default_rng(0).normal(size=(EMBED_DIM, 3, PATCH, PATCH)).astype(np.float32) / PATCH
    tensors = [
        numpy_helper.from_array(filters, "filters"),
        numpy_helper.from_array(np.array([0, EMBED_DIM, -1]), "flat"),
        numpy_helper.from_array(np.array([1]), "patches"),
    ]
    nodes = [
        helper.make_node("Conv", ["pixel_values", "filters"], ["map"], strides=[PATCH, PATCH]),
        helper.make_node("Relu", ["map"], ["rectified"]),
        helper.make_node("Reshape", ["rectified", "flat"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["last_hidden_state"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["last_hidden_state", "patches"], ["pooler_output"], keepdims=0),
    ]
    pixel_values = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, "h", "w"])
    tokens = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["n", "t", EMBED_DIM])
    pooled = helper.make_tensor_value_info("pooler_output", TensorProto.FLOAT, ["n", EMBED_DIM])
    graph = helper.make_graph(nodes, "encoder", [pixel_values], [tokens, pooled], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "onnx" / "model.onnx")
    settings = {
        "format_version": 1,
        "library_name": "memssl-keras",
        "model_type": "vit",
        "embed_dim": EMBED_DIM,
        "architecture": {},
        "preprocessing": PREPROCESSING,
    }
    (folder / "config.json").write_text(json.dumps(settings | config), encoding="utf-8")
    return folder
