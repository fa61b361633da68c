"""Self-supervised image encoders trained with a memory of concepts (MaSSL), in Keras, deployable as ONNX.

Names are loaded on first use: `import memssl_keras` pulls in neither keras nor torch, so that an edge
device can use `OnnxEncoder` with numpy, Pillow and onnxruntime alone.
"""

import importlib
import os

__version__ = "0.1.0"

_PUBLIC = {
    "ViT": "encoders.vit",
    "ResNet": "encoders.resnet",
    "ProjectionHead": "training.head",
    "Memory": "training.memory",
    "MemoryConsistency": "training.loss",
    "koleo": "training.loss",
    "MaSSL": "training.massl",
    "whiten": "training.whiten",
    "AdamW": "training.optimizer",
    "MultiCrop": "data.views",
    "Stream": "data.huggingface",
    "Schedules": "training.schedules",
    "cosine_schedule": "training.schedules",
    "Recipe": "training.recipes",
    "get_recipe": "training.recipes",
    "list_recipes": "training.recipes",
    "from_pretrained": "pretrained",
    "save_pretrained": "pretrained",
    "push_to_hub": "zoo.publish",
    "OnnxEncoder": "export",
    "export_onnx": "export",
    "list_models": "zoo.registry",
}
__all__ = [*_PUBLIC, "__version__"]

# Training needs the torch backend; a backend that the user chose stands, and the encoder runs on it.
os.environ.setdefault("KERAS_BACKEND", "torch")


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'memssl_keras' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"memssl_keras.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted(__all__)
