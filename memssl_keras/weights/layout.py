"""What other libraries want to find in a model's folder, written beside our own entries.

One `config.json` serves memssl-keras, transformers, transformers.js and timm, for their keys do not collide:

- transformers reads `model_type`, `hidden_size` and so on. A `ViT` is a `ViTModel`; with layer scale a
  `Dinov2Model`; with registers a `Dinov2WithRegistersModel`.
- timm reads `architecture`, `model_args`, `num_classes` and `pretrained_cfg`.
- ours are `format_version`, `library_name`, `embed_dim`, `keras_config` and `preprocessing`.

The weights are another matter: timm has one `qkv` per block, transformers has query, key and value apart, neither
can read the other's names, and safetensors cannot hold one array under two names. So `model.safetensors` has the
names of timm, DINO and this package, and `transformers.safetensors` the other ones. `transformers_weights` in
`config.json` names the latter; versions of transformers before 4.53 do not know that key and must not be used.

`preprocessor_config.json` repeats the preprocessing for transformers and transformers.js. On images that have to be
resized, timm's transform gives our pixels. So does transformers' `AutoImageProcessor.from_pretrained(…, backend="pil")`
where the margins that the crop cuts off are even numbers; an odd one it halves downwards, while we, like timm and
torchvision, round it, which moves the square by a pixel. Its other backend and transformers.js resize with other
libraries and round otherwise; on images of the model's own size they all agree.
"""

from __future__ import annotations

from memssl_keras.images.preprocess import Preprocessing

WEIGHTS = "model.safetensors"
TRANSFORMERS_WEIGHTS = "transformers.safetensors"
KERAS_MODEL = "model.keras"
# What `save_pretrained` writes when asked; int8-static needs images, see `export_onnx`.
EXPORTS = ("transformers", "keras", "fp32", "fp16", "int8")
VIT_TYPES = ("vit", "dinov2", "dinov2_with_registers")  # of transformers, in which a `ViT` can be written
_RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers, which transformers uses
# Any of timm's plain ViTs would do: `model_args` overrides every size. These are right without it, too.
_TIMM = {
    (192, 12, 3): "vit_tiny_patch16_224",
    (384, 12, 6): "vit_small_patch16_224",
    (768, 12, 12): "vit_base_patch16_224",
    (1024, 24, 16): "vit_large_patch16_224",
}


def model_type_of(settings: dict) -> str:
    """The `model_type` of transformers in which a ViT with these settings (`ViT.get_config()`) can be written."""
    if settings["register_tokens"]:
        return "dinov2_with_registers"
    return "dinov2" if settings["layer_scale"] is not None else "vit"


def transformers_config(settings: dict, preprocessing: Preprocessing) -> dict:
    """The keys that transformers, transformers.js and optimum read.

    `pooler_output` is the CLS feature there too: the pooler is written as an identity.

    Args:
        settings: `ViT.get_config()`.
        preprocessing: The encoder's `Preprocessing`.
    """
    kind, squash = model_type_of(settings), preprocessing.squash
    names = {"vit": "ViTModel", "dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
    config = {
        "model_type": kind,
        # transformers takes a folder with timm's keys for timm's own and looks for this here, not in the other file.
        "image_processor_type": "ViTImageProcessor" if squash else "CLIPImageProcessor",
        "architectures": [names[kind]],
        "transformers_weights": TRANSFORMERS_WEIGHTS,
        "hidden_size": settings["embed_dim"],
        "num_hidden_layers": settings["depth"],
        "num_attention_heads": settings["num_heads"],
        "image_size": preprocessing.image_size,
        "patch_size": settings["patch_size"],
        "num_channels": 3,
        "qkv_bias": settings["qkv_bias"],
        "layer_norm_eps": settings["norm_epsilon"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if kind == "vit":
        width = int(settings["embed_dim"] * settings["mlp_ratio"])
        return config | {"intermediate_size": width, "pooler_act": "linear"}
    # Its field takes whole numbers alone; a ratio such as 2.5 therefore cannot be written.
    ratio = settings["mlp_ratio"]
    config |= {"mlp_ratio": int(ratio) if float(ratio).is_integer() else ratio}
    config |= {"layerscale_value": settings["layer_scale"] or 1.0, "use_swiglu_ffn": False}
    return config | ({"num_register_tokens": settings["register_tokens"]} if kind != "dinov2" else {})


def timm_config(settings: dict, preprocessing: Preprocessing) -> dict:
    """The keys that `timm.create_model` reads of a folder or a Hub repository.

    timm resizes positions when the model is built; its own way of it differs a little from DINO's, see
    `memssl_keras.weights.positions`.
    """
    size = preprocessing.image_size
    width, depth, heads = settings["embed_dim"], settings["depth"], settings["num_heads"]
    model_args = {
        "img_size": size,
        "patch_size": settings["patch_size"],
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        "mlp_ratio": settings["mlp_ratio"],
        "qkv_bias": settings["qkv_bias"],
        "num_classes": 0,
        "global_pool": "token",
        "dynamic_img_size": True,
    }
    if settings["layer_scale"] is not None:
        model_args["init_values"] = settings["layer_scale"]
    if settings["register_tokens"]:
        model_args |= {"reg_tokens": settings["register_tokens"], "no_embed_class": True}
    return {
        "architecture": _TIMM.get((width, depth, heads), "vit_small_patch16_224"),
        "num_classes": 0,
        "num_features": width,
        "global_pool": "token",
        "model_args": model_args,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, size, size],
            "fixed_input_size": False,
            "interpolation": preprocessing.interpolation,
            # timm multiplies back and rounds down: half a pixel keeps the size what it is.
            "crop_pct": round(size / (preprocessing.resize_size + 0.5), 6)
            if preprocessing.resize_size > size
            else 1.0,
            "crop_mode": "squash" if preprocessing.squash else "center",
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "hf_hub_filename": WEIGHTS,
        },
    }


def preprocessor_config(preprocessing: Preprocessing) -> dict:
    """`preprocessor_config.json`, as transformers' and transformers.js' `AutoImageProcessor` read it."""
    size = preprocessing.image_size
    square = {"height": size, "width": size}
    common = {
        "do_convert_rgb": True,
        "do_resize": True,
        "resample": _RESAMPLE[preprocessing.interpolation],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
    }
    if preprocessing.squash:
        return {"image_processor_type": "ViTImageProcessor", "size": square, **common}
    crop = {"size": {"shortest_edge": preprocessing.resize_size}, "do_center_crop": True, "crop_size": square}
    return {"image_processor_type": "CLIPImageProcessor", **crop, **common}
