"""Mixed precision: 16-bit layers, 32-bit weights, normalisation and loss; scaled losses; a memory in float16."""

import dataclasses

import keras
import numpy as np
import pytest
import torch
from kill_and_resume import arrays_of
from tiny_run import RECIPE, pictures

from memssl_keras import AdamW, MaSSL, Memory, MemoryConsistency, ViT
from memssl_keras.training.checkpoints import Checkpoints
from memssl_keras.training.pretrain import pretrain

SHORT = dataclasses.replace(RECIPE, epochs=2, encoder={**RECIPE.encoder, "drop_path": 0.0})
IMAGES = pictures(24)
POLICIES = ("mixed_bfloat16", "mixed_float16")


def views(count=4, seed=0):
    rng = np.random.default_rng(seed)
    make = lambda size: torch.from_numpy(rng.integers(0, 255, (count, size, size, 3), dtype="uint8"))  # noqa: E731
    return [make(16), make(16), make(8), make(8)]


def losses(model, steps=3):
    values = []
    for step in range(steps):
        model.reset_metrics()
        values.append(float(model.train_step([views(seed=step)])["loss"]))
    return values


@pytest.mark.parametrize("policy", POLICIES)
def test_layers_compute_in_16_bits_and_keep_32(policy):
    keras.utils.set_random_seed(0)
    model = dataclasses.replace(SHORT, precision=policy).build()
    short = policy.removeprefix("mixed_")
    for branch in (model.student, model.teacher):
        layers = [layer for layer in branch._flatten_layers() if layer.weights]
        assert {layer.compute_dtype for layer in layers} == {short}
        assert {w.dtype for w in branch.trainable_weights} <= {"float32"}
        images = np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype("float32")
        assert str(branch.encoder(images).dtype) == f"torch.{short}"
        embeddings = branch([torch.from_numpy(images)])
        assert embeddings.dtype == torch.float32
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3), atol=1e-5, rtol=0)
    assert model.memory.vectors.dtype == "float32"


@pytest.mark.numeric
@pytest.mark.parametrize("policy", POLICIES)
def test_losses_are_near_those_of_full_precision(policy):
    runs = {}
    for name in ("float32", policy):
        keras.utils.set_random_seed(0)
        model = dataclasses.replace(SHORT, precision=name).build()
        if name == "mixed_float16":  # the scale at which it starts leaves steps out at first
            model.optimizer.dynamic_scale.assign(2.0**10)
        runs[name] = losses(model)
    assert runs[policy] != runs["float32"]
    np.testing.assert_allclose(runs[policy], runs["float32"], rtol=0.02)


def test_a_step_that_overflows_is_left_out_and_the_scale_falls():
    model = dataclasses.replace(SHORT, precision="mixed_float16").build()
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, AdamW)
    before = [v.numpy().copy() for v in model.student.trainable_variables]
    model.optimizer.dynamic_scale.assign(2.0**127)
    losses(model, 1)
    assert float(model.optimizer.dynamic_scale.numpy()) == 2.0**126 and model.step == 0
    assert all(
        np.array_equal(b, v.numpy()) for b, v in zip(before, model.student.trainable_variables, strict=True)
    )
    model.optimizer.dynamic_scale.assign(2.0**10)
    losses(model, 1)
    assert model.step == 1
    assert not all(
        np.array_equal(b, v.numpy()) for b, v in zip(before, model.student.trainable_variables, strict=True)
    )


def test_schedules_reach_the_optimiser_inside_the_scaling():
    recipe = dataclasses.replace(SHORT, precision="mixed_float16")
    model, schedules = recipe.build(), recipe.schedules()
    schedules.set_params({"epochs": 2, "steps": 4})
    schedules.set_model(model)
    schedules.on_train_begin()
    schedules.on_train_batch_begin(0)
    inner = model.optimizer.inner_optimizer
    assert inner.weight_decay == schedules.at(0)["weight_decay"]
    assert float(inner.learning_rate.numpy()) == pytest.approx(schedules.at(0)["learning_rate"])


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"precision": "mixed_float16"}, {"memory_storage": "float16"}])
def test_exact_resume(tmp_path, changes):
    recipe = dataclasses.replace(SHORT, **changes)

    class Crash(keras.callbacks.Callback):
        batches = 0  # counted here: steps that overflow do not count for the model

        def on_train_batch_begin(self, batch, logs=None):
            self.batches += 1
            if self.batches == 8:
                raise KeyboardInterrupt

    quiet = {"checkpoint_every": 3, "say": lambda line: None}
    pretrain(recipe, IMAGES, tmp_path / "alone", **quiet)
    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, IMAGES, tmp_path / "run", callbacks=[Crash()], **quiet)
    pretrain(recipe, IMAGES, tmp_path / "run", **quiet)
    last = [Checkpoints(tmp_path / name / "checkpoints").newest() for name in ("alone", "run")]
    alone, run = (arrays_of(path / "model.keras") for path in last)
    assert last[0].name == last[1].name
    assert alone.keys() == run.keys()
    assert all(alone[name].tobytes() == run[name].tobytes() for name in alone)


@pytest.mark.numeric
def test_a_memory_in_float16_takes_half_the_bytes_and_gives_nearly_the_same_loss():
    unit = lambda rows: torch.nn.functional.normalize(torch.randn(rows, 32), dim=1)  # noqa: E731
    torch.manual_seed(0)
    student, teacher, seen = unit(4 * 8), unit(2 * 8), unit(40)
    values = {}
    for storage in ("float32", "float16"):
        memory = Memory(256, 32, 64, storage=storage)
        memory.update(seen)
        rows = student.clone().requires_grad_()
        loss, _ = MemoryConsistency()(rows, teacher, memory, memory.permutation(0), 0.05)
        loss.backward()
        assert loss.dtype == rows.grad.dtype == torch.float32
        values[storage] = float(loss.detach())
        assert memory.vectors.value.element_size() == {"float32": 4, "float16": 2}[storage]
    assert values["float16"] == pytest.approx(values["float32"], rel=1e-3)
    with pytest.raises(ValueError, match="storage='int8': expected 'float32' or 'float16'"):
        Memory(256, 32, 64, storage="int8")


def test_storage_and_precision_survive_saving(tmp_path):
    encoder = ViT(embed_dim=12, depth=1, num_heads=2, patch_size=8, image_size=16, dtype="mixed_bfloat16")
    model = MaSSL(
        encoder, 64, 16, hidden_dim=8, output_dim=8, memory_storage="float16", dtype="mixed_bfloat16"
    )
    model.compile()
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.memory.vectors.dtype == "float16"
    assert (
        again.student.head.linears[0].compute_dtype == again.encoder.blocks[0].fc1.compute_dtype == "bfloat16"
    )
    with pytest.raises(
        ValueError, match="precision='float8': expected float32, mixed_bfloat16, mixed_float16"
    ):
        dataclasses.replace(RECIPE, precision="float8")
