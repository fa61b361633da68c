"""The golden runs as this library's objects; every size comes from the files themselves."""

import json
import os
import pathlib

import numpy as np

FOLDER = pathlib.Path(os.environ.get("MEMSSL_GOLDENS", pathlib.Path(__file__).parents[1] / "goldens"))


class Golden:
    """A golden `.npz`, its arrays grouped by prefix."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        with np.load(self.path, allow_pickle=False) as file:
            self.arrays = dict(file)

    def __getitem__(self, key):
        return self.arrays[key]

    def __contains__(self, key):
        return key in self.arrays

    def under(self, prefix):
        """Arrays whose name starts with `prefix`, without it."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}

    @property
    def config(self):
        return json.loads(str(self["config"]))


def files_with(key):
    """Every file of the folder that holds an array of that name, or names that end so."""
    return [
        path for path in sorted(FOLDER.glob("*.npz")) if any(n.endswith(key) for n in np.load(path).files)
    ]


def training_runs():
    """Every file of the folder that holds a training run."""
    return files_with("memory/init")


def feature_runs():
    """Every file of features, with the training run whose last teacher gave them."""
    runs = {path.name: path for path in training_runs()}
    named = [
        (path, path.name.replace("_features", "_train")) for path in sorted(FOLDER.glob("*_features.npz"))
    ]
    return [(path, runs.get(name) or next(iter(runs.values()))) for path, name in named]


def encoder_of(config):
    from memssl_keras import ViT

    return ViT(
        embed_dim=config["embed_dim"],
        depth=config["depth"],
        num_heads=config["num_heads"],
        patch_size=config["patch_size"],
        image_size=config["image_size"],
        mlp_ratio=config["mlp_ratio"],
        qkv_bias=config.get("qkv_bias", True),
        norm_epsilon=config.get("layer_norm_eps", 1e-6),
    )


def without_buffers(state):
    """Leaves out torch's count of batches, which has no part in the method."""
    return {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}


def relative(ours, theirs):
    """‖ours - theirs‖ / ‖theirs‖."""
    return np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30)
