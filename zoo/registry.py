"""The models that come with the package: a name is a folder `weights/<name>/` that holds a `config.json`."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights"


class UnknownModel(ValueError):
    """A name that is neither a folder nor a bundled model."""


def list_models() -> list[str]:
    """Return the names of the bundled models, sorted.

    Example:
        >>> from memssl_keras.zoo.registry import list_models
        >>> isinstance(list_models(), list)
        True
    """
    return sorted(config.parent.name for config in _WEIGHTS.glob("*/config.json"))


def resolve(name: str) -> Path:
    """Return the folder of a bundled model.

    Args:
        name: one of `list_models()`.

    Raises:
        UnknownModel: there is none of that name; the message lists those there are and suggests near names.

    Example:
        >>> from memssl_keras.zoo.registry import list_models, resolve
        >>> all((resolve(name) / "config.json").is_file() for name in list_models())
        True
    """
    models = list_models()
    if name in models:
        return _WEIGHTS / name
    there_are = f"bundled are {', '.join(models)}" if models else "no model is bundled here"
    near = difflib.get_close_matches(str(name), models)
    suggestion = f". Did you mean {' or '.join(near)}?" if near else ""
    raise UnknownModel(
        f"model: got {str(name)!r}; expected the folder of a saved encoder or the name of a bundled one; "
        f"{there_are}{suggestion}"
    )


def info(name: str) -> dict:
    """Return the configuration of a bundled model: what stands in its `config.json`.

    Raises:
        UnknownModel: as `resolve` does.

    Example:
        >>> from memssl_keras.zoo.registry import info, list_models
        >>> all(info(name)["library_name"] == "memssl-keras" for name in list_models())
        True
    """
    return json.loads((resolve(name) / "config.json").read_text(encoding="utf-8"))
