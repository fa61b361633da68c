"""Settings that must stand before keras is imported."""

import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
# Tiny models run several times faster on one thread, and two test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["MEMSSL_CACHE"] = tempfile.mkdtemp(prefix="memssl-features-")  # not the user's
