"""MaSSL: a student learns to match its EMA teacher's similarities to a memory of past embeddings, in random blocks.

References:
    Silva, Pedrini and Ramírez Rivera, Learning from Memory: Non-Parametric Memory Augmented Self-Supervised
    Learning of Visual Features, ICML 2024 (arXiv 2407.17486).
"""

from __future__ import annotations

import functools
import os
from typing import Any

import keras
import torch

from memssl_keras.training import distributed
from memssl_keras.training.distillation import NonFiniteLoss, SelfDistillation
from memssl_keras.training.head import ProjectionHead
from memssl_keras.training.loss import MemoryConsistency, koleo
from memssl_keras.training.memory import Memory

__all__ = ["MaSSL", "NonFiniteLoss"]


@keras.saving.register_keras_serializable("memssl_keras")
class MaSSL(SelfDistillation):
    """Self-supervised training of an image encoder with a FIFO memory of past embeddings.

    After `fit`, `model.encoder` is the teacher's encoder, the one to keep.

    Args:
        encoder: A `ViT`, or any built Keras model that maps `(B, H, W, 3)` to `(B, D)`. It becomes the student.
        memory_size: Slots K of the memory.
        block_size: Slots P of a random block; it divides `memory_size`.
        hidden_dim: Hidden width of the projection head.
        output_dim: Width of the embeddings in memory.
        batch_norm: Batch norm in the projection head.
        student_temperature: τ_s > 0.
        teacher_temperature: τ_t > 0; `Schedules` may change it per step.
        teacher_momentum: m in [0, 1]: θ_t ← m θ_t + (1 - m) θ_s; `Schedules` may change it per step.
        koleo_weight: Weight of the KoLeo regulariser on the student's global embeddings; 0 turns it off.
        seed: Seed of the memory and of its blocks.
        memory_storage: "float32", or "float16" to store the memory in half the bytes.
        **kwargs: `dtype="mixed_bfloat16"` or `"mixed_float16"` for the head's precision; the encoder brings its own.

    Raises:
        ValueError: where `block_size` does not divide `memory_size`, the encoder's output is not `(B, D)`, or a
            number is outside its range.

    Example:
        >>> import numpy as np
        >>> from memssl_keras import AdamW, MaSSL, MultiCrop, ViT
        >>> encoder = ViT(embed_dim=48, depth=2, num_heads=3, patch_size=8, image_size=32)
        >>> model = MaSSL(encoder, memory_size=256, block_size=64, hidden_dim=64, output_dim=32)
        >>> model.compile(optimizer=AdamW(5e-4, clipnorm=3.0))
        >>> images = np.random.default_rng(0).integers(0, 255, (64, 40, 40, 3), dtype="uint8")
        >>> views = MultiCrop(global_size=32, local_size=16, local_views=2)
        >>> history = model.fit(images, views=views, batch_size=16, epochs=1, verbose=0)
        >>> sorted(history.history)
        ['agreement', 'loss', 'memory_filled', 'spread', 'teacher_entropy']
    """

    METRICS = (*SelfDistillation.METRICS, "memory_filled")

    def __init__(
        self,
        encoder: keras.Model,
        memory_size: int = 131072,
        block_size: int = 16384,
        hidden_dim: int = 2048,
        output_dim: int = 256,
        batch_norm: bool = False,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_momentum: float = 0.996,
        koleo_weight: float = 0.0,
        seed: int = 0,
        memory_storage: str = "float32",
        **kwargs: Any,
    ):
        if koleo_weight < 0:
            raise ValueError(f"koleo_weight={koleo_weight}: expected 0 or more")
        head = ProjectionHead(hidden_dim, output_dim, batch_norm, dtype=kwargs.get("dtype"))
        super().__init__(encoder, head, teacher_temperature, teacher_momentum, seed, **kwargs)
        self.memory = Memory(memory_size, output_dim, block_size, seed, memory_storage)
        self.consistency = MemoryConsistency(student_temperature)
        self.koleo_weight = koleo_weight

    def _check_batch(self, own, accumulate):
        super()._check_batch(own, accumulate)
        if own and own * distributed.world_size() > self.memory.size:
            raise ValueError(
                f"batch_size={own * distributed.world_size()}: expected at most the memory's size, {self.memory.size}"
            )

    def train_step(self, data: tuple[list[torch.Tensor]]) -> dict[str, Any]:
        (views,) = data
        if self.step < self.fill_steps:
            return self._fill_memory(views)
        blocks = self.memory.permutation(self.step)
        compared = self._compare(views, functools.partial(self._loss, blocks))
        self._update_student(compared.figures["loss"], compared.statistics)
        self.memory.update(compared.targets[1])
        self._update_teacher()
        self._means["memory_filled"].reset_state()  # of an epoch the last value counts, not the mean
        return self._measure(compared, memory_filled=self.memory.filled)

    @torch.no_grad()
    def _fill_memory(self, views):
        """A step that trains nothing: the memory gets the teacher's embeddings of global view 2."""
        self.teacher.frozen = self.encoder_rate == 0
        seen = self.normalised([views[1].to(self._device)])
        self.memory.update(distributed.gather(self.teacher(seen, training=True), 0))
        self.optimizer.iterations.assign(self.step + 1)
        self._means["memory_filled"].reset_state()
        self._means["memory_filled"].update_state(self.memory.filled)
        return {name: mean.result() for name, mean in self._means.items()}

    def _loss(self, blocks, student, teacher):
        """Cross-entropy of teacher and student over the memory's blocks, and the teacher's entropy."""
        loss, entropy = self.consistency(student, teacher, self.memory, blocks, self.teacher_temperature)
        if self.koleo_weight:
            loss = loss + self.koleo_weight * sum(map(koleo, student[: len(teacher)].chunk(2))) / 2
        return loss, entropy

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "memory_size": self.memory.size,
            "block_size": self.memory.block_size,
            "hidden_dim": self.student.head.hidden_dim,
            "output_dim": self.student.head.output_dim,
            "batch_norm": self.student.head.batch_norm,
            "student_temperature": self.consistency.student_temperature,
            "koleo_weight": self.koleo_weight,
            "memory_storage": self.memory.storage,
        }

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the teacher's encoder, as `memssl_keras.save_pretrained` does, and the training state beside it."""
        from memssl_keras.weights.training_state import save_training

        save_training(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        name_or_repo_or_folder: str | os.PathLike,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        force_download: bool = False,
        image_size: int | None = None,
        **settings,
    ) -> MaSSL:
        """Student, teacher and memory as `save_pretrained` or `memssl convert` wrote them, to continue pretraining.

        The optimiser starts anew: call `compile`, as for a new model.

        Args:
            name_or_repo_or_folder: As `memssl_keras.from_pretrained` takes it, with the arguments for the Hub and
                `image_size`.
            **settings: Arguments of `MaSSL` that leave its shape as it was, such as temperatures, or `block_size`.

        Raises:
            FileNotFoundError: where a folder has no training state.
            HubError: where a repository has none, or cannot be fetched.
            ValueError: where weights do not fit or are damaged, or the encoder does not take that image size.
        """
        from memssl_keras.weights.training_state import load_training

        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub |= {"token": token, "force_download": force_download}
        return load_training(cls, name_or_repo_or_folder, settings, hub, image_size)
