"""Image encoders in Keras: the base class, ViT and ResNet, and the layers that they are made of.

Importing this package registers every class that stands in a saved config.
"""
