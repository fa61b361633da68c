"""Weights between Keras variables and the names and layouts that torch checkpoints use."""
