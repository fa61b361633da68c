"""Golden training runs through the real `MaSSL.fit`, compared after every step."""

import keras
import numpy as np
import pytest
import torch
from golden_runs import Golden, encoder_of, relative, without_buffers

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


class GoldenSteps(keras.callbacks.Callback):
    """Gives each step its permutation and its clip, and checks what it left behind."""

    def __init__(self, golden):
        super().__init__()
        self.golden, self.worst = golden, {}

    def on_train_batch_begin(self, batch, logs=None):
        at = f"step{self.model.step}"
        permutation = torch.from_numpy(self.golden[f"{at}/permutation"])
        self.model.memory.permutation = lambda step: permutation
        self.model.optimizer.clipnorm = float(self.golden[f"{at}/clip"])
        self.model.reset_metrics()

    def note(self, what, value, bound):
        assert value <= bound, (
            f"step {self.model.step - 1}: {what} is off by {value:.2e}, more than {bound:.0e}"
        )

    def on_train_batch_end(self, batch, logs=None):
        golden, at, model = self.golden, f"step{self.model.step - 1}", self.model
        loss = float(golden[f"{at}/loss"])
        self.note("loss", abs(float(logs["loss"]) - loss) / abs(loss), 1e-5)
        self.note("memory", np.abs(model.memory.vectors.numpy() - golden[f"{at}/memory"]).max(), 1e-5)
        assert int(model.memory.pointer.numpy()) == int(golden[f"{at}/pointer"])

        names = names_of(model.student)
        for name, norm in zip(golden[f"{at}/grad_names"], golden[f"{at}/grad_norms"], strict=True):
            gradient = names[str(name)][0].value.grad
            if norm > 1e-6 and name not in cancelled(golden.config):
                self.note(f"gradient of {name}", abs(float(gradient.norm()) - norm) / norm, 1e-4)

        for kind, branch in (("student", model.student), ("teacher", model.teacher)):
            ours = torch_names.to_state(names_of(branch))
            theirs = without_buffers(golden.under(f"{at}/{kind}/"))
            assert ours.keys() == theirs.keys()
            for name in theirs:
                kept = has_true_gradient(name, ours[name], golden.config)
                self.note(f"{kind} {name}", relative(ours[name][kept], theirs[name][kept]), 1e-4)
            # Where they drift, batch norm's running mean drifts along; nothing else does.
            for name in cancelled(golden.config):
                names_of(branch)[name][0].assign(theirs[name])


def cancelled(config):
    """Weights whose true gradient is zero because batch norm takes a constant out."""
    names = ("head.mlp.0.bias", "head.mlp.3.bias", "backbone.norm.bias")
    return names if config["head_batch_norm"] else ()


def has_true_gradient(name, array, config):
    """Which entries count: Adam blows rounding noise up where the true gradient is zero."""
    if name.endswith("qkv.bias"):  # softmax cancels the key's bias
        keep = np.ones(len(array), bool)
        keep[len(array) // 3 : 2 * len(array) // 3] = False
        return keep
    return slice(0, 0) if name in cancelled(config) else slice(None)


def check_training(path):
    """Run the steps of a golden file through `MaSSL.fit`; an AssertionError names step and tensor that differ."""
    golden = Golden(path)
    config, model = golden.config, model_of(golden)
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
        model.fit(loader, callbacks=[schedules, GoldenSteps(golden)], verbose=0)
    assert model.step == config["steps"]
    filled = min(config["steps"] * config["batch_size"] / config["memory_size"], 1)
    assert model.memory.filled == pytest.approx(filled)
