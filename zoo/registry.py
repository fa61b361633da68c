"""The models of the zoo: those that come with the package, and those on the Hub that it pins.

A bundled model is a folder `weights/<name>/` with a `config.json`. One on the Hub is an entry of `models.json`: its
repository, the commit, the SHA-256 of its files, and what `memssl models` shows of it. Names are those of timm,
architecture and training data: `massl_vits16.in1k`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from pathlib import Path

from memssl_keras.annotations import PathLike

_WEIGHTS = Path(__file__).parent / "weights"


@dataclasses.dataclass(frozen=True)
class HubModel:
    """A model of the zoo that is fetched from the Hub.

    Attributes:
        repo_id: Repository, `owner/name`.
        revision: Commit that is taken.
        sha256: Name of each file in it → its SHA-256, which is checked.
        facts: What `memssl models` lists: see `facts`.
    """

    repo_id: str
    revision: str
    sha256: dict
    facts: dict


def _read_hub():
    entries = json.loads((Path(__file__).parent / "models.json").read_text(encoding="utf-8"))
    return {name: HubModel(**entry) for name, entry in entries.items()}


HUB: dict[str, HubModel] = _read_hub()


class UnknownModel(ValueError):
    """A name that is neither a folder, nor a model of the zoo, nor a repository on the Hub."""


def list_models() -> list[str]:
    """Return the names of all models of the zoo, sorted: bundled ones and those on the Hub.

    Example:
        >>> from memssl_keras import list_models
        >>> "massl_vitn4.cifar10" in list_models()
        True
    """
    return sorted({*bundled_models(), *HUB})


def bundled_models() -> list[str]:
    """Return the names of the models that come with the package, sorted."""
    return sorted(config.parent.name for config in _WEIGHTS.glob("*/config.json"))


def resolve(name: str) -> Path:
    """Return the folder of a bundled model.

    Args:
        name: one of `bundled_models()`.

    Raises:
        UnknownModel: there is none of that name; the message lists those there are and suggests near names.

    Example:
        >>> from memssl_keras.zoo.registry import bundled_models, resolve
        >>> all((resolve(name) / "config.json").is_file() for name in bundled_models())
        True
    """
    models = bundled_models()
    if name in models:
        return _WEIGHTS / name
    there_are = f"bundled are {', '.join(models)}" if models else "no model is bundled here"
    on_hub = f"; on the Hub are {', '.join(sorted(HUB))}" if HUB else ""
    raise UnknownModel(
        f"model: got {str(name)!r}; expected the folder of a saved encoder, a repository on the Hub as owner/name, "
        f"or the name of a bundled one; {there_are}{on_hub}{suggestion(name)}"
    )


def suggestion(name: str) -> str:
    """ ". Did you mean …?" with the nearest names of the zoo, or nothing."""
    near = difflib.get_close_matches(str(name).rpartition("/")[2], list_models())
    return f". Did you mean {' or '.join(near)}?" if near else ""


def facts(name: str) -> dict:
    """Return what `memssl models` lists of a model.

    Returns:
        `parameters`, `image_size` in pixels, `data` (what it was trained on), `knn` and `linear` as shares or None
        where not measured, `scores` (the first three results as pairs of what was measured, with its data, and the
        figure), `sizes` (file → bytes) and `where` ("bundled" or the repository).

    Raises:
        UnknownModel: as `resolve` does.

    Example:
        >>> from memssl_keras.zoo.registry import facts
        >>> facts("massl_vitn4.cifar10")["image_size"]
        32
    """
    if name in HUB:
        return HUB[name].facts | {"where": HUB[name].repo_id}
    return folder_facts(resolve(name)) | {"where": "bundled"}


def folder_facts(folder: PathLike) -> dict:
    """`facts` of a model's folder, from its files."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    files = [
        path for path in folder.rglob("*") if path.suffix in (".safetensors", ".keras", ".onnx", ".parquet")
    ]
    return {
        "parameters": _parameters(folder / "model.safetensors"),
        "image_size": config["preprocessing"]["image_size"],
        "data": _of_json(folder / "card.json").get("data"),
        "knn": _score(folder, "knn"),
        "linear": _score(folder, "linear"),
        "scores": _headlines(folder),
        "sizes": {path.relative_to(folder).as_posix(): path.stat().st_size for path in sorted(files)},
    }


def _of_json(path):
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def at_size(name: str) -> str:
    """What a name in `results.json` says of an image size that `memssl evaluate --image-size` was given; else empty.

    Example:
        >>> from memssl_keras.zoo.registry import at_size
        >>> at_size("the encoder, 64 px"), at_size("the encoder")
        (', 64 px', '')
    """
    found = re.search(r", \d+ px$", name)
    return found[0] if found else ""


def _score(folder, task):
    """The headline of the first result of a task for the model itself, if it was measured at its own image size."""
    results = _of_json(folder / "results.json")
    if at_size(results.get("reference", "")):
        return None
    for entry in results.get("results", ()):
        if entry["task"] == task:
            return entry["scores"].get(results["reference"], {}).get(entry["headline"])
    return None


def _headlines(folder, most=3):
    """Of the first results, what was measured on which data, and the model's own figure."""
    results = _of_json(folder / "results.json")
    found = []
    for entry in results.get("results", ()):
        own = entry["scores"].get(results["reference"], {}).get(entry["headline"])
        if own is not None:
            size = at_size(results["reference"])
            found.append((f"{entry['data']}, {entry['task']}, {entry['headline']}{size}", f"{own:.1%}"))
    return found[:most]


def _parameters(path):
    """Number of weights, from the header of a safetensors file; None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    return sum(math.prod(entry["shape"]) for entry in header.values())
