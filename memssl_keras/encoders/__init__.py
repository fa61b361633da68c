"""Image encoders in Keras: the base class, ViT and ResNet, and the layers that they are made of.

Importing this package registers every class that stands in a saved config.
"""

from memssl_keras.encoders.base import Encoder, WrappedEncoder
from memssl_keras.encoders.layers import Convolution, DropPath, GridPooling2D, Linear, MapNorm
from memssl_keras.encoders.preprocessing import PreprocessingLayer
from memssl_keras.encoders.resnet import ResNet
from memssl_keras.encoders.vit import ViT
from memssl_keras.encoders.whitening import Whitening

__all__ = [
    "Convolution",
    "DropPath",
    "Encoder",
    "GridPooling2D",
    "Linear",
    "MapNorm",
    "PreprocessingLayer",
    "ResNet",
    "ViT",
    "Whitening",
    "WrappedEncoder",
]
