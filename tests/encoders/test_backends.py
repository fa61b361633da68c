"""The encoder on JAX and TensorFlow beside torch; `make test-backends` makes their environment and runs this."""

import json
import os
import pathlib
import subprocess

import keras
import numpy as np
import pytest
from keras import ops
from small_models import rich_vit

from memssl_keras.weights import torch_names

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = os.environ.get("MEMSSL_BACKENDS_PYTHON")
SIZES = {"native": (32, 32), "larger": (56, 56), "not_square": (24, 40)}

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="MEMSSL_BACKENDS_PYTHON is not set; `make test-backends` sets it"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with an encoder in every form, images, and what torch makes of them."""
    assert keras.backend.backend() == "torch"
    folder, encoder = tmp_path_factory.mktemp("backends"), rich_vit(drop_path=0.1)
    config = {k: v for k, v in encoder.get_config().items() if k not in ("name", "trainable", "dtype")}
    (folder / "vit.json").write_text(json.dumps(config))
    np.savez(folder / "weights.npz", **torch_names.to_state(torch_names.encoder_names(encoder)))
    encoder.save(folder / "encoder.keras")
    encoder.save_weights(folder / "encoder.weights.h5")
    rng = np.random.default_rng(0)
    images = {k: rng.normal(size=(2, *size, 3)).astype("float32") for k, size in SIZES.items()}
    np.savez(folder / "inputs.npz", **images)
    features = {}
    for name, batch in images.items():
        features[f"tokens/{name}"] = ops.convert_to_numpy(encoder.tokens(batch))
        features[f"attention/{name}"] = ops.convert_to_numpy(encoder.attention(batch))
        features[f"cls/{name}"] = ops.convert_to_numpy(encoder(batch))
    return folder, features


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_features_are_those_of_torch(saved, backend):
    folder, torchs = saved
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    command = [os.path.abspath(PYTHON), str(ROOT / "tests" / "helpers" / "backend_features.py"), str(folder)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    results = dict(np.load(folder / f"{backend}.npz"))
    assert not results.pop("loaded_torch")
    assert len(results) == 7 * len(SIZES)
    for key, ours in results.items():
        kind, name = key.split("/")
        theirs = torchs[key if kind in ("tokens", "attention", "cls") else f"cls/{name}"]
        assert np.ptp(theirs) > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=key)
