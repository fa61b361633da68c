"""One table of all that was evaluated: a row per data set, task and score, a column per model."""

from __future__ import annotations

from typing import Any

from memssl_keras.annotations import PathLike
from memssl_keras.files import write_bytes


def summary_rows(results: dict[str, Any]) -> tuple[list[str], list]:
    """Rows of the table.

    Args:
        results: What `run.results` returned.

    Returns:
        Names of the models, and a list of data set, task, score, and figures by model (0 … 1; changes −1 … 1).
    """
    entries = results["results"]
    models = list(dict.fromkeys(name for entry in entries for name in entry["scores"]))
    rows = [
        (
            entry["data"],
            entry["task"],
            score,
            {name: scores[score] for name, scores in entry["scores"].items()},
        )
        for entry in entries
        for score in entry["summary"]
    ]
    return models, rows


def write_markdown(path: PathLike, results: dict[str, Any]) -> None:
    """Write the table as Markdown, in per cent, the best of each row in bold."""
    models, rows = summary_rows(results)
    lines = [["data", "task", "score", *models], ["---"] * 3 + ["---:"] * len(models)]
    for data, task, score, figures in rows:
        best = max(figures.values())
        cells = [
            f"**{figures[name]:.1%}**" if figures[name] == best else f"{figures[name]:.1%}" for name in models
        ]
        lines.append([data, task, score, *cells])
    text = "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)
    write_bytes(path, text.encode())
