"""A training step of `MaSSL` that one CUDA device takes without waiting for the processor: one CUDA graph.

A ResNet of 3.6 million parameters on 512 pictures of 24 px takes an H100 30 ms a step where Python launches its
optimiser and its averages one by one, and 16 ms where all of a step is captured once, from the views to the teacher's
weights, and launched at once. What changes from step to step lies in a table on the device.
"""

import math
import random

import torch


class DeviceStep:
    """Steps of a compiled `MaSSL` model with this project's `AdamW`, on the device that it lies on.

    Blocks of the memory are drawn on the device. A loss that is not finite is found at the end of an epoch, by
    `figures`. On a processor the same operations run one by one.

    Args:
        model: The model. Drop path, float16 and accumulated steps are not for graphs.
        views: From a tensor of places `(B,)` to the V views `(B, h, w, 3)` uint8, as `DeviceViews` makes them.
        steps: Steps of an epoch.
        variants: Graphs of the views, one of which is drawn for each step: what the views draw on the processor is
            fixed in each of them. 0 makes the views without a graph.
    """

    COLUMNS = ("learning_rate", "weight_decay", "teacher_momentum", "encoder_rate")
    FIGURES = ("loss", "teacher_entropy", "agreement", "spread")
    EAGER = 3  # steps before the graph is captured, in which libraries set themselves up

    def __init__(self, model, views, steps, variants=16):
        self.model, self.views, self.variants, self.optimizer = model, views, variants, model.optimizer
        variables, self.own = (
            model.student.trainable_variables,
            len(model.student.encoder.trainable_variables),
        )
        self.parameters = [variable.value for variable in variables]
        self.teacher, self.student = zip(*((t.value, s.value) for t, s in model._followed), strict=True)
        places = [self.optimizer._get_variable_index(variable) for variable in variables]
        self.first = [self.optimizer._momentums[place].value for place in places]
        self.second = [self.optimizer._velocities[place].value for place in places]
        self.decayed = [
            [variable.value for variable in part if self.optimizer._use_weight_decay(variable)]
            for part in (variables[: self.own], variables[self.own :])
        ]
        device = self.device = self.parameters[0].device
        self.count, self.place = (torch.zeros(1, dtype=torch.int64, device=device) for _ in range(2))
        self.table = torch.zeros(steps, len(self.COLUMNS), device=device)
        self.sums = torch.zeros(len(self.FIGURES), device=device)
        preprocess = model.encoder.preprocess
        self.mean, self.std = (
            255 * torch.tensor(values, device=device) for values in (preprocess.mean, preprocess.std)
        )
        self.taken, self.told, self.graph, self.view_graphs = 0, 0, None, []
        self.draw = random.Random(0)
        self.stream = torch.cuda.Stream() if device.type == "cuda" else None

    def begin_epoch(self, values):
        """What `COLUMNS` name, for each of the epoch's steps, `(steps, 4)`."""
        self.table.copy_(torch.from_numpy(values))
        self.place.zero_()

    def __call__(self, index):
        """Take one step with the pictures at places `index` `(B,)`."""
        self.taken += 1
        if self.device.type != "cuda":
            self.seen = self.views(index)
            self._learn()
        elif self.taken <= self.EAGER:
            self._eagerly(index)
        else:
            if self.graph is None:
                self._capture(index)
            self._show(index)
            self.graph.replay()

    def figures(self):
        """{name: mean} of the steps since the last call."""
        means = (self.sums / max(self.taken - self.told, 1)).tolist()
        self.told = self.taken
        self.sums.zero_()
        if not math.isfinite(means[0]):
            raise ArithmeticError(f"the loss is {means[0]} at step {self.taken} or before")
        return dict(zip(self.FIGURES, means, strict=True))

    def _eagerly(self, index):
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.seen = self.views(index)
            self._learn()
        torch.cuda.current_stream().wait_stream(self.stream)

    def _show(self, index):
        if not self.variants:
            torch._foreach_copy_(self.seen, self.views(index))
            return
        self.index.copy_(index)
        self.draw.choice(self.view_graphs).replay()

    def _capture(self, index):
        self.index = index.clone()
        self.seen = [view.clone() for view in self.seen]
        pool = torch.cuda.graph_pool_handle()
        for _ in range(self.variants):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                torch._foreach_copy_(self.seen, self.views(self.index))
            self.view_graphs.append(graph)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self._learn()

    def _learn(self):
        """The views in `seen` → student, memory and teacher after a step."""
        model = self.model
        rate, decay, momentum, share = self.table.index_select(0, self.place)[0].unbind()
        views = [(view.float() - self.mean) / self.std for view in self.seen]
        with torch.no_grad():
            targets = model.teacher(views[:2], training=True)
            blocks = torch.rand(model.memory.size, device=self.device).argsort()
        embeddings = model.student(views, training=True)
        loss, entropy = model._loss(blocks, embeddings, targets)
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self._update_student(gradients, (rate * share, rate), decay)
            self._remember(targets.chunk(2)[1])
            torch._foreach_mul_(self.teacher, momentum)
            torch._foreach_add_(self.teacher, torch._foreach_mul(self.student, 1 - momentum))
            crosswise = torch.cat(targets.chunk(2)[::-1])
            agreement = (embeddings[: len(targets)] * crosswise).sum(1).mean()
            spread = targets.var(0, unbiased=False).sum().sqrt()
            self.sums += torch.stack([loss, entropy, agreement, spread])
            self.count += 1
            self.place += 1

    def _update_student(self, gradients, rates, decay):
        """`AdamW.apply` with numbers that stay on the device; the encoder has a rate of its own."""
        optimizer, step = self.optimizer, (self.count + 1).float()[0]
        norms = torch._foreach_norm(gradients)
        gradients = [
            (gradient * (optimizer.clipnorm / norm.clamp(min=optimizer.clipnorm))).to(moment.dtype)
            for gradient, norm, moment in zip(gradients, norms, self.first, strict=True)
        ]
        for values, rate in zip(self.decayed, rates, strict=True):
            torch._foreach_mul_(values, 1 - rate * decay)
        torch._foreach_lerp_(self.first, gradients, 1 - optimizer.beta_1)
        torch._foreach_mul_(self.second, optimizer.beta_2)
        torch._foreach_addcmul_(self.second, gradients, gradients, value=1 - optimizer.beta_2)
        divisors = torch._foreach_sqrt(self.second)
        torch._foreach_div_(divisors, (1 - optimizer.beta_2**step).sqrt())
        torch._foreach_add_(divisors, optimizer.epsilon)
        moves = torch._foreach_div(self.first, divisors)
        for part, rate in zip((moves[: self.own], moves[self.own :]), rates, strict=True):
            torch._foreach_mul_(part, rate / (1 - optimizer.beta_1**step))
        torch._foreach_sub_(self.parameters, moves)

    def _remember(self, embeddings):
        memory = self.model.memory
        pointer, written = memory.pointer.value, memory.written.value
        slots = (pointer + torch.arange(len(embeddings), device=self.device)) % memory.size
        memory.vectors.value.data.index_copy_(0, slots, embeddings.to(memory.vectors.value.dtype))
        pointer.data.copy_((pointer + len(embeddings)) % memory.size)
        written.data.add_(len(embeddings))
