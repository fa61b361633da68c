"""The real objects, run step by step beside the numbers that the reference produced.

Both ran in float32. Each is as far from an independent run in float64 as float32 explains, measured here.
"""

import json

import keras
import numpy as np
import pytest
import torch
from golden_runs import Golden, encoder_of, feature_runs, files_with, training_runs
from golden_training import check_training
from reference_run import Backbone
from reference_run import koleo as reference_koleo
from rounding import measure, nudged, times_bound

from memssl_keras import cosine_schedule, koleo
from memssl_keras.weights import torch_names

pytestmark = pytest.mark.numeric

RUNS = training_runs()


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_parity_training(path):
    check_training(path)


def other_order(inputs, seed):
    """Embeddings with their features in another order: sums round differently, and nothing else changes."""
    (embeddings,) = nudged(inputs, seed=0)
    order = torch.randperm(embeddings.shape[-1], generator=torch.Generator().manual_seed(seed))
    return (embeddings[..., order],)


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_parity_koleo(path):
    golden = Golden(path)
    batch, steps = golden.config["batch_size"], range(golden.config["steps"])
    embeddings = torch.from_numpy(np.stack([golden[f"step{s}/student_embedding"] for s in steps]))

    def independent(embeddings):
        return {"koleo": torch.stack([reference_koleo(step, batch) for step in embeddings])}

    exact, noise = measure(independent, embeddings, vary=other_order)
    ours = [float(sum(map(koleo, step[: 2 * batch].split(batch))) / 2) for step in embeddings]
    theirs = [float(golden[f"step{s}/koleo"]) for s in steps]
    assert times_bound(ours, exact["koleo"], noise["koleo"]) <= 1
    assert times_bound(theirs, exact["koleo"], noise["koleo"]) <= 1


@pytest.mark.parametrize("eps, found", [(1e-8, False), (1e-4, True)])
def test_parity_koleo_notices_another_epsilon(eps, found):
    """Where neighbours are told apart. In goldens two may be equally near in float32, and either one is right."""
    embeddings = torch.randn(4, 2 * 8, 32, generator=torch.Generator().manual_seed(0))
    embeddings = torch.nn.functional.normalize(embeddings, dim=-1)

    def independent(embeddings):
        return {"koleo": torch.stack([reference_koleo(step, 8) for step in embeddings])}

    exact, noise = measure(independent, embeddings, vary=other_order)
    ours = [float(sum(koleo(view, eps) for view in step.split(8)) / 2) for step in embeddings]
    times = times_bound(ours, exact["koleo"], noise["koleo"])
    assert times > 10 if found else times <= 1


@pytest.mark.parametrize("path, run", feature_runs(), ids=lambda p: p.stem)
def test_parity_features(path, run):
    features, golden = Golden(path), Golden(run)
    config = golden.config
    encoder = encoder_of(config)
    last = golden.under(f"step{config['steps'] - 1}/teacher/backbone.")
    torch_names.load_state(torch_names.encoder_names(encoder), last)

    def independent(state, pixels):
        backbone = Backbone(config).to(pixels.dtype)
        backbone.load_state_dict(state)
        with torch.no_grad():
            tokens = backbone.tokens(pixels)
        return {"tokens": tokens, "attention": backbone.blocks[-1].attn.weights, "cls": tokens[:, 0]}

    sizes = features.under("pixels_")
    assert len(sizes) >= 3
    for size, pixels in sizes.items():
        exact, noise = measure(independent, last, pixels)
        images = pixels.transpose(0, 2, 3, 1)
        # The last block does not compute the other tokens for CLS alone.
        ours = {
            "tokens": encoder.tokens(images),
            "attention": encoder.attention(images),
            "cls": encoder(images),
        }
        theirs = {name: features[f"{name}_{size}"] for name in ("tokens", "attention")}
        theirs["cls"] = theirs["tokens"][:, 0]
        for name, value in ours.items():
            value = keras.ops.convert_to_numpy(value)
            assert times_bound(value, exact[name], noise[name]) <= 1, (size, name)
            assert times_bound(theirs[name], exact[name], noise[name]) <= 1, (size, name)
            assert np.abs(value - theirs[name]).max() < 1e-5, (size, name)


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
