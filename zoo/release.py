"""Publish everything of the zoo in one go: every bundled model, the benchmark of icons and the demo.

What is there already is left as it is, so that an interrupted release resumes: `models.json` is
written after each model.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memssl_keras.files import read_json, sha256, write_json
from memssl_keras.zoo.benchmark_card import write_benchmark_card
from memssl_keras.zoo.publish import published, stage, told_in_words, upload, zoo_entry
from memssl_keras.zoo.registry import bundled_models, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REGISTRY = Path(__file__).parent / "models.json"
BENCHMARK, SPACE = "icons-benchmark", "memssl-icons"


@dataclasses.dataclass(frozen=True)
class Published:
    """One repository of a release: its name, its commit, and whether this release made the commit."""

    repo_id: str
    revision: str
    new: bool


def release(
    owner: str,
    *,
    benchmark: str | Path | None = None,
    space: Callable[[Path], object] | None = None,
    registry: str | Path = REGISTRY,
    private: bool | None = None,
    token: str | bool | None = None,
) -> Iterator[Published]:
    """Publish every bundled model as `owner/name`, then the benchmark and the demo, one after the other.

    Args:
        owner: User or organisation on the Hub.
        benchmark: Folder that `zoo/experiments/icons_benchmark.py` wrote, to be a data set; None leaves it out.
        space: Writes the demo into the folder that it is called with, to be a Space; None leaves it out.
        registry: The `models.json` that gets each model's commit and the SHA-256 of its files.
        private: Of new repositories; the Hub's own default otherwise.
        token: Access token that may write; the stored one by default.

    Yields:
        Each repository as soon as it is there.

    Raises:
        HubError: the Hub refuses or cannot be reached; models that were published before are not sent again.
        ValueError: `owner` is not one, or the benchmark's folder holds no Parquet.
    """
    if not owner or "/" in owner:
        raise ValueError(f"owner={owner!r}: expected the name of a user or an organisation on the Hub")
    if benchmark is not None and not sorted(Path(benchmark).rglob("*.parquet")):
        raise ValueError(f"benchmark={str(benchmark)!r}: expected a folder of Parquet files")
    access: dict[str, Any] = {"private": private, "token": token}
    for name in bundled_models():
        yield _model(name, f"{owner}/{name}", Path(registry), access)
    with tempfile.TemporaryDirectory() as part:
        if benchmark is not None:
            folder = shutil.copytree(benchmark, Path(part) / "benchmark")
            write_benchmark_card(folder)
            commit = upload(folder, f"{owner}/{BENCHMARK}", kind="dataset", **access)
            yield Published(f"{owner}/{BENCHMARK}", commit, True)
        if space is not None:
            space(Path(part) / "space")
            commit = upload(Path(part) / "space", f"{owner}/{SPACE}", kind="space", **access)
            yield Published(f"{owner}/{SPACE}", commit, True)


def _model(name, repo_id, registry, access):
    entries = read_json(registry) or {}
    before = entries.get(name, {})
    if before.get("repo_id") == repo_id and _is_there(resolve(name), before, access["token"]):
        return Published(repo_id, before["revision"], False)
    with tempfile.TemporaryDirectory() as part:
        stage(name, part, repo_id)
        commit = upload(part, repo_id, message=f"Publish {name}", **access)
        entries[name] = zoo_entry(part, repo_id, commit)
    write_json(registry, dict(sorted(entries.items())))
    return Published(repo_id, commit, True)


def _is_there(folder, entry, token):
    """Whether the commit of an entry of `models.json` is on the Hub and of the model as it is bundled now."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    sums = entry["sha256"]
    if any(sums.get(path.relative_to(folder).as_posix()) != sha256(path) for path in published(folder)):
        return False
    with told_in_words(entry["repo_id"]):
        try:
            hub.HfApi(token=token).model_info(entry["repo_id"], revision=entry["revision"])
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            return False
    return True
