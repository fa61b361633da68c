"""The model card of a folder: only what its files say.

How it was trained comes from `run.json`, which `memssl pretrain` writes, and from `card.json`; scores from
`results.json`, which `memssl evaluate` writes. What stands in none of them is left out.
"""

from __future__ import annotations

import json
from pathlib import Path

from memssl_keras.files import write_bytes, write_json
from memssl_keras.zoo import card_sections as sections
from memssl_keras.zoo.card_metadata import metadata
from memssl_keras.zoo.hub import find_folder
from memssl_keras.zoo.snippets import snippets

# Entries of card.json, each a text.
FACTS = ("name", "data", "hardware", "license", "limits", "origin", "memory", "whitening")


def read_facts(folder: str | Path) -> dict[str, str]:
    """Return `card.json` of a folder, or an empty dict where there is none.

    Raises:
        ValueError: it is not JSON, or has another entry than `FACTS`.
    """
    path = Path(folder) / "card.json"
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    unknown = [key for key in facts if key not in FACTS] if isinstance(facts, dict) else ["no object"]
    if unknown:
        raise ValueError(
            f"{path}: got {', '.join(unknown)}; expected an object with some of {', '.join(FACTS)}"
        )
    return facts


def model_card(folder: str | Path, repo_id: str) -> str:
    """Return the text of `README.md`: metadata for the Hub, and the card.

    Args:
        folder: A model's folder.
        repo_id: The repository that its snippets name, or a name or path that `from_pretrained` takes.

    Raises:
        ValueError: a file of the folder is not what it should be.

    Example:
        >>> from memssl_keras.zoo.card import model_card
        >>> from memssl_keras.zoo.registry import resolve
        >>> model_card(resolve("massl_vitn4.cifar10"), "massl_vitn4.cifar10").startswith("---")
        True
    """
    folder = Path(folder)
    facts = read_facts(folder)
    name = facts.get("name") or repo_id.rpartition("/")[2]
    parts = [
        f"# {name}",
        sections.what(folder, facts),
        sections.scores(folder),
        snippets(folder, repo_id),
        sections.training(folder, facts),
        sections.files(folder),
        sections.memory(folder, facts),
        sections.limits(facts),
        sections.licence(facts),
        sections.citation(folder, facts),
    ]
    text = "\n\n".join(part for part in parts if part)
    return f"---\n{metadata(folder, facts, name)}---\n\n{text}\n"


def write_card(folder: str | Path, repo_id: str, **facts: str | None) -> None:
    """Write `README.md`, and `card.json` with these facts in place of those that it held; an empty one goes.

    Raises:
        ValueError: as `model_card` does, or a fact that is none of `FACTS`.
    """
    if unknown := [name for name in facts if name not in FACTS]:
        raise ValueError(f"{unknown[0]}={facts[unknown[0]]!r}: expected some of {', '.join(FACTS)}")
    folder = Path(folder)
    known = read_facts(folder) | {name: text for name, text in facts.items() if text is not None}
    known = {name: text for name, text in known.items() if text}
    if known:
        write_json(folder / "card.json", known)
    write_bytes(folder / "README.md", model_card(folder, repo_id).encode())


def card(name: str) -> str:
    """Return the card of a model as Markdown, without the Hub's metadata; one on the Hub is fetched.

    Raises:
        UnknownModel, HubError: as `find_folder` does.
        FileNotFoundError: it is a folder without a card.

    Example:
        >>> from memssl_keras.zoo.card import card
        >>> card("massl_vitn4.cifar10").splitlines()[0]
        '# massl_vitn4.cifar10'
    """
    path = find_folder(name, lambda config: [("README.md",)]) / "README.md"
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent}: holds no card; push_to_hub writes one, as README.md")
    text = path.read_text(encoding="utf-8")
    return text.partition("\n---\n")[2].strip() if text.startswith("---\n") else text
