"""Keras callbacks of a pretraining run."""
