"""Parity on runs that the shipped goldens do not hold, written by an independent implementation in torch.

That implementation is itself held against the shipped goldens first.
"""

import golden_training
import keras
import numpy as np
import pytest
import torch
from golden_runs import Golden, training_runs, without_buffers
from golden_training import OffBound, check_training, comparable, replay
from reference_run import generate
from rounding import FACTOR, times_bound

from memssl_keras import AdamW, MaSSL, Memory, MemoryConsistency

pytestmark = [pytest.mark.numeric, pytest.mark.slow]


@pytest.mark.parametrize("path", training_runs(), ids=lambda p: p.stem)
def test_the_independent_run_is_the_shipped_one(path):
    """The reference ran in float32: it may be as far from float64 as another float32 run, tensor by tensor."""
    golden = Golden(path)
    exact, noise = replay(golden)
    for step in range(golden.config["steps"]):
        at = f"step{step}/"
        files = without_buffers(golden.under(at))
        names, norms = files.pop("grad_names"), files.pop("grad_norms")
        assert {f"{at}gradient/{n}" for n in names} == {n for n in exact if n.startswith(f"{at}gradient/")}
        # The file has the norms of gradients alone. No norm is further off than the gradient itself.
        for name, theirs in zip(names, norms, strict=True):
            name = f"{at}gradient/{name}"
            if not name.endswith("qkv.bias") and exact[name].size:
                assert abs(np.linalg.norm(exact[name]) - theirs) <= FACTOR * noise[name], name
        for name, theirs in files.items():
            ours, theirs = exact[at + name], comparable(name, theirs, golden.config)
            if ours.dtype.kind == "f":
                assert times_bound(theirs, ours, noise[at + name]) <= 1, (step, name)
            else:
                np.testing.assert_array_equal(ours, theirs, err_msg=name)


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


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """A golden file of two steps, and its independent run."""
    path = generate(tmp_path_factory.mktemp("run") / "run.npz", steps=2)
    return path, replay(Golden(path))


def test_parity_notices_a_changed_method(short_run, monkeypatch):
    update = MaSSL._update_teacher
    monkeypatch.setattr(MaSSL, "_update_teacher", lambda self: (update(self), update(self)))
    with pytest.raises(OffBound, match="step 0: teacher.* is off") as failure:
        check_training(*short_run)
    assert max(failure.value.times.values()) > 10
    assert all(name.startswith("teacher/") for name in failure.value.times)


def test_parity_notices_another_order_of_blocks(short_run, monkeypatch):
    compare = MemoryConsistency.__call__

    def swapped(self, student, teacher, memory, permutation, temperature):
        permutation, half = permutation.clone(), len(permutation) // 2
        permutation[:half:2], permutation[half::2] = (
            permutation[half::2].clone(),
            permutation[:half:2].clone(),
        )
        return compare(self, student, teacher, memory, permutation, temperature)

    monkeypatch.setattr(MemoryConsistency, "__call__", swapped)
    with pytest.raises(OffBound, match="step 0: .* is off") as failure:
        check_training(*short_run)
    assert failure.value.times["loss"] > 10
    assert torch.is_grad_enabled()


def off_by(function, place, factor):
    """The function with one of its arguments scaled."""
    return lambda *args: function(*args[:place], args[place] * factor, *args[place + 1 :])


MISTAKES = {
    "teacher temperature, 1 in 1000": (
        MemoryConsistency, "__call__", off_by(MemoryConsistency.__call__, 5, 1.001), "loss"
    ),
    "learning rate, 1 in 1000": (
        AdamW,
        "_backend_update_step",
        off_by(AdamW._backend_update_step, 3, 1.001),
        "student/head.mlp.0.bias",
    ),
    "epsilon of AdamW where Keras has it": (
        AdamW,
        "_backend_update_step",
        keras.optimizers.AdamW._backend_update_step,
        "student/backbone.blocks.0.attn.qkv.bias",
    ),
    "decayed biases": (
        AdamW, "_use_weight_decay", lambda self, variable: True, "student/head.mlp.4.bias"
    ),
    "memory fed in another order": (
        Memory, "update", lambda self, rows, update=Memory.update: update(self, rows.flip(0)), "memory"
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_small_mistakes_are_found_by_a_margin_of_ten(short_run, monkeypatch, mistake):
    owner, method, wrong, name = MISTAKES[mistake]
    monkeypatch.setattr(owner, method, wrong)
    with pytest.raises(OffBound) as failure:
        check_training(*short_run)
    assert failure.value.times[name] > 10, failure.value.times


def test_another_epsilon_of_layer_norm_is_found_by_a_margin_of_ten(short_run, monkeypatch):
    """1e-6 and 1e-5 are what two families of ViTs have."""
    build = golden_training.encoder_of
    monkeypatch.setattr(
        golden_training, "encoder_of", lambda config: build({**config, "layer_norm_eps": 1e-5})
    )
    with pytest.raises(OffBound) as failure:
        check_training(*short_run)
    assert failure.value.times["loss"] > 10
