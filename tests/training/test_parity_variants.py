"""Parity on runs that the shipped goldens do not hold, written by an independent implementation in torch.

That implementation is itself held against the shipped goldens first.
"""

import numpy as np
import pytest
import torch
from golden_runs import Golden, relative, training_runs, without_buffers
from golden_training import check_training, has_true_gradient
from reference_run import generate, train

from memssl_keras import MaSSL


@pytest.mark.parametrize("path", training_runs(), ids=lambda p: p.stem)
def test_the_independent_run_is_the_shipped_one(path):
    golden = Golden(path)
    config = golden.config
    steps = [
        {
            "views": [golden[f"step{s}/view{v}"] for v in range(2 + config["local_views"])],
            "permutation": golden[f"step{s}/permutation"],
            "clip": float(golden[f"step{s}/clip"]),
        }
        for s in range(config["steps"])
    ]
    schedules = {name: golden[name] for name in ("lr", "weight_decay", "momentum", "teacher_temp")}
    ours = train(config, golden.under("init/"), golden["memory/init"], steps, schedules)
    for s in range(config["steps"]):
        at = f"step{s}"
        assert float(ours[f"{at}/loss"]) == pytest.approx(float(golden[f"{at}/loss"]), rel=1e-5)
        assert float(ours[f"{at}/koleo"]) == pytest.approx(float(golden[f"{at}/koleo"]), rel=1e-5)
        np.testing.assert_allclose(ours[f"{at}/memory"], golden[f"{at}/memory"], atol=1e-5)
        assert ours[f"{at}/pointer"] == golden[f"{at}/pointer"]
        assert set(ours[f"{at}/grad_names"]) == set(golden[f"{at}/grad_names"])
        for kind in ("student", "teacher"):
            for name, theirs in without_buffers(golden.under(f"{at}/{kind}/")).items():
                kept = has_true_gradient(name, theirs, config)
                assert relative(ours[f"{at}/{kind}/{name}"][kept], theirs[kept]) < 1e-4, (s, kind, name)
    assert set(golden.arrays) <= set(ours)


VARIANTS = {
    "batch_norm": {"head_batch_norm": True},
    "koleo": {"koleo_weight": 0.1},
    "batch_norm_and_koleo": {"head_batch_norm": True, "koleo_weight": 0.1, "batch_size": 6},
    "memory_wraps_within_a_batch": {"memory_size": 20, "block_size": 5, "batch_size": 6, "steps": 5},
    "one_block": {"memory_size": 24, "block_size": 24},
    "no_local_views": {"local_views": 0},
    "no_qkv_bias": {"qkv_bias": False, "layer_norm_eps": 1e-5},
    "other_sizes": {
        "image_size": 30,
        "local_size": 18,
        "patch_size": 6,
        "embed_dim": 40,
        "depth": 3,
        "num_heads": 5,
        "mlp_ratio": 3,
        "head_hidden_dim": 56,
        "head_output_dim": 24,
        "memory_size": 90,
        "block_size": 30,
        "batch_size": 3,
        "local_views": 1,
        "student_temp": 0.2,
        "steps": 3,
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_parity_variant(tmp_path, name):
    check_training(generate(tmp_path / f"{name}.npz", **VARIANTS[name]))


def test_parity_notices_a_changed_method(tmp_path, monkeypatch):
    path = generate(tmp_path / "run.npz", steps=2)
    update = MaSSL._update_teacher
    monkeypatch.setattr(MaSSL, "_update_teacher", lambda self: (update(self), update(self)))
    with pytest.raises(AssertionError, match="step 0: teacher .* is off"):
        check_training(path)


def test_parity_notices_another_order_of_blocks(tmp_path):
    path = generate(tmp_path / "run.npz", steps=1)
    golden = Golden(path)
    swapped = golden["step0/permutation"].copy()
    half = len(swapped) // 2
    swapped[:half:2], swapped[half::2] = swapped[half::2].copy(), swapped[:half:2].copy()
    np.savez(path, **{**golden.arrays, "step0/permutation": swapped})
    with pytest.raises(AssertionError, match="step 0: loss is off"):
        check_training(path)
    assert torch.is_grad_enabled()
