"""Golden training runs through the real `MaSSL.fit`, compared after every step with an independent run in float64."""

import types

import keras
import numpy as np
import pytest
import torch
from golden_runs import Golden, encoder_of, without_buffers
from reference_run import train
from rounding import measure, times_bound

from memssl_keras import AdamW, MaSSL, Schedules
from memssl_keras.weights import torch_names


def names_of(branch):
    names = {f"backbone.{k}": v for k, v in torch_names.encoder_names(branch.encoder).items()}
    return names | {f"head.{k}": v for k, v in torch_names.head_names(branch.head).items()}


def model_of(golden):
    config = golden.config
    model = MaSSL(
        encoder_of(config),
        memory_size=config["memory_size"],
        block_size=config["block_size"],
        hidden_dim=config["head_hidden_dim"],
        output_dim=config["head_output_dim"],
        batch_norm=config["head_batch_norm"],
        student_temperature=config["student_temp"],
        koleo_weight=config["koleo_weight"],
    )
    state = without_buffers(golden.under("init/"))
    for branch in (model.student, model.teacher):
        torch_names.load_state(names_of(branch), state)
    model.memory.vectors.assign(golden["memory/init"])
    model.compile(AdamW(clipnorm=3.0))
    return model


def replay(golden):
    """An independent run of what a golden file starts from, in float64, and the noise of the same in float32.

    Returns:
        Two dictionaries by the file's names, as `rounding.measure` gives them, gradients before clipping among them.
    """
    config = golden.config
    schedules = {name: golden[name] for name in ("lr", "weight_decay", "momentum", "teacher_temp")}
    views = [
        [golden[f"step{s}/view{v}"] for v in range(2 + config["local_views"])] for s in range(config["steps"])
    ]

    def drift_as_the_file(number, *branches):
        for kind, parameters in zip(("student", "teacher"), branches, strict=True):
            for name in cancelled(config):
                parameters[name].copy_(torch.from_numpy(golden[f"step{number}/{kind}/{name}"]))

    def run(init, memory, views):
        steps = [
            {
                "views": views[s],
                "permutation": golden[f"step{s}/permutation"],
                "clip": float(golden[f"step{s}/clip"]),
            }
            for s in range(config["steps"])
        ]
        arrays = train(config, init, memory, steps, schedules, memory.dtype, drift_as_the_file)
        return {name: comparable(name, array, config) for name, array in arrays.items() if name[:4] == "step"}

    return measure(run, without_buffers(golden.under("init/")), golden["memory/init"], views)


class OffBound(AssertionError):
    """Tensors of a step are further from float64 than float32 explains; `times` tells how many times, by name."""

    def __init__(self, step, times):
        worst = max(times, key=times.get)
        super().__init__(f"step {step}: {worst} is off by {times[worst]:.3g} times what rounding explains")
        self.step, self.times = step, times


class GoldenSteps(keras.callbacks.Callback):
    """Gives each step its permutation and its clip, and checks the state after it."""

    def __init__(self, golden, exact, noise):
        super().__init__()
        self.golden, self.exact, self.noise, self.worst = golden, exact, noise, {}

    def on_train_batch_begin(self, batch, logs=None):
        at = f"step{self.model.step}"
        permutation = torch.from_numpy(self.golden[f"{at}/permutation"])
        self.model.memory.permutation = lambda step: permutation
        self.model.optimizer.clipnorm = float(self.golden[f"{at}/clip"])
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        config, model, step = self.golden.config, self.model, self.model.step - 1
        branches = {"student": names_of(model.student), "teacher": names_of(model.teacher)}
        found = {"loss": float(logs["loss"]), "memory": model.memory.vectors.numpy()}
        found |= {f"gradient/{name}": value for name, value in gradients(branches["student"]).items()}
        for kind, names in branches.items():
            assert names.keys() == without_buffers(self.golden.under(f"step{step}/{kind}/")).keys()
            found |= {f"{kind}/{name}": value for name, value in torch_names.to_state(names).items()}

        times = {}
        for name, ours in found.items():
            ours, exact = comparable(name, ours, config), self.exact[f"step{step}/{name}"]
            assert np.shape(ours) == exact.shape, name
            times[name] = times_bound(ours, exact, self.noise[f"step{step}/{name}"])
        self.worst = {name: max(value, self.worst.get(name, 0)) for name, value in times.items()}
        if max(times.values()) > 1:
            raise OffBound(step, {name: value for name, value in times.items() if value > 1})
        assert int(model.memory.pointer.numpy()) == int(self.exact[f"step{step}/pointer"])

        # Where they drift, batch norm's running mean drifts along; nothing else does.
        for kind, names in branches.items():
            for name in cancelled(config):
                names[name][0].assign(self.golden[f"step{step}/{kind}/{name}"])


def gradients(names):
    """The gradients of the last step under torch's names, in torch's layouts."""
    return torch_names.to_state(
        {
            name: (types.SimpleNamespace(value=variable.value.grad), layout)
            for name, (variable, layout) in names.items()
            if variable.value.grad is not None
        }
    )


def cancelled(config):
    """Weights whose true gradient is zero because batch norm takes a constant out."""
    names = ("head.mlp.0.bias", "head.mlp.3.bias", "backbone.norm.bias")
    return names if config["head_batch_norm"] else ()


def comparable(name, array, config):
    """The entries that count: Adam blows rounding noise up where the true gradient is zero."""
    if name.endswith("qkv.bias"):  # softmax cancels the key's bias
        query, _, value = np.split(array, 3)
        return np.concatenate([query, value])
    return array[:0] if name.split("/")[-1] in cancelled(config) else array


def check_training(path, replayed=None):
    """Run the steps of a golden file through `MaSSL.fit`.

    Args:
        path: The file.
        replayed: What `replay` gave for it, where that is known.

    Returns:
        Per tensor, the largest share of its bound that it was off by in any step.

    Raises:
        OffBound: names the step and the tensor that differ.
    """
    golden = Golden(path)
    config, model, checks = (
        golden.config,
        model_of(golden),
        GoldenSteps(golden, *(replayed or replay(golden))),
    )
    channels_last = lambda array: array.transpose(0, 2, 3, 1)  # noqa: E731
    count = 2 + config["local_views"]
    steps = [
        [channels_last(golden[f"step{s}/view{v}"]) for v in range(count)] for s in range(config["steps"])
    ]
    batches = [[[torch.from_numpy(np.ascontiguousarray(v)) for v in views]] for views in steps]
    schedules = Schedules(
        learning_rate=golden["lr"],
        weight_decay=golden["weight_decay"],
        teacher_momentum=golden["momentum"],
        teacher_temperature=golden["teacher_temp"],
    )
    for batch in batches:  # an epoch each, so that the losses that fit reports are those of single steps
        loader = torch.utils.data.DataLoader(batch, batch_size=None)
        model.fit(loader, callbacks=[schedules, checks], verbose=0)
    assert model.step == config["steps"]
    filled = min(config["steps"] * config["batch_size"] / config["memory_size"], 1)
    assert model.memory.filled == pytest.approx(filled)
    return checks.worst
