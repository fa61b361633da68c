"""The settings that a run is recorded with, and what differs between two of them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from memssl_keras.data.held_out import Rows
from memssl_keras.data.pairs import Paired
from memssl_keras.data.targets import WithTargets
from memssl_keras.training.recipe import Recipe

RUN = "run.json"


class SettingsChanged(ValueError):
    """The folder holds a run with other settings."""


def settings_of(recipe: Recipe, images: Any, seed: int) -> dict[str, Any]:
    """What is recorded of a run, as plain JSON values: its recipe, and which images it sees in which order."""
    plain = json.loads(json.dumps(dataclasses.asdict(recipe)))
    del plain["purpose"]  # words, which may be said better
    pairs = {"pairs": images.settings} if isinstance(images, Paired) else {}
    source = images.images if isinstance(images, (Paired, WithTargets)) else images
    held_out = {"held_out": source.held_out} if isinstance(source, Rows) else {}
    return {**plain, "images": len(images), "seed": seed, **pairs, **held_out}


def what_changed(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """What differs between two settings, in words; of views and of the encoder each setting by itself."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if name in ("views", "encoder") and isinstance(old, dict) and isinstance(new, dict):
            found += what_changed(old, new, f"{where}{name}.")
        elif old != new:
            found.append(f"{where}{name} was {old!r}, now {new!r}")
    return found
