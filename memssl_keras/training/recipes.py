"""All recipes, by name.

`vits16_in1k` and `vitb16_in1k` are the published ones for ImageNet (arXiv 2407.17486). The others are this project's,
for small images; `purpose` says for which pictures and hardware. `vitt4_cifar10`, `vitt8_glyphs`,
`resnet8_icons` and `resnet18_cifar10` have not been run to their end yet; for `resnet14_photos` no results are
recorded. `resnet18_cifar10` has the settings of lightly's public CIFAR-10
benchmark, except for the method: 200 epochs, batch size 512, no blur. `memssl pretrain … --labelled cifar10/ --knn-k
200` measures it in the same way. Keras and torch are imported only when a model is built, so recipes can be listed
without them.
"""

from __future__ import annotations

import difflib
from typing import Any

from memssl_keras.data.views import IMAGENET_MEAN, IMAGENET_STD, MultiCrop
from memssl_keras.training.recipe import Recipe

_SMALL = {
    "embed_dim": 384,
    "depth": 12,
    "num_heads": 6,
    "patch_size": 16,
    "image_size": 224,
    "drop_path": 0.1,
}
_BASE = {**_SMALL, "embed_dim": 768, "num_heads": 12}
_TINY = {"embed_dim": 192, "depth": 12, "num_heads": 3, "drop_path": 0.1}
_NANO = {"embed_dim": 128, "depth": 4, "num_heads": 4}
_RESNET12 = {"blocks": (1, 2, 2), "width": 32, "stem": "half"}


