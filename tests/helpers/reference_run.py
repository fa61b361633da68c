"""A whole training run in plain torch, written from the method's text alone: dense loss, torch's own AdamW.

It shares no code with the library. In float64, what differs is the library's error; in float32, it shows how large
that error may be. `train` gives the arrays of a golden file, `generate` writes such a file.
"""

import copy
import json
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CONFIG = {
    "image_size": 32,
    "local_size": 16,
    "patch_size": 8,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 3,
    "mlp_ratio": 4,
    "qkv_bias": True,
    "layer_norm_eps": 1e-6,
    "head_hidden_dim": 64,
    "head_output_dim": 32,
    "head_batch_norm": False,
    "memory_size": 64,
    "block_size": 16,
    "batch_size": 4,
    "local_views": 3,
    "steps": 4,
    "student_temp": 0.1,
    "koleo_weight": 0.0,
    "optimizer": "AdamW betas (0.9, 0.999) eps 1e-8",
}


class Attention(nn.Module):
    def __init__(self, dim, heads, bias):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias), nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        weights = (qkv[0] @ qkv[1].transpose(-2, -1) / math.sqrt(dim // self.heads)).softmax(-1)
        self.weights = weights
        return self.proj((weights @ qkv[2]).transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        dim, eps = config["embed_dim"], config["layer_norm_eps"]
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.attn = Attention(dim, config["num_heads"], config["qkv_bias"])
        self.mlp = Mlp(dim, int(dim * config["mlp_ratio"]))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Backbone(nn.Module):
    def __init__(self, config):
        super().__init__()
        dim, self.patch = config["embed_dim"], config["patch_size"]
        self.grid = config["image_size"] // self.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, dim))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, dim, self.patch, self.patch)})
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["depth"]))
        self.norm = nn.LayerNorm(dim, config["layer_norm_eps"])

    def positions(self, height, width):
        if (height, width) == (self.grid, self.grid):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, self.grid, self.grid, -1).permute(0, 3, 1, 2)
        scale = ((height + 0.1) / self.grid, (width + 0.1) / self.grid)
        resized = functional.interpolate(
            grid, scale_factor=scale, mode="bicubic", recompute_scale_factor=False
        )
        assert resized.shape[-2:] == (height, width)
        return torch.cat([self.pos_embed[:, :1], resized.flatten(2).transpose(1, 2)], 1)

    def tokens(self, images):
        """All tokens behind the final norm, CLS first."""
        patches = self.patch_embed["proj"](images)
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)], 1)
        x = x + self.positions(*patches.shape[-2:])
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(self, images):
        return self.tokens(images)[:, 0]


class Network(nn.Module):
    """Backbone and head under the names of the method's checkpoints."""

    def __init__(self, config):
        super().__init__()
        self.backbone = Backbone(config)
        widths, layers = [config["embed_dim"], *[config["head_hidden_dim"]] * 2], []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            norm = [nn.BatchNorm1d(after)] if config["head_batch_norm"] else []
            layers += [nn.Linear(before, after), *norm, nn.GELU()]
        self.head = nn.Module()
        self.head.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], config["head_output_dim"]))

    def forward(self, views):
        sizes = sorted({view.shape[-1] for view in views}, reverse=True)
        batches = [torch.cat([v for v in views if v.shape[-1] == size]) for size in sizes]
        features = torch.cat([self.backbone(batch) for batch in batches])
        return functional.normalize(self.head.mlp(features), dim=-1, eps=1e-6)


def cross_entropy(student, teacher, memory, permutation, config, teacher_temperature):
    """H(teacher_j, student_i) over every block, averaged over blocks, batch, and pairs of different views."""
    rows = config["batch_size"]
    student, teacher = student.split(rows), teacher.split(rows)
    blocks = memory[permutation].split(config["block_size"])
    terms = []
    for j, target in enumerate(teacher):
        for i, view in enumerate(student):
            if i != j:
                for block in blocks:
                    q = (target @ block.T / teacher_temperature).softmax(-1)
                    terms.append(
                        -(q * (view @ block.T / config["student_temp"]).log_softmax(-1)).sum(-1).mean()
                    )
    return torch.stack(terms).mean()


def koleo(student, rows):
    losses = []
    for view in student[: 2 * rows].split(rows):
        nearest = (view @ view.T - 2 * torch.eye(rows)).argmax(1)
        distance = (view - view[nearest] + 1e-8).norm(dim=1)
        losses.append(-(distance + 1e-8).log().mean())
    return sum(losses) / 2


