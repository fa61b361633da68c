"""Deploy: an encoder as ONNX, and what it takes to run it without Keras or torch.

Names are loaded on first use: an edge device imports `OnnxEncoder` without the packages that write ONNX.
"""

import importlib

_PUBLIC = {"export_onnx": "onnx", "OnnxEncoder": "runtime"}
__all__ = [*_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted(__all__)
