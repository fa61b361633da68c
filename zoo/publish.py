"""Publish a model on the Hub: its folder, complete and checked, with a generated card."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.files import sha256
from memssl_keras.pretrained import save_pretrained, write_exports
from memssl_keras.weights.folder import read_encoder
from memssl_keras.weights.layout import KERAS_MODEL, TRANSFORMERS_WEIGHTS, WEIGHTS
from memssl_keras.zoo.card import FACTS, write_card
from memssl_keras.zoo.hub import HubError
from memssl_keras.zoo.memory import PICTURES, VECTORS
from memssl_keras.zoo.parity import check_parity
from memssl_keras.zoo.registry import bundled_models, folder_facts, resolve

# What of a folder is the model; a run's checkpoints, metrics and reports are not.
_FILES = (
    "config.json",
    "preprocessor_config.json",
    WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    KERAS_MODEL,
    "onnx/*.onnx",
    "training/*",
    VECTORS,
    PICTURES,
    "results.json",
    "run.json",
    "card.json",
)
_ALWAYS = {"transformers": TRANSFORMERS_WEIGHTS, "keras": KERAS_MODEL, "fp32": "onnx/model.onnx"}


def push_to_hub(
    model: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload model",
    **facts: Any,
) -> str:
    """Publish a folder or an encoder as a repository that every library of `memssl_keras.weights.layout` reads.

    Exports that are missing are made, all files are compared with each other, the card is generated, and one commit
    holds them. Runs in a copy: the folder stays as it is.

    Args:
        model: An encoder, the folder of one, or the name of a bundled model.
        repo_id: Repository `owner/name`; made if it is not there.
        private: Of a new repository; the Hub's own default otherwise.
        token: Access token that may write; the stored one by default.
        revision: Branch to commit to, `main` by default.
        commit_message: Of the commit.
        **facts: What `card.json` holds, in place of the folder's: `name`, `data`, `hardware`, `license`, `limits`.

    Returns:
        The commit's id, for the `revision` of `from_pretrained`.

    Raises:
        ParityError: the files are not one model; nothing is uploaded.
        HubError: the Hub refuses or cannot be reached.
        ValueError: a fact of another name, or a folder that holds no model.
    """
    if unknown := [name for name in facts if name not in FACTS]:
        raise ValueError(f"{unknown[0]}={facts[unknown[0]]!r}: expected some of {', '.join(FACTS)}")
    with tempfile.TemporaryDirectory() as part:
        stage(model, part, repo_id, facts)
        return upload(part, repo_id, private=private, token=token, revision=revision, message=commit_message)


def upload(
    folder: PathLike,
    repo_id: str,
    *,
    kind: str = "model",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str = "Upload",
) -> str:
    """Commit a whole folder to a repository, which is made if it is not there; returns the commit's id.

    Args:
        folder: What is uploaded.
        repo_id: Repository `owner/name`.
        kind: "model", "dataset", or "space", which runs Gradio.
        private: Of a new repository; the Hub's own default otherwise.
        token: Access token that may write; the stored one by default.
        revision: Branch to commit to, `main` by default.
        message: Of the commit.

    Raises:
        HubError: the Hub refuses or cannot be reached.
        ValueError: `repo_id` is not one.
    """
    import huggingface_hub as hub

    api = hub.HfApi(token=token, library_name="memssl-keras")
    place: dict[str, Any] = {"repo_id": repo_id, "repo_type": kind}
    sdk = "gradio" if kind == "space" else None
    with told_in_words(repo_id):
        api.create_repo(**place, space_sdk=sdk, private=private, exist_ok=True)
        if revision:
            api.create_branch(**place, branch=revision, exist_ok=True)
        with warnings.catch_warnings():  # it takes the pictures of a memory for a data set
            warnings.filterwarnings("ignore", message="It seems that you are about to commit a data file")
            commit = api.upload_folder(
                **place, folder_path=Path(folder), revision=revision, commit_message=message
            )
    return commit.oid


@contextlib.contextmanager
def told_in_words(repo_id: str) -> Iterator[None]:
    """Errors of the Hub's client as a `HubError` that says what to do, or a `ValueError` for what is no `repo_id`."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"repo_id={repo_id!r}: expected owner/name ({error})") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        hint = (
            "pass token= of one that may write, or set HF_TOKEN"
            if status in (401, 403)
            else "nothing is lost"
        )
        raise HubError(f"{repo_id}: the Hub refused with {status}; {hint} ({_line(error)})") from None
    except (ValueError, HubError):
        raise
    except Exception as error:  # of the client's HTTP library
        raise HubError(
            f"{repo_id}: the Hub cannot be reached ({type(error).__name__}: {_line(error)})"
        ) from None


def published(folder: Path) -> list[Path]:
    """The files of a folder that are the model, without its card."""
    return [path for pattern in _FILES for path in folder.glob(pattern)]


def stage(
    model: Any, folder: PathLike, repo_id: str, facts: dict[str, str] | None = None
) -> dict[str, float]:
    """Put everything that is published into `folder`; returns what `check_parity` does.

    Raises:
        ParityError, ValueError: as `push_to_hub` does.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, str | Path):
        source = (
            Path(model) if Path(model).is_dir() or str(model) not in bundled_models() else resolve(str(model))
        )
        if not (source / WEIGHTS).is_file():
            raise ValueError(f"model: got {str(model)!r}; expected a folder with config.json and {WEIGHTS}")
        for path in published(source):
            (folder / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / path.relative_to(source))
    else:
        save_pretrained(model, folder)
    encoder = read_encoder(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    missing = [name for name, file in _ALWAYS.items() if not (folder / file).is_file()]
    if config["model_type"] == "keras" and "transformers" in missing:
        missing.remove("transformers")
    write_exports(encoder, folder, missing, encoder.preprocess)
    differences = check_parity(folder)
    write_card(folder, repo_id, **(facts or {}))
    return differences


def zoo_entry(folder: PathLike, repo_id: str, revision: str) -> dict:
    """The entry of `models.json` that pins a published folder.

    Args:
        folder: The folder as it was uploaded, such as `stage` makes it.
        repo_id: Its repository.
        revision: The commit.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.name != "README.md")
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in files}
    return {"repo_id": repo_id, "revision": revision, "sha256": sums, "facts": folder_facts(folder)}


def _line(error):
    return str(error).strip().partition("\n")[0]
