"""DINO's head and loss in the same harness, so that a comparison is one of methods.

Encoder, views, optimiser, schedules and teacher are those of `SelfDistillation`, as in `MaSSL`; what differs is what
they are compared by: prototypes behind the head, and a centre that is subtracted from the teacher's logits.

References:
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021 (arXiv 2104.14294).
"""

import torch
from keras import ops

from memssl_keras import AdamW
from memssl_keras.training.distillation import SelfDistillation
from memssl_keras.training.head import ProjectionHead


class PrototypeHead(ProjectionHead):
    """`ProjectionHead`, then cosine similarities to learned prototypes: `(B, D)` → logits `(B, prototypes)`."""

    def __init__(self, hidden_dim, output_dim, batch_norm, prototypes, **kwargs):
        super().__init__(hidden_dim, output_dim, batch_norm, **kwargs)
        self.count = prototypes

    def build(self, input_shape):
        super().build(input_shape)
        self.prototypes = self.add_weight(
            shape=(self.output_dim, self.count), initializer="glorot_normal", name="prototypes"
        )

    def call(self, features, training=None):
        units = super().call(features, training=training)
        return ops.matmul(units, ops.normalize(self.prototypes, axis=0))

    def get_config(self):
        return {**super().get_config(), "prototypes": self.count}


class CentredConsistency:
    """Cross-entropy between the centred teacher and the student over the prototypes, over pairs of views.

    Args:
        student_temperature: By which the student's logits are divided.
        centre_momentum: Of the running mean of the teacher's logits that is subtracted from them.
    """

    def __init__(self, student_temperature=0.1, centre_momentum=0.9):
        self.student_temperature, self.centre_momentum = student_temperature, centre_momentum
        self.centre = None

    def __call__(self, student, teacher, teacher_temperature):
        """Mean loss and the teacher's mean entropy; views come one after the other, as in `MemoryConsistency`."""
        images = len(teacher) // 2
        mean = teacher.mean(0)
        self.centre = mean if self.centre is None else self.centre.lerp(mean, 1 - self.centre_momentum)
        target = torch.softmax((teacher - self.centre) / teacher_temperature, 1).unflatten(0, (2, images))
        log_student = torch.log_softmax(student / self.student_temperature, 1).unflatten(0, (-1, images))
        pairs = [(i, j) for j in range(2) for i in range(len(log_student)) if i != j]
        loss = sum(-(target[j] * log_student[i]).sum(1).mean() for i, j in pairs) / len(pairs)
        return loss, torch.special.entr(target).sum(2).mean()


class DINO(SelfDistillation):
    """Student and teacher as in `MaSSL`, compared by prototypes and a centre.

    Args:
        encoder: As `MaSSL` takes it.
        prototypes: Their number.
        hidden_dim: Width of the head.
        output_dim: Width in front of the prototypes.
        batch_norm: Put batch norm into the head.
        student_temperature: By which the student's logits are divided.
        **settings: Others of `SelfDistillation`.
    """

    def __init__(
        self,
        encoder,
        prototypes: int = 4096,
        hidden_dim: int = 512,
        output_dim: int = 256,
        batch_norm: bool = True,
        student_temperature: float = 0.1,
        **settings,
    ):
        head = PrototypeHead(hidden_dim, output_dim, batch_norm, prototypes)
        super().__init__(encoder, head, **settings)
        self.consistency = CentredConsistency(student_temperature)

    def train_step(self, data):
        (views,) = data
        compared = self._compare(views, self._loss)
        self._update_student(compared.figures["loss"], compared.statistics)
        self._update_teacher()
        return self._measure(compared)

    def _loss(self, student, teacher):
        return self.consistency(student, teacher, self.teacher_temperature)


def build_dino(recipe, seed):
    """DINO with everything of a recipe but its memory."""
    model = DINO(
        recipe.build_encoder(),
        hidden_dim=recipe.hidden_dim,
        output_dim=recipe.output_dim,
        batch_norm=recipe.batch_norm,
        student_temperature=recipe.student_temperature,
        teacher_temperature=recipe.teacher_temperature[0],
        teacher_momentum=recipe.momentum,
        seed=seed,
    )
    model.compile(AdamW(recipe.peak_learning_rate, weight_decay=recipe.weight_decay[0], clipnorm=recipe.clip))
    return model
