"""Time of a whole training step, views ready, beside the same step written out in plain PyTorch.

Both take the same views through the same architecture. The parts are timed in passes of their own, in which the
gradient is handed on from one to the next; the whole step of this library is `MaSSL.train_step` itself, that of the
plain one the sum of its parts.
"""

import contextlib
import dataclasses
import statistics
import time
from typing import Annotated

import typer

PARTS = ("encoder", "head", "loss", "optimiser", "teacher", "memory")


class _Stopwatch:
    """Seconds by part, added up over a step."""

    def __init__(self):
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextlib.contextmanager
    def __call__(self, part):
        import torch

        wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        wait()
        start = time.perf_counter()
        yield
        wait()
        self.seconds[part] += time.perf_counter() - start


def _pass(watch, encode, encode_teacher, head, head_teacher, loss_of):
    """Forward and backward of one step, part by part; the teacher's targets."""
    import torch

    with watch("encoder"):
        features = encode()
        with torch.no_grad():
            teacher_features = encode_teacher()
    with watch("head"):
        entry = features.detach().requires_grad_()
        embeddings = head(entry)
        with torch.no_grad():
            targets = head_teacher(teacher_features)
    with watch("loss"):
        rows = embeddings.detach().requires_grad_()
        loss_of(rows, targets).backward()
    with watch("head"):
        embeddings.backward(rows.grad)
    with watch("encoder"):
        features.backward(entry.grad)
    return targets


class _Ours:
    def __init__(self, recipe, views):
        self.model = recipe.build()
        self.views = views
        self.model.train()

    def whole(self):
        """Seconds of `MaSSL.train_step`."""
        watch = _Stopwatch()
        with watch("encoder"):
            self.model.train_step([self.views])
        return watch.seconds["encoder"]

    def parts(self):
        """Seconds of each part."""
        import torch

        model, watch = self.model, _Stopwatch()
        student, teacher, half = model.student, model.teacher, len(self.views[0])
        groups = [torch.cat(self.views[:2])] + ([torch.cat(self.views[2:])] if self.views[2:] else [])
        model.zero_grad()

        def loss_of(rows, targets):
            blocks = model.memory.permutation(model.step)
            return model.consistency(rows, targets, model.memory, blocks, model.teacher_temperature)[0]

        targets = _pass(
            watch,
            lambda: torch.cat([student.encoder(group, training=True) for group in groups]),
            lambda: teacher.encoder(groups[0], training=True),
            lambda features: student.head(features, training=True),
            lambda features: teacher.head(features, training=True),
            loss_of,
        )
        with watch("optimiser"):
            model._update_student(torch.zeros(()), [])
        with watch("memory"):
            model.memory.update(targets[half:])
        with watch("teacher"):
            model._update_teacher()
        return watch.seconds


class _Plain:
    def __init__(self, recipe, views):
        import copy

        import torch
        from plain_step import Head, ViT, groups_of_decay

        self.recipe = recipe
        self.views = [view.permute(0, 3, 1, 2).contiguous() for view in views]
        self.student = torch.nn.ModuleList(
            [ViT(**recipe.encoder), Head(recipe.encoder["embed_dim"], recipe.hidden_dim, recipe.output_dim)]
        ).to(views[0].device)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        unit = torch.nn.functional.normalize(torch.randn(recipe.memory_size, recipe.output_dim), dim=1)
        self.memory, self.pointer = unit.to(views[0].device), 0
        groups = groups_of_decay(self.student, recipe.weight_decay[0])
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.peak_learning_rate)

    def parts(self):
        """Seconds of each part."""
        import torch
        from loss_speed import dense_loss
        from plain_step import clip_each

        recipe, watch, half = self.recipe, _Stopwatch(), len(self.views[0])
        groups = [torch.cat(self.views[:2])] + ([torch.cat(self.views[2:])] if self.views[2:] else [])
        self.optimizer.zero_grad()

        def loss_of(rows, targets):
            blocks = torch.randperm(recipe.memory_size, device=rows.device)
            temperatures = recipe.student_temperature, recipe.teacher_temperature[0]
            return dense_loss(rows, targets, self.memory, blocks, recipe.block_size, *temperatures)

        targets = _pass(
            watch,
            lambda: torch.cat([self.student[0](group) for group in groups]),
            lambda: self.teacher[0](groups[0]),
            self.student[1],
            self.teacher[1],
            loss_of,
        )
        with watch("optimiser"):
            clip_each(self.student, recipe.clip)
            self.optimizer.step()
        with watch("memory"), torch.no_grad():
            slots = (self.pointer + torch.arange(half, device=self.memory.device)) % recipe.memory_size
            self.memory[slots] = targets[half:]
            self.pointer = (self.pointer + half) % recipe.memory_size
        with watch("teacher"), torch.no_grad():
            for theirs, ours in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                theirs.mul_(recipe.momentum).add_(ours, alpha=1 - recipe.momentum)
        return watch.seconds


def benchmark_step(
    recipe: Annotated[str, typer.Option(help="Recipe whose step is timed.")] = "vits16_in1k",
    batch_size: Annotated[int, typer.Option(min=2, help="Images.")] = 32,
    local_views: Annotated[int | None, typer.Option(min=0, help="In place of the recipe's.")] = None,
    memory_size: Annotated[int | None, typer.Option(min=1, help="In place of the recipe's.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed steps of each; the median counts.")] = 3,
):
    """Seconds of a training step and its parts, beside a plain PyTorch step."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from memssl_keras.training.recipes import get_recipe

    chosen = get_recipe(recipe)
    crops = chosen.views
    if local_views is not None:
        crops = dataclasses.replace(crops, local_views=local_views)
    changes = {"batch_size": batch_size, "views": crops, "memory_size": memory_size or chosen.memory_size}
    chosen = dataclasses.replace(chosen, batch_norm=False, **changes)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sides = [crops.global_size] * 2 + [crops.local_size] * crops.local_views
    views = [torch.randn(batch_size, side, side, 3, device=device) for side in sides]
    ours, plain = _Ours(chosen, views), _Plain(chosen, views)
    wholes, parts, others = [], [], []
    for _ in range(rounds + 1):  # in turn, and the first round warms up
        others.append(plain.parts())
        wholes.append(ours.whole())
        parts.append(ours.parts())

    title = (
        f"{recipe}: B = {batch_size}, 2 × {crops.global_size} + {crops.local_views} × {crops.local_size} px, "
        f"K = {chosen.memory_size:,}, {device}, {torch.get_num_threads()} threads; seconds, median of {rounds}"
    )
    table = Table("part", "plain PyTorch", "memssl-keras", "faster", title=title)

    def median(values):
        return statistics.median(values[1:])

    def row(name, theirs, own):
        table.add_row(name, f"{theirs:.3f}", f"{own:.3f}", f"{theirs / own:.2f} ×")

    for part in PARTS:
        row(part, *(median([seconds[part] for seconds in side]) for side in (others, parts)))
    row("whole step", median([sum(seconds.values()) for seconds in others]), median(wholes))
    Console().print(table)
