"""ResNets under torchvision's names, which timm and the self-supervised methods share.

This module reads ResNet-18, -34, -50 and deeper ones of torchvision and timm, and the ResNets of MoCo v1 to v3,
SimSiam, Barlow Twins, VICReg, SwAV, DINO and SSCD. Classifiers, projectors, predictors and prototypes are not loaded.
Nor are SSCD's pooling and projection: its features here are means over the last map.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from memssl_keras.encoders.resnet import ResNet
from memssl_keras.images.preprocess import Preprocessing
from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.readers.family import Converted, arrays, pick, renamed, under, without
from memssl_keras.weights.readers.timm import timm_preprocessing

MARK = "layer1.0.conv1.weight"
# The momentum encoder is the teacher, where a file holds both.
_NETWORKS = {"teacher": ("momentum_encoder.", "encoder_k."), "student": ("base_encoder.", "encoder_q.")}
_LEFT_OUT = ("fc.", "head.", "projection_head.", "prototypes", "projector.", "predictor.", "embeddings.")
_CONVOLUTION = re.compile(r"layer(\d)\.(\d+)\.(conv(\d)|downsample\.0)\.weight$")


def read(checkpoint: Any, network: str = "teacher", config: dict | None = None) -> Converted | None:
    """The `Converted` weights, or None where the checkpoint is not a ResNet.

    Args:
        checkpoint: A state dict, or one under `state_dict`, `model`, `teacher` or `student`.
        network: "teacher" or "student", if the checkpoint has both.
        config: The `config.json` of a timm repository, if any.
    """
    content, one_model = checkpoint, True
    if any(isinstance(checkpoint.get(kind), dict) for kind in ("teacher", "student")):
        content, one_model = pick(checkpoint, network), False
    state = renamed(arrays(content.get("state_dict", content.get("model", content))), (r"^module\.", ""))
    state = renamed(state, (r"^backbone\.", ""))
    held = {
        kind: found for kind, prefixes in _NETWORKS.items() for p in prefixes if (found := under(state, p))
    }
    if held:
        one_model = len(held) == 1
        state = next(iter(held.values())) if one_model else pick(held, network)
    if MARK not in state or "conv1.weight" not in state:
        return None
    state = without(state, *_LEFT_OUT)
    state = {name: array for name, array in state.items() if not name.endswith("num_batches_tracked")}
    preprocessing = Preprocessing(224, 256, "bilinear")
    family = "ResNet checkpoint"
    if config:
        name = str(config.get("architecture"))
        family = f"timm's {name}"
        if not re.fullmatch(r"resnet\d+", name):
            raise CheckpointError(f"{family}: expected one of timm's plain ResNets, such as resnet50")
        preprocessing = timm_preprocessing(config, family)
    return Converted(family, state, preprocessing=preprocessing, one_model=one_model)


def architecture(state: dict[str, np.ndarray], family: str) -> dict[str, Any]:
    """`ResNet`'s arguments, from the names and shapes of a backbone's weights.

    Raises:
        CheckpointError: where the weights are not those of a plain ResNet.
    """
    counts: dict[int, int] = {}
    for name in state:
        if found := _CONVOLUTION.match(name):
            counts[int(found[1])] = max(counts.get(int(found[1]), 0), int(found[2]) + 1)
    stem, stages = state["conv1.weight"].shape, range(1, len(counts) + 1)
    if sorted(counts) != list(stages) or len(stem) != 4 or stem[1:] != (3, 7, 7):
        raise CheckpointError(
            f"{family}: conv1.weight has shape {stem} and there are stages {sorted(counts)}; expected a stem of 7 × 7 "
            "and stages from 1 on"
        )
    return {
        "blocks": [counts[stage] for stage in stages],
        "width": stem[0],
        "bottleneck": "layer1.0.conv3.weight" in state,
    }


def resnet_names(encoder: ResNet) -> dict[str, tuple]:
    """Torch name → (Keras variable, layout) of every weight of a `ResNet` with the stem of ImageNet."""
    names = _pair(encoder, "conv1", "bn1", "stem")
    convolutions = 3 if encoder.bottleneck else 2
    for stage, count in enumerate(encoder.blocks):
        for block in range(count):
            at, name = f"layer{stage + 1}.{block}", f"stage_{stage}_block_{block}"
            for i in range(1, convolutions + 1):
                names |= _pair(encoder, f"{at}.conv{i}", f"{at}.bn{i}", f"{name}_conv_{i}")
            if any(layer.name == f"{name}_shortcut" for layer in encoder.layers):
                names |= _pair(encoder, f"{at}.downsample.0", f"{at}.downsample.1", f"{name}_shortcut")
    return names


def _pair(encoder, convolution, norm, name):
    """The names of a convolution and of the batch norm behind it."""
    layer = encoder.get_layer(f"{name}_norm")
    return {
        f"{convolution}.weight": (encoder.get_layer(name).kernel, "convolution"),
        f"{norm}.weight": (layer.gamma, "same"),
        f"{norm}.bias": (layer.beta, "same"),
        f"{norm}.running_mean": (layer.moving_mean, "same"),
        f"{norm}.running_var": (layer.moving_variance, "same"),
    }
