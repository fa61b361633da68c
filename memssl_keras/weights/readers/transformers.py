"""transformers' ViT, ViTMSN, Dinov2 and Dinov2WithRegisters, read in both of its naming schemes and written.

Query, key and value are weights of their own there. Up to version 4 they are
`encoder.layer.N.attention.attention.query` and so on; version 5 has `layers.N.attention.q_proj` for ViT and
`encoder.layer.N.attention.q_proj` for Dinov2, and reads the older names, too. The older ones are written.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from memssl_keras.weights.checkpoint import CheckpointError
from memssl_keras.weights.preprocessor import of_transformers
from memssl_keras.weights.readers.family import Converted, arrays, renamed, under, without

_PREFIXES = {
    "vit": "vit.",
    "vit_msn": "vit.",
    "dinov2": "dinov2.",
    "dinov2_with_registers": "dinov2_with_registers.",
}
_LEFT_OUT = ("pooler.", "classifier.", "decoder.", "embeddings.mask_token")
# From any of its versions to this package's names; query, key and value are joined afterwards.
_READ = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.register_tokens$", "register_tokens"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^layernorm\.", "norm."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"^(blocks\.\d+\.)(?:layernorm_before|norm1)\.", r"\1norm1."),
    (r"^(blocks\.\d+\.)(?:layernorm_after|norm2)\.", r"\1norm2."),
    (r"^(blocks\.\d+\.)attention\.(?:attention\.query|q_proj)\.", r"\1attn.q."),
    (r"^(blocks\.\d+\.)attention\.(?:attention\.key|k_proj)\.", r"\1attn.k."),
    (r"^(blocks\.\d+\.)attention\.(?:attention\.value|v_proj)\.", r"\1attn.v."),
    (r"^(blocks\.\d+\.)attention\.(?:output\.dense|o_proj)\.", r"\1attn.proj."),
    (r"^(blocks\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
    (r"^(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
    (r"^(blocks\.\d+\.)layer_scale([12])\.lambda1$", r"\1ls\2.gamma"),
)
_WRITE = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^register_tokens$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attn\.(query|key|value)\.", r".attention.attention.\1."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
)
_WRITE_VIT = (
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def _joined(state):
    """Query, key and value of each block as one `qkv`; what lacks one of them stays as it is, to be named."""
    parts = re.compile(r"^(blocks\.\d+\.attn\.)q(\.weight|\.bias)$")
    for name in [name for name in state if parts.match(name)]:
        before, after = parts.match(name).groups()
        three = [f"{before}{part}{after}" for part in "qkv"]
        if all(part in state for part in three):
            state[f"{before}qkv{after}"] = np.concatenate([state.pop(part) for part in three])
    return state


def read(
    checkpoint: Any, network: str = "teacher", config: dict | None = None, preprocessor: dict | None = None
) -> Converted | None:
    """A `Converted`, or None where this is no such checkpoint.

    Args:
        checkpoint: A state dict.
        network: Of no use here: there is one model.
        config: The `config.json` of a transformers repository, if any.
        preprocessor: Its `preprocessor_config.json`, if any.
    """
    state = arrays(checkpoint)
    kind = (config or {}).get("model_type")
    prefixes = [_PREFIXES[kind]] if kind in _PREFIXES else sorted(set(_PREFIXES.values()))
    for prefix in prefixes:
        if f"{prefix}embeddings.cls_token" in state:
            state = without(state, prefix, *_LEFT_OUT) | under(state, prefix)
            break
    if "embeddings.cls_token" not in state:
        return None
    if config is not None and kind not in _PREFIXES:
        raise CheckpointError(f"config.json: model_type={kind!r}; expected {', '.join(_PREFIXES)}")
    state = _joined(renamed(without(state, *_LEFT_OUT), *_READ))
    config, family = config or {}, f"transformers' {kind or 'ViT'}"
    if config.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(f"{family}: hidden_act={config['hidden_act']!r}; expected 'gelu'")
    return Converted(
        family,
        state,
        num_heads=config.get("num_attention_heads"),
        # Defaults of its classes, which configurations may leave out.
        norm_epsilon=config.get(
            "layer_norm_eps", 1e-6 if str(kind).startswith(("dinov2", "vit_msn")) else 1e-12
        ),
        preprocessing=_preprocessing(preprocessor, config),
        square=_is_square(config),
        positions="antialias" if kind == "dinov2_with_registers" else "torch",
    )


def _is_square(config):
    """Whether a repository's configuration says that its images and patches are square."""
    for key in ("image_size", "patch_size"):
        size = config.get(key)
        if isinstance(size, (list, tuple)) and len(set(size)) > 1:
            raise CheckpointError(f"config.json: {key}={size!r}; expected a square")
    return bool(config)


def _preprocessing(settings, config):
    """`Preprocessing` of a `preprocessor_config.json`, None where there is none."""
    if not settings:
        return None
    try:
        return of_transformers(settings, config.get("image_size"))
    except ValueError as error:
        raise CheckpointError(str(error)) from None


def write(state: dict[str, np.ndarray], model_type: str) -> dict[str, np.ndarray]:
    """A backbone's weights under the names of transformers.

    Args:
        state: Arrays under the names of `torch_names.encoder_names`.
        model_type: One of `memssl_keras.weights.layout.VIT_TYPES`.

    A ViT gets a pooler that passes CLS on; a Dinov2 the mask token that its class has, as zeros, and a layer scale
    of one where there is none.
    """
    width, split = state["cls_token"].shape[-1], {}
    for name, array in state.items():
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), np.split(array, 3), strict=True):
                split[name.replace("qkv", part)] = np.ascontiguousarray(third)
        else:
            split[name] = array
    split = renamed(split, *_WRITE, *(_WRITE_VIT if model_type == "vit" else ()))
    if model_type == "vit":
        pooler = {
            "pooler.dense.weight": np.eye(width, dtype="float32"),
            "pooler.dense.bias": np.zeros(width, "float32"),
        }
        return split | pooler
    depth = 1 + max(int(name.split(".")[2]) for name in split if name.startswith("encoder.layer."))
    scales = {
        f"encoder.layer.{i}.layer_scale{j}.lambda1": np.ones(width, "float32")
        for i in range(depth)
        for j in (1, 2)
    }
    return scales | split | {"embeddings.mask_token": np.zeros((1, width), "float32")}
