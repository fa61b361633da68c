"""Checkpoints of other projects, one module for each family."""
