"""Torch's names and layouts for the weights of a ViT and a projection head.

The names are those that the reference's, DINO's and timm's ViTs share. Linear weights are (out, in) there and
(in, out) in Keras; convolutions (out, in, h, w) and (h, w, in, out).
"""

from __future__ import annotations

import keras
import numpy as np
from keras import ops

from memssl_keras.encoders.vit import ViT

_LAYOUTS: dict[str, tuple] = {
    "same": (lambda a: a, lambda a: a),
    "linear": (np.transpose, np.transpose),
    "convolution": (lambda a: a.transpose(3, 2, 0, 1), lambda a: a.transpose(2, 3, 1, 0)),
}


def _layer(name, layer, layout):
    bias = {f"{name}.bias": (layer.bias, "same")} if layer.use_bias else {}
    return {f"{name}.weight": (layer.kernel, layout)} | bias


def _norm(name, layer):
    return {f"{name}.weight": (layer.gamma, "same"), f"{name}.bias": (layer.beta, "same")}


def encoder_names(vit: ViT) -> dict[str, tuple]:
    """Torch name → (Keras variable, layout) of every weight of a `ViT`."""
    names = {"cls_token": (vit.cls_token, "same"), "pos_embed": (vit.pos_embed, "same")}
    if vit.register_tokens:
        names["register_tokens"] = (vit.registers, "same")
    names |= _layer("patch_embed.proj", vit.patch_embed, "convolution")
    for i, block in enumerate(vit.blocks):
        at = f"blocks.{i}"
        names |= _norm(f"{at}.norm1", block.norm1)
        names |= _layer(f"{at}.attn.qkv", block.attn.qkv, "linear")
        names |= _layer(f"{at}.attn.proj", block.attn.proj, "linear")
        names |= _norm(f"{at}.norm2", block.norm2)
        names |= _layer(f"{at}.mlp.fc1", block.fc1, "linear")
        names |= _layer(f"{at}.mlp.fc2", block.fc2, "linear")
        if block.layer_scale is not None:
            names |= {f"{at}.ls{j}.gamma": (ls.gamma, "same") for j, ls in ((1, block.ls1), (2, block.ls2))}
    return names | _norm("norm", vit.norm)


def head_names(head: keras.layers.Layer) -> dict[str, tuple]:
    """Torch name → (Keras variable, layout) of every weight of a `ProjectionHead`, a sequence `mlp` there."""
    names: dict[str, tuple] = {}
    stride = 3 if head.batch_norm else 2
    for i, linear in enumerate(head.linears):
        names |= _layer(f"mlp.{i * stride}", linear, "linear")
    for i, norm in enumerate(head.norms):
        at = f"mlp.{i * stride + 1}"
        names |= _norm(at, norm)
        names[f"{at}.running_mean"] = (norm.moving_mean, "same")
        names[f"{at}.running_var"] = (norm.moving_variance, "same")
    return names


def to_state(names: dict[str, tuple]) -> dict[str, np.ndarray]:
    """The weights as numpy arrays under torch's names, in torch's layouts, contiguous."""
    return {
        name: np.asarray(_LAYOUTS[layout][0](ops.convert_to_numpy(variable.value)), order="C")
        for name, (variable, layout) in names.items()
    }


def load_state(names: dict[str, tuple], state: dict[str, np.ndarray], source: str = "state") -> None:
    """Assign arrays under torch's names to the Keras variables; nothing is assigned unless all fit.

    Raises:
        ValueError: naming every missing, unexpected and misshapen weight of `source`.
    """
    problems = [f"missing {name}" for name in names if name not in state]
    problems += [f"unexpected {name}" for name in state if name not in names]
    arrays = {}
    for name, (variable, layout) in names.items():
        if name not in state:
            continue
        if _same_rank(state[name], variable):
            arrays[name] = _LAYOUTS[layout][1](np.asarray(state[name]))
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            expected = _LAYOUTS[layout][0](np.empty(variable.shape, "bool")).shape
            problems.append(f"{name} has shape {tuple(np.shape(state[name]))}, expected {expected}")
    if problems:
        raise ValueError(f"{source} does not fit the model: {'; '.join(problems)}")
    for name, (variable, _) in names.items():
        variable.assign(arrays[name])


def _same_rank(array, variable):
    return np.ndim(array) == len(variable.shape)
