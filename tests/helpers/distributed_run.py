"""A few training steps on real pictures, alone or under `torchrun`: losses, memory and weights into a file.

`torchrun --nproc-per-node 2 tests/helpers/distributed_run.py OUT.npz --images FILE.parquet`
"""

import argparse

import keras
import numpy as np
import torch

from memssl_keras import AdamW, MaSSL, MultiCrop, ViT
from memssl_keras.data.sources import open_source
from memssl_keras.training import distributed


class Losses(keras.callbacks.Callback):
    """The loss of every step, where the model's own metric is the mean over the epoch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.model.reset_metrics()

    def on_train_batch_end(self, batch, logs=None):
        self.values.append([float(logs[name]) for name in ("loss", "teacher_entropy", "agreement", "spread")])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--images", required=True)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--batch-norm", action="store_true")
    parser.add_argument("--koleo", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    distributed.join()
    # Every process starts with weights of its own: those of the main one count.
    keras.utils.set_random_seed(distributed.rank())
    encoder = ViT(embed_dim=48, depth=2, num_heads=3, patch_size=8, image_size=32)
    model = MaSSL(
        encoder,
        memory_size=256,
        block_size=64,
        hidden_dim=64,
        output_dim=32,
        batch_norm=options.batch_norm,
        koleo_weight=options.koleo,
    )
    model.compile(AdamW(1e-3, clipnorm=3.0))
    losses = Losses()
    model.fit(
        [open_source(options.images)[i] for i in range(options.batch * 20)],
        views=MultiCrop(32, 16, 2),
        batch_size=options.batch,
        accumulate=options.accumulate,
        callbacks=[losses],
        verbose=0,
    )
    weights = np.concatenate([v.numpy().ravel() for v in model.student.trainable_variables])
    every = [np.zeros(0)] * distributed.world_size()
    vectors = model.memory.vectors.numpy()
    if distributed.world_size() > 1:
        torch.distributed.all_gather_object(every, vectors)
    else:
        every = [vectors]
    if distributed.is_main():
        np.savez(options.out, losses=losses.values, memories=every, weights=weights)
    distributed.leave()


if __name__ == "__main__":
    main()
