"""MaSSL: a student learns to match its EMA teacher's similarities to a memory of past embeddings, in random blocks.

References:
    Silva, Pedrini and Ramírez Rivera, Learning from Memory: Non-Parametric Memory Augmented Self-Supervised
    Learning of Visual Features, ICML 2024 (arXiv 2407.17486).
"""

import functools
import warnings

import keras
import numpy as np
import torch

from memssl_keras.data.batches import yields_batches
from memssl_keras.data.loader import EpochOrder, view_loader
from memssl_keras.data.view_sets import normalise
from memssl_keras.encoders import Encoder
from memssl_keras.training import distributed
from memssl_keras.training.branch import Branch
from memssl_keras.training.callbacks.observe import OnlineKNN
from memssl_keras.training.head import ProjectionHead
from memssl_keras.training.loss import MemoryConsistency, koleo
from memssl_keras.training.memory import Memory
from memssl_keras.training.optimizer import AdamW
from memssl_keras.training.randomness import CountedDraws

if keras.backend.backend() != "torch":
    raise ImportError(
        f"MaSSL trains on Keras's torch backend, and this process runs {keras.backend.backend()!r}: "
        "set KERAS_BACKEND=torch before keras is imported"
    )


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; nothing was updated by the step that it names."""


@keras.saving.register_keras_serializable("memssl_keras")
class MaSSL(keras.Model):
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
        koleo_weight: Weight of the KoLeo term on the student's global embeddings; 0 leaves it out.
        seed: Seed of the memory and of its blocks.
        memory_storage: "float32", or "float16" for a memory of half the bytes.
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

    def __init__(
        self,
        encoder,
        memory_size=131072,
        block_size=16384,
        hidden_dim=2048,
        output_dim=256,
        batch_norm=False,
        student_temperature=0.1,
        teacher_temperature=0.04,
        teacher_momentum=0.996,
        koleo_weight=0.0,
        seed=0,
        memory_storage="float32",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not 0 <= teacher_momentum <= 1:
            raise ValueError(f"teacher_momentum={teacher_momentum}: expected a number in 0 … 1")
        if not teacher_temperature > 0:
            raise ValueError(f"teacher_temperature={teacher_temperature}: expected a positive number")
        if koleo_weight < 0:
            raise ValueError(f"koleo_weight={koleo_weight}: expected 0 or more")
        head = ProjectionHead(hidden_dim, output_dim, batch_norm, dtype=self.dtype_policy)
        encoder = Encoder.wrap(encoder)
        head.build((None, encoder.embed_dim))
        self.memory = Memory(memory_size, output_dim, block_size, seed, memory_storage)
        self.consistency = MemoryConsistency(student_temperature)
        self.student = Branch(encoder, head, dtype=self.dtype_policy, name="student")
        self.teacher = self.student.copy()
        self.teacher_temperature, self.teacher_momentum = teacher_temperature, teacher_momentum
        self.koleo_weight, self.seed = koleo_weight, seed
        len(self._followed)  # pairs are found while all of both is trainable
        names = ("loss", "teacher_entropy", "agreement", "spread", "memory_filled")
        self._means = {name: keras.metrics.Mean(name=name) for name in names}
        self._accumulate, self._parallel = 1, distributed.Parallel(self.student)
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
    def encoder(self):
        """The teacher's encoder: what training is for."""
        return self.teacher.encoder

    @property
    def metrics(self):
        return list(self._means.values())

    @property
    def _device(self):
        return self.memory.vectors.value.device

    @property
    def step(self):
        """Optimiser steps taken so far."""
        return int(self.optimizer.iterations.value)

    def compile(self, optimizer=None, **kwargs):
        """Set the optimiser: any of Keras's, by default `memssl_keras.AdamW(5e-4, clipnorm=3.0)`.

        Biases and other one-dimensional weights are left out of its weight decay. The method clips each
        gradient by its own norm, which is Keras's `clipnorm`. Under `mixed_float16` the loss is scaled.
        """
        if given := [name for name in ("loss", "loss_weights") if kwargs.get(name) is not None]:
            raise ValueError(
                f"{given[0]}: expected none; the method's own loss compares embeddings with the memory"
            )
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

    def get_compile_config(self):
        return {"optimizer": keras.optimizers.serialize(self.optimizer)} if self.compiled else {}

    def compile_from_config(self, config):
        self.compile(keras.optimizers.deserialize(config["optimizer"]))

    def call(self, images, training=None):
        """The teacher's features `(B, D)` of normalised images `(B, H, W, 3)`."""
        return self.teacher.encoder(images, training=training)

    def fit(
        self,
        x,
        y=None,
        *,
        views=None,
        batch_size=64,
        epochs=1,
        workers=0,
        seed=None,
        callbacks=None,
        initial_batch=0,
        accumulate=1,
        max_unreadable=0.001,
        unreadable_csv=None,
        validation_data=None,
        **kwargs,
    ):
        """Train on images without labels, or on views that are ready.

        Args:
            x: Images: an array `(N, H, W, 3)`, uint8 or floats on the scale 0 … 255 or 0 … 1, a sequence of paths or
                PIL images, a `datasets.Dataset` with an image column, a `Stream` of what does not fit on the disk, the
                path of a folder of images, or a torch `DataLoader` that yields batches of uint8 images. Or batches of
                images from a `keras.utils.PyDataset`, another iterable of batches, or a generator with
                `steps_per_epoch`. Or ready views: a list of V arrays `(N, h, w, 3)`, or a `DataLoader` that yields
                lists of V tensors `(B, h, w, 3)`; uint8 is normalised as the encoder's preprocessing says, floats are
                taken as they are.
            y: Labels, which training ignores; with `validation_data` they vote in k-NN.
            views: A `MultiCrop`, by default the method's own for ImageNet; unused with ready views.
            batch_size: Images per step, of all processes together; the remainder of an epoch is dropped. A
                `DataLoader` brings its own, and in several processes each one's yields its own share of the step.
            epochs: Epoch to stop after.
            workers: Processes that make views; 0 makes them in this one.
            seed: Seed of order and views; the model's own by default.
            callbacks: Keras callbacks, `Schedules` among them.
            initial_batch: Batches of the first epoch that were trained on before; they are left out, and the
                epoch's metrics go on from those that the model holds.
            accumulate: Parts in which a step's images pass through the encoder, one after the other, for less
                memory. Loss, gradient and what the memory is fed are those of the whole batch; batch norm and
                KoLeo see a part at a time.
            max_unreadable: Share of the images that may be unreadable, 0 … 1; others take their place. One may be
                in any case, unless the share is 0.
            unreadable_csv: File that lists the unreadable images; one that is there is added to.
            validation_data: A pair of images and labels: the accuracy of k-NN on them, among `x` with `y`, is measured
                after every epoch as `knn`.
            **kwargs: `verbose`, `initial_epoch` and `steps_per_epoch` as in Keras.

        Started by `torchrun`, the processes train one model together: each sees its share of every step's images,
        gradients are averaged, and the memory is fed from all of them in the order of their ranks. Weights and
        memory are those of the main process from the first step on.

        Returns:
            Keras's `History`.

        Raises:
            ValueError: for data of another form, fewer images than `batch_size`, or a batch that cannot be divided
                among processes and parts, or is larger than the memory.
            TooManyUnreadable: where more images are unreadable than may be.
            NonFiniteLoss: as soon as the loss is not finite; the model stays as the step before left it.
            ProcessLost: where another process of the run has died.
        """
        observers = self._check_fit(x, y, validation_data, kwargs)
        distributed.join()
        seed = self.seed if seed is None else seed
        rank, world_size = distributed.rank(), distributed.world_size()
        loader = view_loader(
            x,
            views=views,
            batch_size=batch_size,
            workers=workers,
            seed=seed,
            rank=rank,
            world_size=world_size,
            max_unreadable=max_unreadable,
            unreadable_csv=unreadable_csv,
        )
        brings_batches = isinstance(x, torch.utils.data.DataLoader) or yields_batches(x)
        own = getattr(x, "batch_size", None) if brings_batches else batch_size // world_size
        self._check_batch(own, accumulate)
        self._accumulate = accumulate
        callbacks = [
            EpochOrder(loader, initial_batch),
            CountedDraws(seed, rank),
            *observers,
            *(callbacks or []),
        ]
        with warnings.catch_warnings(), distributed.noticing_loss():
            if initial_batch:  # Keras misses the batches that are left out
                warnings.filterwarnings("ignore", message="Your input ran out of data")
            self._start_together(seed)
            self._let_teacher_learn(False)
            try:
                return super().fit(loader, epochs=epochs, shuffle=False, callbacks=callbacks, **kwargs)
            finally:
                loader.end()
                # The model may outlive the group.
                self._parallel = distributed.Parallel(self.student)
                self._let_teacher_learn(True)

    def _check_fit(self, x, y, validation_data, others):
        """Say in words what makes no sense here; returns the callbacks that labels ask for."""
        if not self.compiled:
            raise ValueError(
                "the model is not compiled: call model.compile(AdamW(5e-4, clipnorm=3.0)) before fit"
            )
        if others.pop("validation_split", 0):
            raise ValueError(
                "validation_split: expected 0; pass validation_data=(images, labels) and y for k-NN"
            )
        if y is not None and validation_data is None:
            warnings.warn("y: labels are ignored, training is self-supervised", stacklevel=3)
        if validation_data is None:
            return []
        if y is None or len(validation_data) != 2:
            raise ValueError(
                "validation_data: expected a pair of images and labels, and the labels of x as y: fit(x, y, "
                "validation_data=(images, labels)) measures k-NN"
            )
        images, labels = validation_data
        return [OnlineKNN(x, np.asarray(y), images, np.asarray(labels), k=min(20, len(x)))]

    def evaluate(self, *arguments, **options):
        """Refused: a self-supervised model has no accuracy of its own."""
        raise ValueError(
            "MaSSL.evaluate: a self-supervised model has no labels to be right about; `memssl evaluate` scores its "
            "encoder by k-NN and probes, and fit(x, y, validation_data=…) measures k-NN while it trains"
        )

    def _let_teacher_learn(self, flag):
        """Whether the teacher's variables take gradients: not while it follows the student; whoever keeps its encoder
        fine-tunes it as any Keras model. Its layers stay trainable, so that batch norm sees batches."""
        for variable, _ in self._followed:
            variable.trainable = flag

    def _check_batch(self, own, accumulate):
        """Refuse what cannot be divided; `own` are the images of one process in a step, None where unknown."""
        if accumulate < 1 or (own or accumulate) % accumulate:
            images = f"of the {own} images that a process has in a step" if own else "of 1 or more"
            raise ValueError(f"accumulate={accumulate}: expected a divisor {images}")
        if own and own * distributed.world_size() > self.memory.size:
            raise ValueError(
                f"batch_size={own * distributed.world_size()}: expected at most the memory's size, {self.memory.size}"
            )

    def _start_together(self, seed):
        distributed.check_same("seed", (seed, self.memory.seed))
        metrics = [v for metric in self.metrics for v in metric.variables]
        distributed.broadcast(
            [v.value.detach() for v in (*self.weights, *self.optimizer.variables, *metrics)]
        )
        self._parallel = distributed.Parallel(self.student, together=True)

    def train_step(self, data):
        views = [view.to(self._device) for view in data[0]]
        blocks, statistics = self.memory.permutation(self.step), self._keep_statistics()
        self.zero_grad()
        parts = list(zip(*(view.tensor_split(self._accumulate) for view in views), strict=True))
        seen = [self._pass(part, blocks, len(views[0]), part is parts[-1]) for part in parts]
        figures, targets = self._join_parts(seen)
        self._update_student(figures["loss"], statistics)
        self.memory.update(targets[1])
        self._update_teacher()
        return self._measure(figures, targets)

    def _pass(self, views, blocks, images, last):
        """Add the gradient of some of a step's images; figures weighted by their share, and the teacher's targets."""
        views = self.normalised(views)
        share = len(views[0]) / images
        with torch.no_grad():
            targets = self.teacher(views[:2], training=True)
        with self._parallel.sharing(last):
            embeddings = self._parallel(views, training=True)
            loss, entropy = self.consistency(
                embeddings, targets, self.memory, blocks, self.teacher_temperature
            )
            if self.koleo_weight:
                loss = loss + self.koleo_weight * sum(map(koleo, embeddings[: len(targets)].chunk(2))) / 2
            self.optimizer.scale_loss(share * loss).backward()
        agreement = (embeddings.detach()[: len(targets)] * torch.cat(targets.chunk(2)[::-1])).sum(1).mean()
        return share * torch.stack([loss.detach(), entropy, agreement]), targets.unflatten(0, (2, -1))

    def normalised(self, views):
        """Views with the mean and standard deviation of the encoder's own preprocessing; floats pass unchanged."""
        preprocess = self.encoder.preprocess
        return [normalise(view, preprocess.mean, preprocess.std) for view in views]

    def _join_parts(self, seen):
        """Figures by name and targets `(2, B, D)` over all parts and processes."""
        figures = distributed.average(sum(figures for figures, _ in seen))
        targets = distributed.gather(torch.cat([targets for _, targets in seen], 1), 1)
        return dict(zip(("loss", "teacher_entropy", "agreement"), figures.unbind(), strict=True)), targets

    def _keep_statistics(self):
        return [v.value.detach().clone() for v in self._statistics]

    def _update_student(self, loss, statistics):
        if not torch.isfinite(loss):
            for variable, value in zip(self._statistics, statistics, strict=True):
                variable.assign(value)
            raise NonFiniteLoss(
                f"the loss is {float(loss)} at step {self.step}; the weights are those of the step before. "
                "A lower learning rate, a longer warm-up or a higher teacher temperature usually helps"
            )
        variables = self.student.trainable_variables
        with torch.no_grad():
            self.optimizer.apply([v.value.grad for v in variables], variables)

    @torch.no_grad()
    def _update_teacher(self):
        teacher, student = zip(*((t.value, s.value) for t, s in self._followed), strict=True)
        torch._foreach_lerp_(teacher, student, 1 - self.teacher_momentum)

    @torch.no_grad()
    def _measure(self, figures, targets):
        """Update and return the metrics of a step.

        `agreement` is the mean cosine between the student's and the teacher's embedding of the two global
        views, crosswise; `spread` is the standard deviation of the teacher's embeddings over the batch in units
        of a uniform distribution on the sphere (1; a collapsed encoder has 0).
        """
        spread = targets.flatten(0, 1).var(0, unbiased=False).sum().sqrt()
        figures = {**figures, "spread": spread, "memory_filled": self.memory.filled}
        self._means["memory_filled"].reset_state()
        for name, mean in self._means.items():
            mean.update_state(figures[name])
        return {name: mean.result() for name, mean in self._means.items()}

    def get_config(self):
        return {
            **super().get_config(),
            "encoder": keras.saving.serialize_keras_object(self.student.encoder),
            "memory_size": self.memory.size,
            "block_size": self.memory.block_size,
            "hidden_dim": self.student.head.hidden_dim,
            "output_dim": self.student.head.output_dim,
            "batch_norm": self.student.head.batch_norm,
            "student_temperature": self.consistency.student_temperature,
            "teacher_temperature": self.teacher_temperature,
            "teacher_momentum": self.teacher_momentum,
            "koleo_weight": self.koleo_weight,
            "seed": self.seed,
            "memory_storage": self.memory.storage,
        }

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("encoder")), **config)

    def save_pretrained(self, folder):
        """Write the teacher's encoder, as `memssl_keras.save_pretrained` does, and the training state beside it."""
        from memssl_keras.weights.training_state import save_training

        save_training(self, folder)

    @classmethod
    def from_pretrained(
        cls,
        name_or_repo_or_folder,
        *,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        token=None,
        force_download=False,
        **settings,
    ):
        """Student, teacher and memory as `save_pretrained` or `memssl convert` wrote them, to continue pretraining.

        The optimiser starts anew: call `compile`, as for a new model.

        Args:
            name_or_repo_or_folder: As `memssl_keras.from_pretrained` takes it, with the arguments for the Hub.
            **settings: Arguments of `MaSSL` that leave its shape as it was, such as temperatures, or `block_size`.

        Raises:
            FileNotFoundError: where a folder has no training state.
            HubError: where a repository has none, or cannot be fetched.
            ValueError: where weights do not fit or are damaged.
        """
        from memssl_keras.weights.training_state import load_training

        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        hub |= {"token": token, "force_download": force_download}
        return load_training(cls, name_or_repo_or_folder, settings, hub)
