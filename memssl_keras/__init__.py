"""Self-supervised image encoders trained with a memory of past embeddings (MaSSL), in Keras, deployable as ONNX.

Names are loaded on first use: `import memssl_keras` pulls in neither keras nor torch, so that an edge
device can use `OnnxEncoder` with numpy, Pillow and onnxruntime alone.
"""

import importlib
import os

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` for it takes 10 ms
if TYPE_CHECKING:  # what editors and type checkers see of the table below
    from memssl_keras.data.huggingface import Stream
    from memssl_keras.data.views import MultiCrop
    from memssl_keras.encoders.base import Encoder
    from memssl_keras.encoders.resnet import ResNet
    from memssl_keras.encoders.vit import ViT
    from memssl_keras.export.onnx import export_onnx
    from memssl_keras.export.runtime import OnnxEncoder
    from memssl_keras.images.preprocess import Preprocessing
    from memssl_keras.pretrained import from_pretrained, save_pretrained
    from memssl_keras.training.head import ProjectionHead
    from memssl_keras.training.loss import MemoryConsistency, koleo
    from memssl_keras.training.massl import MaSSL
    from memssl_keras.training.memory import Memory
    from memssl_keras.training.optimizer import AdamW
    from memssl_keras.training.recipe import Recipe
    from memssl_keras.training.recipes import get_recipe, list_recipes
    from memssl_keras.training.schedules import Schedules, cosine_schedule
    from memssl_keras.training.whiten import whiten
    from memssl_keras.zoo.publish import push_to_hub
    from memssl_keras.zoo.registry import list_models

__version__ = "0.1.0"

_PUBLIC = {
    "AdamW": "training.optimizer",
    "Encoder": "encoders.base",
    "MaSSL": "training.massl",
    "Memory": "training.memory",
    "MemoryConsistency": "training.loss",
    "MultiCrop": "data.views",
    "OnnxEncoder": "export.runtime",
    "Preprocessing": "images.preprocess",
    "ProjectionHead": "training.head",
    "Recipe": "training.recipe",
    "ResNet": "encoders.resnet",
    "Schedules": "training.schedules",
    "Stream": "data.huggingface",
    "ViT": "encoders.vit",
    "cosine_schedule": "training.schedules",
    "export_onnx": "export.onnx",
    "from_pretrained": "pretrained",
    "get_recipe": "training.recipes",
    "koleo": "training.loss",
    "list_models": "zoo.registry",
    "list_recipes": "training.recipes",
    "push_to_hub": "zoo.publish",
    "save_pretrained": "pretrained",
    "whiten": "training.whiten",
}
__all__ = [
    "AdamW",
    "Encoder",
    "MaSSL",
    "Memory",
    "MemoryConsistency",
    "MultiCrop",
    "OnnxEncoder",
    "Preprocessing",
    "ProjectionHead",
    "Recipe",
    "ResNet",
    "Schedules",
    "Stream",
    "ViT",
    "__version__",
    "cosine_schedule",
    "export_onnx",
    "from_pretrained",
    "get_recipe",
    "koleo",
    "list_models",
    "list_recipes",
    "push_to_hub",
    "save_pretrained",
    "whiten",
]

# Training needs the torch backend; a backend that the user chose stands, and the encoder runs on it.
os.environ.setdefault("KERAS_BACKEND", "torch")
# Threads that wait for each other sleep: where another program needs the processor too, spinning ones make both
# several times slower. Libraries read this when they load, so it stands here; a choice of the user's stands.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# ONNX Runtime 1.29 and later send what is run on Linux (names and hashes of models, a device identity that is kept in
# the user's cache folder) to its makers, unless this is set before it loads.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'memssl_keras' has no attribute {name!r}; it has {', '.join(__all__)}")
    try:
        module = importlib.import_module(f"memssl_keras.{_PUBLIC[name]}")
    except ModuleNotFoundError as error:
        raise _missing(name, error) from None
    return getattr(module, name)


def _missing(name, error):
    """What to install for a public name, in place of the bare name of a module."""
    if error.name == "tensorflow":
        return ImportError(
            f"{name}: Keras runs on TensorFlow in this process, which is not installed; import memssl_keras before "
            "keras, or set KERAS_BACKEND=torch before Python starts"
        )
    extra = "export" if name == "export_onnx" else "keras"
    needed = (
        "keras",
        "torch",
        "cv2",
        "datasets",
        "safetensors",
        "matplotlib",
        "onnx",
        "onnxscript",
        "pyarrow",
    )
    if error.name not in needed:
        return error
    return ImportError(f"{name} needs {error.name}: pip install 'memssl-keras[{extra}]'")


def __dir__():
    return sorted(__all__)