def train(config, init, memory, steps, schedules, dtype=torch.float64, after_step=None):
    """Arrays of a golden file, in the precision that the run has, and the gradients before clipping.

    Args:
        config: as `CONFIG`.
        init: state of student and teacher at the start, by torch's names.
        memory: its vectors at the start, `(K, D)`.
        steps: per step, its `views` (NCHW), `permutation` and `clip`.
        schedules: `lr`, `weight_decay`, `momentum` and `teacher_temp`, a value per step each.
        dtype: precision of everything.
        after_step: called with the step's number and the parameters of student and teacher by name, which it may
            change.
    """
    student = Network(config).to(dtype)
    student.load_state_dict({k: torch.as_tensor(v) for k, v in init.items()}, strict=False)
    teacher = copy.deepcopy(student)
    decayed = [p for p in student.parameters() if p.ndim > 1]
    flat = [p for p in student.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": decayed}, {"params": flat, "weight_decay": 0.0}])
    memory, pointer, rows = torch.as_tensor(memory).to(dtype, copy=True), 0, config["batch_size"]
    arrays = {f"init/{k}": stored(v) for k, v in student.state_dict().items()}
    arrays |= {"memory/init": stored(memory), "config": np.array(json.dumps(config)), **schedules}
    for number, step in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedules["lr"][number]
        optimizer.param_groups[0]["weight_decay"] = schedules["weight_decay"][number]
        views = [torch.as_tensor(view).to(dtype) for view in step["views"]]
        permutation = torch.as_tensor(step["permutation"])
        with torch.no_grad():
            targets = teacher.train()(views[:2])
        embeddings = student.train()(views)
        temperature = schedules["teacher_temp"][number]
        entropy = cross_entropy(embeddings, targets, memory, permutation, config, temperature)
        spreading = koleo(embeddings, rows)
        loss = entropy + config["koleo_weight"] * spreading if config["koleo_weight"] else entropy
        for view in targets[rows:]:
            memory[pointer] = view
            pointer = (pointer + 1) % len(memory)
        optimizer.zero_grad()
        loss.backward()
        named = dict(student.named_parameters())
        gradients = {f"gradient/{name}": p.grad.clone() for name, p in named.items()}
        norms = [float(p.grad.norm()) for p in named.values()]
        for parameter, norm in zip(named.values(), norms, strict=True):
            parameter.grad.mul_(min(1.0, step["clip"] / (norm + 1e-6)))
        optimizer.step()
        with torch.no_grad():
            m = schedules["momentum"][number]
            for ours, followed in zip(teacher.parameters(), student.parameters(), strict=True):
                ours.mul_(m).add_(followed, alpha=1 - m)
            if after_step:
                after_step(number, named, dict(teacher.named_parameters()))
        values = {f"view{i}": view for i, view in enumerate(views)}
        values |= {
            "student_embedding": embeddings,
            "teacher_embedding": targets,
            "permutation": permutation,
            "clip": np.float64(step["clip"]),
            "grad_norms": np.array(norms),
            "grad_names": np.array(list(named)),
            **gradients,
            "loss": np.float64(loss.item()),
            "cross_entropy": np.float64(entropy.item()),
            "koleo": np.float64(spreading.item()),
            "memory": memory,
            "pointer": np.int64(pointer),
        }
        for kind, network in (("student", student), ("teacher", teacher)):
            values |= {f"{kind}/{k}": v for k, v in network.state_dict().items()}
        arrays |= {f"step{number}/{k}": stored(v) for k, v in values.items()}
    return arrays


def stored(value):
    return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else value


def as_in_a_file(array):
    """Golden files hold tensors in float32; schedules, losses and norms, of one dimension or none, as they are."""
    return array.astype("float32") if array.ndim > 1 and array.dtype == "float64" else array


def generate(path, seed=0, **changes):
    """Write the golden file of a run on random views, with `CONFIG` and some changes to it."""
    config, generator = {**CONFIG, **changes}, torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    state = Network(config).state_dict()
    init = {k: 0.02 * normal(*v.shape) if v.ndim > 1 else v for k, v in state.items()}
    init |= {k: 0.02 * normal(*v.shape) for k, v in state.items() if k.endswith("bias") and ".norm" not in k}
    # Real runs leave batch norm's statistics and the norms' weights somewhere else than at 0 and 1.
    init |= {
        k: v + 0.1 * normal(*v.shape) for k, v in state.items() if "norm" in k or k.endswith("running_mean")
    }
    memory = functional.normalize(normal(config["memory_size"], config["head_output_dim"]))
    sizes = [config["image_size"]] * 2 + [config["local_size"]] * config["local_views"]
    steps = [
        {
            "views": [normal(config["batch_size"], 3, size, size) for size in sizes],
            "permutation": torch.randperm(config["memory_size"], generator=generator),
            "clip": 3.0 if number < config["steps"] - 1 else 0.01,
        }
        for number in range(config["steps"])
    ]
    schedules = {
        "lr": np.linspace(1e-3, 2e-4, config["steps"]),
        "weight_decay": np.linspace(0.04, 0.4, config["steps"]),
        "momentum": np.linspace(0.95, 0.99, config["steps"]),
        "teacher_temp": np.linspace(0.04, 0.07, config["steps"]),
    }
    arrays = train(config, init, memory, steps, schedules)
    np.savez(
        path, **{name: as_in_a_file(array) for name, array in arrays.items() if "/gradient/" not in name}
    )
    return path
