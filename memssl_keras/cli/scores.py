"""Scores of several models at a terminal and in a pipe."""

from __future__ import annotations

from typing import Any

from memssl_keras.cli.output import console, say, table


def show_scores(results: dict[str, Any]) -> None:
    """Print what `evaluate.run.results` returned."""
    for entry in results["results"]:
        _show(entry)
    if len(results["results"]) > 1:
        _show_summary(results)


def _show(entry):
    names = list(entry["scores"])
    say(f"\n{entry['data']}: {entry['protocol']}", style="bold")
    scores = list(entry["scores"][names[0]])
    rows = [[name, *(f"{entry['scores'][name][score]:.2%}" for score in scores)] for name in names]
    if not console.is_terminal or _width(["", *scores], rows) <= console.width:
        table(["", *scores], rows)
    else:
        turned = zip(["", *scores], *rows, strict=True)
        _by_number(["score"], names, [list(row) for row in turned][1:])
    for row in entry["differences"]:
        if row["score"] == entry["headline"]:
            say(
                f"{row['ours']} less {row['theirs']}, {row['score']}: {row['difference']:+.2%} "
                f"(95 % interval {row['low']:+.2%} … {row['high']:+.2%})"
            )
    for note in entry["notes"]:
        say(f"note: {note}")


def _show_summary(results):
    from memssl_keras.evaluate.report.summary import summary_rows

    models, rows = summary_rows(results)
    say("\nAll together", style="bold")
    cells = [
        [*where, *(f"{figures[name]:.2%}" if name in figures else "" for name in models)]
        for *where, figures in rows
    ]
    _by_number(["data", "task", "score"], models, cells)


def _width(columns, rows):
    """Columns of the terminal that a table takes."""
    return sum(max(map(len, column)) + 1 for column in zip(columns, *rows, strict=True))


def _by_number(first, names, rows):
    """A table with a column for each model, by its name; by number, with a list before it, where names do not fit."""
    if console.is_terminal and _width([*first, *names], rows) > console.width:
        for number, name in enumerate(names, 1):
            say(f"({number}) {name}")
        names = [f"({number})" for number in range(1, len(names) + 1)]
    table([*first, *names], rows)