def _pixels(size):
    """Preprocessing that resizes whole pictures to `size`."""
    constants = {"interpolation": "bicubic", "mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    return {"image_size": size, "resize_size": size, **constants}


# Below some 64 px blur leaves nothing to see, and a local view of a twentieth of the area shows nothing.
_SHARP: dict[str, Any] = {"blur": (0.0, 0.0, 0.0), "solarize": 0.0}
# What every small recipe shares: batch norm in the head keeps embeddings apart from the first step on, where
# without it they start out alike and similarities to the memory slide into uniform ones.
_LITTLE: dict[str, Any] = {
    "batch_norm": True,
    "hidden_dim": 512,
    "memory_size": 4096,
    "block_size": 1024,
    "momentum": 0.99,
    "weight_decay": (0.04, 0.1),
    "teacher_temperature": (0.04, 0.04),
    "temperature_warmup_epochs": 0,
    "batch_size": 128,
}

# What a screen does to a drawing: any two colours, small sizes, JPEG. Without KoLeo and with a softer teacher, the
# embeddings of such views crowd together.
_ON_SCREEN: dict[str, Any] = {
    "global_scale": (0.6, 1.0),
    "flip": 0.0,
    "jitter": 0.5,
    "jitter_strength": (0.4, 0.4, 0.2, 0.05),
    "grey": 0.05,
    "blur": (0.1, 0.1, 0.1),
    "solarize": 0.0,
    "recolour": 0.7,
    "stroke": 0.3,
    "pad": 0.15,
    "pad_share": (0.0, 0.4),
    "rotate": 5.0,
    "small": 0.4,
    "small_share": (0.25, 0.9),
    "jpeg": 0.2,
}
_ICON_POOLING = {"stem": "half", "pooling_grid": 3, "preprocessing": {**_pixels(64), "trim": 0.08}}
_LONG: dict[str, Any] = {"epochs": 200, "learning_rate": 1e-3, "warmup_epochs": 10}
# For batches of 512 and more.
_WIDE = {"memory_size": 8192, "block_size": 2048, "hidden_dim": 1024}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "vits16_in1k", _SMALL, purpose="a million photographs, several GPUs for days (published settings)"
        ),
        Recipe(
            "vitb16_in1k",
            _BASE,
            purpose="a million photographs, several GPUs for days (published settings)",
            epochs=400,
            learning_rate=7.5e-4,
            final_learning_rate=2e-6,
            warmup_epochs=10,
            momentum=0.996,
            temperature_warmup_epochs=50,
        ),
        Recipe(
            "vitt4_cifar10",
            {**_TINY, "patch_size": 4, "image_size": 32},
            views=MultiCrop(32, 16, 4, global_scale=(0.2, 1.0), local_scale=(0.08, 0.3), **_SHARP),
            purpose="small photographs of about 32 px, a GPU, hours",
            **_LITTLE,
            **_LONG,
        ),
        Recipe(
            "vitt8_glyphs",
            {**_TINY, "patch_size": 8, "image_size": 64},
            views=MultiCrop(64, 32, 4, global_scale=(0.3, 1.0), local_scale=(0.1, 0.3), blur=(0.5, 0.1, 0.2)),
            purpose="drawings of about 64 px, a GPU, hours",
            **_LITTLE,
            **_LONG,
        ),
        Recipe(
            "resnet18_cifar10",
            {"stem": "cifar", "preprocessing": _pixels(32)},
            views=MultiCrop(32, 16, 0, global_scale=(0.2, 1.0), **_SHARP),
            purpose="small photographs of about 32 px, a GPU, hours",
            family="resnet",
            **{**_LITTLE, "batch_size": 512, **_LONG},
        ),
        Recipe(
            "resnet14_cifar10",
            # Trained at 24 px, half the work; crops are enlarged, so that things are as large in whole images of 32 px.
            {
                "blocks": (2, 2, 2),
                "width": 64,
                "stem": "cifar",
                "pooling_grid": 2,
                "preprocessing": _pixels(32),
            },
            views=MultiCrop(24, 12, 0, global_scale=(0.2, 1.0), **_SHARP),
            purpose="small photographs of about 32 px, a GPU, an hour",
            epochs=200,
            learning_rate=1e-3,
            warmup_epochs=5,
            family="resnet",
            koleo_weight=0.1,
            precision="mixed_bfloat16",
            **{**_LITTLE, "batch_size": 512, **_WIDE},
        ),
        Recipe(
            "vitn4_cifar10_long",
            {**_NANO, "depth": 6, "patch_size": 4, "image_size": 32, "preprocessing": _pixels(32)},
            views=MultiCrop(32, 16, 4, global_scale=(0.25, 1.0), local_scale=(0.08, 0.25), **_SHARP),
            purpose="small photographs with a ViT, a GPU, a quarter of an hour",
            epochs=80,
            learning_rate=5e-4,
            warmup_epochs=5,
            koleo_weight=0.1,
            precision="mixed_bfloat16",
            **{**_LITTLE, "batch_size": 512, **_WIDE},
        ),
        Recipe(
            "resnet12_cifar10",
            {**_RESNET12, "pooling_grid": 2, "preprocessing": _pixels(32)},
            views=MultiCrop(32, 16, 0, global_scale=(0.2, 1.0), **_SHARP),
            purpose="small photographs of about 32 px, a processor core, two hours",
            epochs=16,
            learning_rate=4e-3,
            warmup_epochs=0.3,
            family="resnet",
            **{**_LITTLE, "batch_size": 64},
        ),
        Recipe(
            "resnet14_photos",
            {
                "blocks": (1, 2, 2, 1),
                "width": 32,
                "stem": "half",
                "pooling_grid": 2,
                "preprocessing": _pixels(96),
            },
            views=MultiCrop(96, 48, 0, global_scale=(0.2, 1.0), blur=(0.5, 0.1, 0.3)),
            purpose="photographs of 64 px and more, a processor core, hours",
            epochs=100,
            learning_rate=4e-3,
            warmup_epochs=0.3,
            family="resnet",
            **{**_LITTLE, "batch_size": 64},
        ),
        Recipe(
            "resnet12_glyphs",
            # Where things are tells one glyph from another: a pooling grid keeps it, mild views leave it alone.
            # Trained at 48 px, a third of the work; 80 px then find more.
            {**_RESNET12, "pooling_grid": 3, "preprocessing": _pixels(80)},
            views=MultiCrop(
                48,
                24,
                0,
                global_scale=(0.4, 1.0),
                flip=0.0,
                jitter_strength=(0.4, 0.4, 0.2, 0.05),
                grey=0.05,
                blur=(0.2, 0.1, 0.1),
                solarize=0.0,
            ),
            purpose="drawings of 48 to 80 px, a processor core, two hours",
            epochs=20,
            learning_rate=4e-3,
            warmup_epochs=0.3,
            family="resnet",
            **{**_LITTLE, "batch_size": 64},
        ),
        Recipe(
            "resnet12_icons",
            {**_RESNET12, **_ICON_POOLING},
            views=MultiCrop(40, 20, 0, **_ON_SCREEN),
            purpose="icons of any colour and size, a processor core, an hour",
            epochs=1,
            learning_rate=4e-3,
            warmup_epochs=0.1,
            family="resnet",
            koleo_weight=0.1,
            **{**_LITTLE, "batch_size": 64, "teacher_temperature": (0.03, 0.03)},
        ),
        Recipe(
            "resnet14_icons",
            {"blocks": (1, 2, 3), "width": 48, **_ICON_POOLING},
            views=MultiCrop(48, 24, 0, **_ON_SCREEN),
            purpose="icons of any colour and size, a GPU, a quarter of an hour",
            epochs=50,
            learning_rate=4e-4,
            warmup_epochs=1,
            family="resnet",
            koleo_weight=0.1,
            precision="mixed_bfloat16",
            **{**_LITTLE, "batch_size": 1024, "teacher_temperature": (0.03, 0.03), **_WIDE},
        ),
        Recipe(
            "resnet8_icons",
            {"blocks": (1, 1, 1), "width": 32, **_ICON_POOLING},
            views=MultiCrop(48, 24, 0, **_ON_SCREEN),
            purpose="icons of any colour and size with the smallest network, a GPU, ten minutes",
            epochs=25,
            learning_rate=6e-4,
            warmup_epochs=1,
            family="resnet",
            koleo_weight=0.1,
            precision="mixed_bfloat16",
            **{**_LITTLE, "batch_size": 1024, "teacher_temperature": (0.03, 0.03), **_WIDE},
        ),
        Recipe(
            "resnet8_icons_distilled",
            {"blocks": (1, 1, 1), "width": 32, **_ICON_POOLING},
            views=MultiCrop(40, 20, 0, **_ON_SCREEN),
            purpose="icons with the smallest network, --teacher massl_resnet14.icons, a processor core, an hour",
            epochs=3,
            learning_rate=4e-3,
            warmup_epochs=0.1,
            family="resnet",
            **{**_LITTLE, **_WIDE, "hidden_dim": 512},
        ),
        Recipe(
            "vitn4_cifar10",
            # Trained at 16 px, a quarter of the work; 32 px then separate the classes better.
            {**_NANO, "patch_size": 4, "image_size": 16, "preprocessing": _pixels(32)},
            views=MultiCrop(16, 8, 0, global_scale=(0.2, 1.0), **_SHARP),
            purpose="small photographs with a ViT, a processor core, two hours",
            epochs=20,
            learning_rate=2e-3,
            warmup_epochs=0.5,
            **_LITTLE,
        ),
    )
}


def list_recipes() -> list[str]:
    """Names of all recipes."""
    return list(RECIPES)


def get_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        ValueError: for an unknown name; the message lists the recipes. Also for "adapt", which depends on the encoder
            and the pictures; `memssl_keras.training.adapt.adapt_recipe` makes it.
    """
    if name == "adapt":
        raise ValueError(
            "recipe='adapt': depends on the encoder and the pictures; expected adapt_recipe(encoder, images=…) of "
            "memssl_keras.training.adapt, or on the command line --init MODEL"
        )
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"recipe={name!r} is unknown, there are {', '.join(RECIPES)}{hint}")
    return RECIPES[name]
