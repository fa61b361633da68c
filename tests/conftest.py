"""Settings that must stand before keras is imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
