"""A pretraining run of seconds with every source of chance in it: `python tests/helpers/tiny_run.py FOLDER`."""

import argparse
import dataclasses
import os

import numpy as np

from memssl_keras.data.views import MultiCrop
from memssl_keras.training.recipe import Recipe

RECIPE = Recipe(
    "tiny",
    {"embed_dim": 24, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 16, "drop_path": 0.3},
    MultiCrop(16, 8, 2),
    epochs=3,
    batch_size=6,
    warmup_epochs=1,
    temperature_warmup_epochs=1,
    memory_size=64,
    block_size=16,
    hidden_dim=32,
    output_dim=16,
    batch_norm=True,
    koleo_weight=0.1,
)


def pictures(count=80, side=40, seed=0):
    """Images `(N, side, side, 3)` uint8 with edges and gradients of their own, as pictures have them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    images = []
    for _ in range(count):
        waves = [np.sin(rng.uniform(2, 20) * (x * np.cos(a) + y * np.sin(a))) for a in rng.uniform(0, 6, 3)]
        image = np.stack(waves, -1) * 60 + rng.uniform(60, 190, 3)
        top, left = rng.integers(side // 2, size=2)
        image[top : top + side // 3, left : left + side // 3] = rng.uniform(0, 255, 3)
        images.append(image + rng.normal(0, 5, image.shape))
    return np.clip(images, 0, 255).astype("uint8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--every", type=int, default=3)
    parser.add_argument("--images", type=int, default=80)
    parser.add_argument("--die-at", type=int, help="step at which the process of the highest rank dies")
    parser.add_argument("--signal", type=int, help="sent to the process's group at --signal-at")
    parser.add_argument("--signal-at", type=int, help="step")
    options = parser.parse_args()

    import keras

    from memssl_keras.training import distributed
    from memssl_keras.training.pretrain import pretrain

    class Death(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == options.die_at and distributed.rank() == distributed.world_size() - 1:
                os._exit(9)

    class Signal(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.step == options.signal_at:
                os.killpg(os.getpgid(0), options.signal)

    recipe = dataclasses.replace(RECIPE, epochs=options.epochs)
    images = pictures(options.images)
    settings = {"workers": options.workers, "checkpoint_every": options.every}
    pretrain(recipe, images, options.folder, callbacks=[Death(), Signal()], **settings)
    distributed.leave()


if __name__ == "__main__":
    main()
