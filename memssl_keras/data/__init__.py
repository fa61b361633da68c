"""Images for training: sources, labels, multi-crop views and the loader."""
