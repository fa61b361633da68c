"""`preprocessor_config.json` and timm's `pretrained_cfg` of other people's models, as a `Preprocessing`."""

from __future__ import annotations

from typing import Any

from memssl_keras.images.preprocess import Preprocessing

FILE = "preprocessor_config.json"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which transformers writes
_CROPS = ("Bit", "CLIP")  # processors that crop and take bicubic where nothing is said


def of_transformers(settings: dict[str, Any], image_size: int | None = None) -> Preprocessing:
    """What the image processors of transformers, transformers.js and optimum do, from their settings.

    Args:
        settings: The content of `preprocessor_config.json`.
        image_size: Side in pixels that the model's own configuration names, where the settings name none.

    Raises:
        ValueError: for steps that `Preprocessing` has not: another resampling, no resizing, pictures that do not come
            out square.
    """
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    bicubic = kind.startswith(_CROPS)
    interpolation = _interpolation(settings.get("resample", 3 if bicubic else 2))
    if not settings.get("do_resize", True):
        raise ValueError(f"{FILE}: do_resize is false; expected a size that pictures are brought to")
    mean, std = _constants(settings)
    size = settings.get("size") or image_size or 224
    if "crop_pct" in settings and not settings.get("crop_size"):
        return _by_share(_side(size), settings["crop_pct"], interpolation, mean, std)
    crop = settings.get("crop_size")
    side = _side(crop) if crop else None
    if isinstance(size, dict) and "shortest_edge" in size:
        if not settings.get("do_center_crop", bicubic) or not side:
            raise ValueError(f"{FILE}: size={size!r} without centre crop; expected a square to come out")
        return Preprocessing(side, size["shortest_edge"], interpolation, mean, std)
    whole = _side(size)
    if settings.get("do_center_crop") and side and side != whole:
        if isinstance(size, int):  # of older versions, where a number is the shortest edge
            return Preprocessing(side, whole, interpolation, mean, std)
        raise ValueError(f"{FILE}: a crop of {side} from a squashed {whole}; expected no crop")
    return Preprocessing(whole, whole, interpolation, mean, std, squash=True)


def of_timm(settings: dict[str, Any]) -> Preprocessing:
    """What timm's transform for evaluation does, from a `pretrained_cfg`; what is missing has timm's default.

    Raises:
        ValueError: where a setting is one that `Preprocessing` has not.
    """
    size = settings.get("input_size") or (3, 224, 224)
    if len(size) != 3 or size[0] != 3 or size[1] != size[2]:
        raise ValueError(f"pretrained_cfg: input_size={size!r}; expected [3, side, side]")
    side, share, mode = size[1], settings.get("crop_pct") or 0.875, settings.get("crop_mode") or "center"
    interpolation = settings.get("interpolation") or "bicubic"
    if interpolation not in _RESAMPLE.values():
        raise ValueError(f"pretrained_cfg: interpolation={interpolation!r}; expected bilinear or bicubic")
    constants = settings.get("mean") or _IMAGENET[0], settings.get("std") or _IMAGENET[1]
    if mode == "squash" and share == 1:
        return Preprocessing(side, side, interpolation, *constants, squash=True)
    if mode != "center":
        raise ValueError(
            f"pretrained_cfg: crop_mode={mode!r}, crop_pct={share}; expected 'center', or 'squash' of the whole"
        )
    return Preprocessing(side, int(side / share), interpolation, *constants)


def _by_share(side, share, interpolation, mean, std):
    """As ConvNext's processor: below 384 px a crop of a share, from there on the whole, squashed."""
    if side >= 384:
        return Preprocessing(side, side, interpolation, mean, std, squash=True)
    return Preprocessing(side, int(side / share), interpolation, mean, std)


def _interpolation(number):
    if number not in _RESAMPLE:
        raise ValueError(f"{FILE}: resample={number!r}; expected 2 or 3 (bilinear, bicubic)")
    return _RESAMPLE[number]


def _side(size):
    """The side of a square that a number or one of several kinds of dicts says."""
    if isinstance(size, dict):
        values = [size.get("height"), size.get("width")] if "height" in size else list(size.values())
        if not values or any(value != values[0] for value in values):
            raise ValueError(f"{FILE}: size={size!r}; expected a square")
        size = values[0]
    if isinstance(size, (list, tuple)):
        size = size[0] if len(set(size)) == 1 else None
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"{FILE}: size={size!r}; expected the side of a square in pixels")
    return size


def _constants(settings):
    """Mean and deviation on the scale 0 … 1, whatever the factor that pixels are multiplied with first."""
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    if not isinstance(factor, (int, float)) or factor <= 0:
        raise ValueError(f"{FILE}: rescale_factor={factor!r}; expected a number above 0, such as 1/255")
    plain = not settings.get("do_normalize", True)
    mean = [0.0] * 3 if plain else settings.get("image_mean", [0.5] * 3)
    std = [1.0] * 3 if plain else settings.get("image_std", [0.5] * 3)
    if abs(factor * 255 - 1) < 1e-6:
        return mean, std
    return [value / (255 * factor) for value in mean], [value / (255 * factor) for value in std]
