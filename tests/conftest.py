"""Settings that must stand before keras is imported."""

import os
import tempfile

os.environ.setdefault("KERAS_BACKEND", "torch")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests that run beside others do not spin
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["MEMSSL_CACHE"] = tempfile.mkdtemp(prefix="memssl-features-")  # not the user's
