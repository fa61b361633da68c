"""A model's card at a terminal: tables that are wider than it are continued below, so that no head is lost."""

from __future__ import annotations

import itertools
import re

_LINE = re.compile(r"^\s*\|.*\|\s*$")
_MARKS = re.compile(r"[*`]|\[([^\]]*)\]\([^)]*\)")


def narrow_tables(markdown: str, width: int) -> str:
    """Markdown whose tables fit into a width, each cut into several with the first column at the left of all.

    Args:
        markdown: Text with tables of lines that begin and end with `|`.
        width: Characters of a line.

    Example:
        >>> from memssl_keras.cli.card_text import narrow_tables
        >>> print(narrow_tables("| model | accuracy | recall |\\n|---|---|---|\\n| glyphs | 12 % | 15 % |", 26))
        | model | accuracy |
        |---|---|
        | glyphs | 12 % |
        <BLANKLINE>
        | model | recall |
        |---|---|
        | glyphs | 15 % |
    """
    parts: list[str] = []
    for is_table, group in itertools.groupby(markdown.splitlines(), key=lambda line: bool(_LINE.match(line))):
        lines = list(group)
        parts += _narrowed(lines, width) if is_table else lines
    return "\n".join(parts)


def _narrowed(lines, width):
    rows = [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines]
    count = len(rows[0])
    if len(rows) < 3 or any(len(row) != count for row in rows):
        return lines
    shown = [row for number, row in enumerate(rows) if number != 1]  # the second line is a rule
    sizes = [max(len(_MARKS.sub(r"\1", row[column])) for row in shown) + 3 for column in range(count)]
    if sum(sizes) + 2 <= width:
        return lines
    groups, room = [[]], width - sizes[0] - 2
    for column in range(1, count):
        if groups[-1] and sum(sizes[c] for c in (*groups[-1], column)) > room:
            groups.append([])
        groups[-1].append(column)
    found = []
    for group in groups:
        found += [f"| {' | '.join(row[c] for c in (0, *group))} |" for row in rows] + [""]
        head = len(found) - len(rows)
        found[head] = "|" + "---|" * (1 + len(group))
    return found[:-1]
