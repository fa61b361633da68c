"""Evaluations of frozen features, over any `embed(images) -> array`."""
