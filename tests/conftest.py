"""Settings that must stand before keras is imported."""

import os
import tempfile

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")
# Tiny models run several times faster on one thread, and two test processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ["MEMSSL_CACHE"] = tempfile.mkdtemp(prefix="memssl-features-")  # not the user's


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub on localhost, as the client's endpoint, and an empty cache."""
    from hub_server import lead_to, serving

    with serving() as server:
        lead_to(server.address, tmp_path, monkeypatch)
        yield server
