"""A recipe: the complete settings of a pretraining run, from which model and schedules are built."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from memssl_keras.data.views import MultiCrop

if TYPE_CHECKING:
    import keras

    from memssl_keras.encoders import Encoder
    from memssl_keras.training.massl import MaSSL
    from memssl_keras.training.schedules import Schedules

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All settings of a run; `dataclasses.replace` changes some of them.

    `purpose` says for which pictures and hardware the recipe is. `encoder` holds the arguments of the encoder class
    that `family` names, `"vit"` or `"resnet"`; with the family `"init"` a trained encoder is given instead. Warm-up
    lengths are in epochs. `batch_size` counts the images of all processes together. The peak learning rate is
    `learning_rate` × batch size / 256; `final_learning_rate` is not scaled. `accumulate` is that of `MaSSL.fit`,
    `precision` a Keras dtype policy, and `memory_storage` the data type of the vectors in memory.

    The remaining settings adapt a trained encoder. With `fill_memory` no training step is taken before the memory is
    full of its embeddings. For `frozen_epochs` only the projection head is trained. Over `thaw_epochs` the learning
    rate of the encoder's last layer rises to `encoder_rate` × the learning rate; that of its first layer is
    `first_layer_rate` times the last one's. With `fixed_statistics` batch norm keeps its running means and variances.

    Example:
        >>> from memssl_keras import get_recipe
        >>> recipe = get_recipe("vitt4_cifar10")
        >>> model = recipe.build()
        >>> # model.fit(images, views=recipe.views, batch_size=recipe.batch_size, epochs=recipe.epochs,
        >>> #           callbacks=[recipe.schedules()])
    """

    name: str
    encoder: dict
    views: MultiCrop = MultiCrop()
    epochs: int = 800
    batch_size: int = 128
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-6
    warmup_epochs: float = 0
    weight_decay: tuple = (0.04, 0.4)
    clip: float = 3.0
    momentum: float = 0.992
    teacher_temperature: tuple = (0.04, 0.07)
    temperature_warmup_epochs: float = 30
    student_temperature: float = 0.1
    memory_size: int = 131072
    block_size: int = 16384
    hidden_dim: int = 2048
    output_dim: int = 256
    batch_norm: bool = False
    koleo_weight: float = 0.0
    accumulate: int = 1
    precision: str = "float32"
    memory_storage: str = "float32"
    fill_memory: bool = False
    frozen_epochs: float = 0
    thaw_epochs: float = 0
    encoder_rate: float = 1.0
    first_layer_rate: float = 1.0
    fixed_statistics: bool = False
    family: str = "vit"
    purpose: str = ""

    def __post_init__(self):
        if self.family not in ("vit", "resnet", "init"):
            raise ValueError(f"family={self.family!r}: expected 'vit', 'resnet' or 'init'")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r}: expected {', '.join(PRECISIONS)}")

    def build_encoder(self) -> Encoder:
        """A new `ViT` or `ResNet` with the recipe's settings.

        Raises:
            ValueError: for a recipe of the family "init", which has no architecture of its own.
        """
        if self.family == "init":
            raise ValueError(
                f"recipe={self.name!r}: has no encoder of its own; expected one to start from: init=…"
            )
        from memssl_keras.encoders import ResNet, ViT

        kinds = {"resnet": ResNet, "vit": ViT}
        return kinds[self.family](**self.encoder, dtype=self.precision)

    def build(
        self, encoder: keras.Model | None = None, seed: int = 0, kind: type[MaSSL] | None = None
    ) -> MaSSL:
        """A compiled `MaSSL` model, or one of its subclass `kind`, with a new encoder or the given one."""
        from memssl_keras.training.massl import MaSSL
        from memssl_keras.training.optimizer import AdamW

        model = (kind or MaSSL)(
            encoder or self.build_encoder(),
            memory_size=self.memory_size,
            block_size=self.block_size,
            hidden_dim=self.hidden_dim,
            output_dim=self.output_dim,
            batch_norm=self.batch_norm,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature[0],
            teacher_momentum=self.momentum,
            koleo_weight=self.koleo_weight,
            seed=seed,
            memory_storage=self.memory_storage,
            dtype=self.precision,
        )
        for branch in (model.student, model.teacher):
            branch.fixed_statistics = self.fixed_statistics
        model.encoder_rate = 0.0 if self.frozen_epochs else self.encoder_rate
        model.first_layer_rate = self.first_layer_rate
        model.fill_steps = -(-self.memory_size // self.batch_size) if self.fill_memory else 0
        model.compile(AdamW(self.peak_learning_rate, weight_decay=self.weight_decay[0], clipnorm=self.clip))
        return model

    @property
    def peak_learning_rate(self) -> float:
        return self.learning_rate * self.batch_size / 256

    def schedules(self) -> Schedules:
        """The callback that drives learning rates, weight decay, teacher momentum and teacher temperature."""
        from memssl_keras.training.schedules import CosineSchedule, Schedules, Thaw

        cold, warm = self.teacher_temperature
        return Schedules(
            learning_rate=CosineSchedule(
                self.peak_learning_rate, self.final_learning_rate, self.warmup_epochs
            ),
            weight_decay=CosineSchedule(*self.weight_decay),
            teacher_momentum=CosineSchedule(self.momentum, 1.0),
            teacher_temperature=CosineSchedule(warm, warm, self.temperature_warmup_epochs, cold),
            encoder_rate=Thaw(self.encoder_rate, self.frozen_epochs, self.thaw_epochs),
        )
