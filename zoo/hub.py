"""From a zoo name, a Hub repository or a folder to a folder that holds the files asked for.

What is in the standard cache of `huggingface_hub` is taken without touching the network; `force_download` looks for
something newer. `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` mean what they mean there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from memssl_keras.annotations import PathLike
from memssl_keras.files import sha256
from memssl_keras.zoo.registry import HUB, UnknownModel, resolve, suggestion

CONNECT_SECONDS = 5  # for the one attempt that tells whether the Hub can be reached


class HubError(OSError):
    """A model could not be fetched; the message says what to do."""


def find_folder(
    model: PathLike,
    needed: Callable[[dict], Sequence[tuple[str, ...]]],
    *,
    revision: str | None = None,
    cache_dir: PathLike | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    force_download: bool = False,
) -> Path:
    """Return a folder with `config.json` and the files that `needed` names.

    Args:
        model: A folder, a name of `list_models()`, or a Hub repository `owner/name`.
        needed: From the contents of `config.json` to the files to fetch beside it. Each is a tuple of names of which
            the first that there is will do; one that may be missing ends in an empty name.
        revision: Branch, tag or commit of the repository; for a zoo name, the one that the zoo pins.
        cache_dir: In place of the Hub's own cache.
        local_files_only: Never touch the network.
        token: Access token; True for the stored one, False for none.
        force_download: Fetch again what is cached.

    Raises:
        UnknownModel: there is no such folder, and it is no name and no repository.
        HubError: the repository, revision or a file is missing, private or gated, the Hub cannot be reached, or
            what came is damaged. The cache is left usable.
        ValueError: `revision` is given for something that has none.

    Example:
        >>> from memssl_keras.zoo.hub import find_folder
        >>> from memssl_keras.zoo.registry import list_models
        >>> all((find_folder(name, lambda config: []) / "config.json").is_file() for name in list_models())
        True
    """
    folder, name = Path(model).expanduser(), str(model)
    entry = HUB.get(name)
    if folder.is_dir() or (entry is None and name.count("/") != 1) or folder.is_absolute() or name[0] in ".~":
        folder = folder if folder.is_dir() else resolve(name)
        if revision is not None:
            raise ValueError(f"revision={revision!r}: {name!r} is not on the Hub; expected None")
        return folder
    repository = _Repository(
        entry.repo_id if entry else name,
        revision or (entry.revision if entry else "main"),
        cache_dir,
        local_files_only,
        token,
        force_download,
    )
    sums = entry.sha256 if entry and repository.revision == entry.revision else {}
    config_file = repository.get("config.json", sums)
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise HubError(f"{name}: its config.json is not valid JSON ({error})") from None
    repository.pin(config_file)
    for names in needed(config if isinstance(config, dict) else {}):
        repository.get_first(names, sums)
    return config_file.parent


class _Repository:
    """A model repository at a revision, and how to reach it."""

    def __init__(self, repo_id, revision, cache_dir, local_files_only, token, force_download):
        from huggingface_hub import constants

        self.repo_id, self.revision, self.force = repo_id, revision, force_download
        self.offline = local_files_only or constants.HF_HUB_OFFLINE
        self.why_offline = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE is set"
        self.cache_dir, self.token = cache_dir, token
        self.asked, self.reached = revision, False

    def pin(self, file: Path):
        """Take what follows from the commit that `file` is of, however its branch moves on meanwhile."""
        commit = file.parent.name
        if re.fullmatch("[0-9a-f]{40}", commit):
            self.revision = commit

    def get_first(self, names, sums):
        """The first of several files that the repository has; None where none need be there."""
        for name in names:
            if name == "":
                return None
            found = self.get(name, sums, may_miss=True)
            if found:
                return found
        if self.offline:
            raise self._not_cached(" or ".join(names))
        raise HubError(
            f"{self}: it has no {' or '.join(names)}; {self._contents()}. Expected a repository that "
            "push_to_hub wrote, or one of timm or transformers with a ViT"
        )

    def get(self, name, sums, may_miss=False):
        """A file of the repository in the cache, whole."""
        import huggingface_hub as hub
        from huggingface_hub import errors

        where = {
            "repo_id": self.repo_id,
            "filename": name,
            "revision": self.revision,
            "cache_dir": self.cache_dir,
        }
        try:
            cached = None if self.force and not self.offline else hub.try_to_load_from_cache(**where)
            if cached is not None and not isinstance(cached, str):  # known not to be there
                cached = None
                if may_miss:
                    return None
            if cached is None:
                if self.offline:
                    if may_miss:
                        return None
                    raise self._not_cached(name)
                if not self.reached:
                    self._reach(name)
                cached = hub.hf_hub_download(
                    **where, token=self.token, force_download=self.force, library_name="memssl-keras"
                )
        except errors.HFValidationError:
            raise UnknownModel(f"model: got {self.repo_id!r}; expected a repository as owner/name") from None
        except errors.GatedRepoError:
            raise HubError(
                f"{self}: access is gated; accept its terms on its page and pass token= or set HF_TOKEN"
            ) from None
        except errors.RepositoryNotFoundError:
            raise HubError(
                f"{self}: neither a folder here nor a repository on the Hub that can be seen; for a private one pass "
                f"token= or set HF_TOKEN"
                f"{suggestion(self.repo_id)}"
            ) from None
        except errors.RevisionNotFoundError:
            raise HubError(
                f"{self}: revision={self.asked!r} does not exist; expected a branch, tag or commit"
            ) from None
        except errors.EntryNotFoundError as error:
            if isinstance(error, errors.LocalEntryNotFoundError):
                raise HubError(f"{self}: {name} could not be fetched ({_reason(error)})") from None
            if may_miss:
                return None
            raise HubError(f"{self}: it has no {name}; {self._contents()}") from None
        except HubError:
            raise
        except Exception as error:  # of the client's HTTP library, whose name and classes change
            raise HubError(
                f"{self}: no folder here, and {name} could not be fetched from the Hub ({_reason(error)}); "
                "the same call tries again"
            ) from None
        return self._whole(Path(cached), sums.get(name))

    def _not_cached(self, names):
        return HubError(
            f"{self}: {names} is not in the cache and {self.why_offline}; fetch it once with a connection"
        )

    def _reach(self, name):
        """One quick attempt: the client alone would try an unreachable Hub for 23 seconds."""
        import huggingface_hub as hub

        hub.get_hf_file_metadata(
            hub.hf_hub_url(self.repo_id, name, revision=self.revision),
            token=self.token,
            timeout=CONNECT_SECONDS,
            library_name="memssl-keras",
        )
        self.reached = True

    def _contents(self):
        import huggingface_hub as hub

        try:
            held = hub.HfApi(token=self.token).list_repo_files(self.repo_id, revision=self.revision)
        except Exception:  # the message does without
            return "what it holds could not be listed"
        return f"it holds {', '.join(sorted(held)[:12]) or 'nothing'}"

    def _whole(self, path: Path, expected: str | None):
        """`path`, if its content is what the zoo or the Hub says; else it is taken out of the cache."""
        blob = path.resolve()
        known = blob.name if re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", blob.name) else None
        wrong = (expected and sha256(blob) != expected) or (
            known and _git_or_sha256(blob, len(known)) != known
        )
        if wrong:
            path.unlink(missing_ok=True)
            blob.unlink(missing_ok=True)
            raise HubError(
                f"{self}: {path.name} is damaged: its checksum is not {expected or known}; it was removed from the "
                "cache, and the same call fetches it again"
            )
        return path

    def __str__(self):
        return f"{self.repo_id}@{self.asked}" if self.asked != "main" else self.repo_id


def _reason(error):
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _git_or_sha256(path, length):
    """What the Hub names a file by: SHA-256 where it is stored apart, Git's own SHA-1 where it is not."""
    if length == 64:
        return sha256(path)
    return _digest(path, hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False))


def _digest(path, digest):
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
