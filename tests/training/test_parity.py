"""The real objects, run step by step beside the numbers that the reference produced."""

import json

import keras
import numpy as np
import pytest
import torch
from golden_runs import Golden, encoder_of, feature_runs, files_with, training_runs
from golden_training import check_training

from memssl_keras import cosine_schedule, koleo
from memssl_keras.weights import torch_names

RUNS = training_runs()


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_parity_training(path):
    check_training(path)


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_parity_koleo(path):
    golden = Golden(path)
    batch = golden.config["batch_size"]
    for step in range(golden.config["steps"]):
        views = torch.from_numpy(golden[f"step{step}/student_embedding"][: 2 * batch]).split(batch)
        ours = float(sum(map(koleo, views)) / 2)
        assert ours == pytest.approx(float(golden[f"step{step}/koleo"]), rel=1e-5)


@pytest.mark.parametrize("path, run", feature_runs(), ids=lambda p: p.stem)
def test_parity_features(path, run):
    features, golden = Golden(path), Golden(run)
    config = golden.config
    encoder = encoder_of(config)
    last = golden.under(f"step{config['steps'] - 1}/teacher/backbone.")
    torch_names.load_state(torch_names.encoder_names(encoder), last)
    sizes = features.under("pixels_")
    assert len(sizes) >= 3
    for size, pixels in sizes.items():
        images = pixels.transpose(0, 2, 3, 1)
        tokens = keras.ops.convert_to_numpy(encoder.tokens(images))
        np.testing.assert_allclose(tokens, features[f"tokens_{size}"], atol=1e-5)
        attention = keras.ops.convert_to_numpy(encoder.attention(images))
        np.testing.assert_allclose(attention, features[f"attention_{size}"], atol=1e-5)
        cls = keras.ops.convert_to_numpy(encoder(images))
        # The last block does not compute the other tokens here.
        np.testing.assert_allclose(cls, features[f"tokens_{size}"][:, 0], atol=1e-5)


ARGUMENTS = {
    "base_value": "base",
    "final_value": "final",
    "epochs": "epochs",
    "niter_per_ep": "steps_per_epoch",
    "warmup_epochs": "warmup_epochs",
    "start_warmup_value": "start",
}


@pytest.mark.parametrize("path", files_with("lr_args"), ids=lambda p: p.stem)
@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum", "teacher_temp"])
def test_parity_schedules(name, path):
    golden = Golden(path)
    arguments = {ARGUMENTS[k]: v for k, v in json.loads(str(golden[f"{name}_args"])).items()}
    np.testing.assert_allclose(cosine_schedule(**arguments), golden[name], rtol=0, atol=1e-12)
