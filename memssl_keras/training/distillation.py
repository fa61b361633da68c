"""Self-distillation: a student that learns to match its momentum (EMA) teacher on other views of the same images.

References:
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294).
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import torch

from memssl_keras.annotations import Tensor
from memssl_keras.data.view_sets import normalise
from memssl_keras.encoders import Encoder
from memssl_keras.training import distributed
from memssl_keras.training.branch import Branch
from memssl_keras.training.fitting import FitOnViews
from memssl_keras.training.optimizer import AdamW

if keras.backend.backend() != "torch":
    raise ImportError(
        f"MaSSL trains on Keras's torch backend, and this process runs {keras.backend.backend()!r}: "
        "set KERAS_BACKEND=torch before keras is imported"
    )


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; nothing was updated by the step that it names."""


class Compared(NamedTuple):
    """What student and teacher gave for the images of a step."""

    figures: dict[str, torch.Tensor]  # loss, teacher_entropy and agreement, means over all images
    targets: torch.Tensor  # (2, B, D): the teacher's embeddings of the two global views, of all processes
    statistics: list[torch.Tensor]  # running means and variances before the step, see `_update_student`


class SelfDistillation(FitOnViews):
    """Student and momentum teacher, without what they are compared by: a method adds that in its `train_step`.

    A `train_step` calls, in this order, `_compare` with the method's loss, `_update_student`, `_update_teacher` and
    `_measure`; see `MaSSL`. After `fit`, `encoder` is the teacher's, the one to keep.

    Args:
        encoder: As `MaSSL` takes it. It becomes the student's.
        head: Projection head, a layer that is not built yet: features `(B, D)` → what the loss compares.
        teacher_temperature: τ_t > 0; `Schedules` may change it per step.
        teacher_momentum: m in [0, 1]: θ_t ← m θ_t + (1 - m) θ_s; `Schedules` may change it per step.
        seed: Seed of order and views, unless `fit` is given one.
        **kwargs: As `keras.Model` takes them.

    Attributes:
        encoder_rate: Learning rate of the encoder's last layer as a share of the head's; 0 freezes the encoder.
            `Schedules` may change it per step.
        first_layer_rate: Learning rate of the encoder's first layer as a share of its last one's; between them it
            rises geometrically, layer by layer.
        frozen_steps: Steps before the first one that moves the encoder.
        fill_steps: Steps before the first one that moves the head, in which a memory is filled.

    Raises:
        ValueError: where the encoder's output is not `(B, D)`, or a number is outside its range.
    """

    encoder_rate = 1.0
    first_layer_rate = 1.0
    frozen_steps = 0
    fill_steps = 0
    METRICS: tuple[str, ...] = ("loss", "teacher_entropy", "agreement", "spread")

    def __init__(
        self,
        encoder: keras.Model,
        head: keras.layers.Layer,
        teacher_temperature: float = 0.04,
        teacher_momentum: float = 0.996,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not 0 <= teacher_momentum <= 1:
            raise ValueError(f"teacher_momentum={teacher_momentum}: expected a number in 0 … 1")
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature={teacher_temperature}: expected a positive number")
        encoder = Encoder.wrap(encoder)
        if not encoder.trainable_variables:
            raise ValueError(
                f"encoder={encoder.name}: all of it is frozen; expected one to train (encoder.trainable = True)"
            )
        head.build((None, encoder.embed_dim))
        self.student = Branch(encoder, head, dtype=self.dtype_policy, name="student")
        self.teacher = self.student.copy("teacher")
        self.teacher_temperature, self.teacher_momentum = teacher_temperature, teacher_momentum
        self.seed = seed
        len(self._followed)  # pairs are found while all of both is trainable
        self._means = {name: keras.metrics.Mean(name=name) for name in self.METRICS}
        self._accumulate, self._parallel = 1, distributed.Parallel(self.student)
        self._kept = types.SimpleNamespace(encoder=None)  # which Keras would take for a layer of this model
        self.built = True

    # As plain attributes, Keras would save these variables once more with the model.
    @functools.cached_property
    def _followed(self):
        """Pairs of a variable of the teacher and the student's that it follows."""
        return list(zip(self.teacher.trainable_variables, self.student.trainable_variables, strict=True))

    @functools.cached_property
    def _statistics(self):
        """What a forward pass changes: the running means and variances of batch norm."""
        return self.student.non_trainable_weights + [
            v for v in self.teacher.weights if all(v is not followed for followed, _ in self._followed)
        ]

    @property
    def encoder(self) -> Encoder:
        """The teacher's encoder: what training is for; with whitening behind it where `keep` was given one."""
        return self._kept.encoder or self.teacher.encoder

    def __dir__(self):
        # By these names Keras finds what to save; the encoder is saved with the teacher, one that is kept elsewhere.
        return [name for name in super().__dir__() if name != "encoder"]

    def keep(self, encoder: Encoder | None) -> None:
        """Take `encoder`, made from the teacher's, as the one that is kept; None for the teacher's own again."""
        self._kept.encoder = encoder

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return list(self._means.values())

    @property
    def _device(self):
        return self._followed[0][0].value.device

    @property
    def step(self) -> int:
        """Optimiser steps taken so far."""
        return int(self.optimizer.iterations.value)

    def compile(self, optimizer: Any = None, **kwargs: Any) -> None:
        """Set the optimiser: any of Keras's, by default `memssl_keras.AdamW(5e-4, clipnorm=3.0)`.

        Biases and other one-dimensional weights are left out of its weight decay. The method clips each
        gradient by its own norm, which is Keras's `clipnorm`. Under `mixed_float16` the loss is scaled.
        """
        if given := [name for name in ("loss", "loss_weights") if kwargs.get(name) is not None]:
            raise ValueError(f"{given[0]}: expected none; the method has its own loss")
        optimizer = keras.optimizers.get(optimizer or AdamW(clipnorm=3.0))
        scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if not scaled and "float16" in {layer.compute_dtype for layer in self.student._flatten_layers()}:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        if not optimizer.built:
            flat = [v for v in self.student.trainable_variables if len(v.shape) < 2]
            getattr(optimizer, "inner_optimizer", optimizer).exclude_from_weight_decay(var_list=flat)
            optimizer.build(self.student.trainable_variables)
        kwargs.setdefault("jit_compile", False)
        super().compile(optimizer=optimizer, **kwargs)

    def get_compile_config(self) -> dict[str, Any]:
        return {"optimizer": keras.optimizers.serialize(self.optimizer)} if self.compiled else {}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(keras.optimizers.deserialize(config["optimizer"]))

    def call(self, images: Tensor, training: bool | None = None) -> Tensor:
        """The teacher's features `(B, D)` of normalised images `(B, H, W, 3)`."""
        return self.teacher.encoder(images, training=training)

    @contextlib.contextmanager
    def _training(self, seed: int, accumulate: int) -> Iterator[None]:
        self._accumulate = accumulate
        distributed.check_same("seed", (seed, self.seed))
        metrics = [v for metric in self.metrics for v in metric.variables]
        state = (*self.weights, *self.optimizer.variables, *metrics)
        distributed.broadcast([v.value.detach() for v in state])
        self._parallel = distributed.Parallel(self.student, together=True, partly=self.encoder_rate != 1)
        self._let_teacher_learn(False)
        try:
            yield
        finally:
            self._parallel = distributed.Parallel(self.student)  # the model may outlive the group
            self._let_teacher_learn(True)

    def _let_teacher_learn(self, flag):
        """Whether the teacher's variables take gradients: not while it follows the student; whoever keeps its encoder
        fine-tunes it as any Keras model. Its layers stay trainable, so that batch norm sees batches."""
        for variable, _ in self._followed:
            variable.trainable = flag

    def _compare(self, views: list[torch.Tensor], loss: Callable[..., Any]) -> Compared:
        """Add up the gradient of a loss over all views of a step's images, part by part where `fit` accumulates.

        Args:
            views: V tensors `(B, h, w, 3)`, the two global ones first.
            loss: From the student's embeddings `(V · B, D)` and the teacher's of the global views `(2 · B, D)`,
                view-major, to the mean loss and the teacher's mean entropy.
        """
        views = [view.to(self._device) for view in views]
        for branch in (self.student, self.teacher):
            branch.frozen = self.encoder_rate == 0
        statistics = [v.value.detach().clone() for v in self._statistics]
        self.zero_grad()
        parts = list(zip(*(view.tensor_split(self._accumulate) for view in views), strict=True))
        seen = [self._pass(part, loss, len(views[0]), part is parts[-1]) for part in parts]
        figures = distributed.average(sum(figures for figures, _ in seen))
        targets = distributed.gather(torch.cat([targets for _, targets in seen], 1), 1)
        names = ("loss", "teacher_entropy", "agreement")
        return Compared(dict(zip(names, figures.unbind(), strict=True)), targets, statistics)

    def _pass(self, views, loss, images, last):
        """Add the gradient of some of a step's images; figures weighted by their share, and the teacher's targets."""
        share = len(views[0]) / images
        views, targets = self._views_and_targets(views)
        with self._parallel.sharing(last):
            embeddings = self._parallel(views, training=True)
            value, entropy = loss(embeddings, targets)
            self.optimizer.scale_loss(share * value).backward()
        agreement = (embeddings.detach()[: len(targets)] * torch.cat(targets.chunk(2)[::-1])).sum(1).mean()
        return share * torch.stack([value.detach(), entropy, agreement]), targets.unflatten(0, (2, -1))

    @torch.no_grad()
    def _views_and_targets(self, views):
        """What the student is shown, and the teacher's embeddings of the two global views `(2 · B, D)`."""
        views = self.normalised(views)
        return views, self.teacher(views[:2], training=True)

    def normalised(self, views: list[torch.Tensor]) -> list[torch.Tensor]:
        """Views with the mean and standard deviation of the encoder's own preprocessing; floats pass unchanged."""
        preprocess = self.encoder.preprocess
        return [normalise(view, preprocess.mean, preprocess.std) for view in views]

    def _update_student(self, loss, statistics):
        if not torch.isfinite(loss):
            for variable, value in zip(self._statistics, statistics, strict=True):
                variable.assign(value)
            raise NonFiniteLoss(
                f"the loss is {float(loss)} at step {self.step}; the weights are those of the step before. "
                "A lower learning rate, a longer warm-up or a higher teacher temperature usually helps"
            )
        learning = self.student.head if self.student.frozen else self.student
        variables = learning.trainable_variables
        self._share_rates()
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)

    def _share_rates(self):
        """Give the optimiser the learning rate of each variable as a share of the head's."""
        optimizer = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        late = self.frozen_steps or self.fill_steps
        if self.encoder_rate == self.first_layer_rate == 1 and not late:
            return
        if not isinstance(optimizer, AdamW):
            raise ValueError(
                f"optimizer={type(optimizer).__name__}: has one learning rate for all; expected memssl_keras.AdamW "
                "where encoder_rate or first_layer_rate is not 1"
            )
        layers = len(self.student.encoder.trainable_variables)
        heights = np.linspace(1, 0, layers) if layers > 1 else np.zeros(layers)
        others = len(self.student.trainable_variables) - layers
        optimizer.shares = [*(self.encoder_rate * self.first_layer_rate**heights).tolist(), *[1.0] * others]
        optimizer.starts = [*[self.frozen_steps] * layers, *[self.fill_steps] * others]

    @torch.no_grad()
    def _update_teacher(self):
        teacher, student = zip(*((t.value, s.value) for t, s in self._followed), strict=True)
        torch._foreach_lerp_(teacher, student, 1 - self.teacher_momentum)

    @torch.no_grad()
    def _measure(self, compared, **others):
        """Update and return the metrics of a step; `others` are those that the method has besides.

        `agreement` is the mean cosine between the student's and the teacher's embedding of the two global
        views, crosswise; `spread` is the standard deviation of the teacher's embeddings over the batch in units
        of a uniform distribution on the sphere (1; a collapsed encoder has 0).
        """
        spread = compared.targets.flatten(0, 1).var(0, unbiased=False).sum().sqrt()
        figures = {**compared.figures, "spread": spread, **others}
        for name, mean in self._means.items():
            mean.update_state(figures[name])
        return {name: mean.result() for name, mean in self._means.items()}

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.student.encoder),
            "teacher_temperature": self.teacher_temperature,
            "teacher_momentum": self.teacher_momentum,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SelfDistillation:
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)
