"""How commands say things: with tables and bars at a terminal, as plain whole lines in a pipe or a log file."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from memssl_keras.files import printable

console = Console()
errors = Console(stderr=True)
FIRST_LINE, EVERY = 10.0, 30.0  # seconds after which a plain line of progress comes, and then between two


def say(*words, to: Console | None = None, style: str = "") -> None:
    """Print one line as it is: nothing in it is markup, and nothing breaks it."""
    text = Text(printable(" ".join(map(str, words))), style=style)
    (to or console).print(text, soft_wrap=True, highlight=False)


def say_error(*words, style: str = "") -> None:
    """`say` on the error output."""
    say(*words, to=errors, style=style)


def say_json(content: Any) -> None:
    """Print JSON on one line, for `--json`."""
    text = json.dumps(content, ensure_ascii=False)
    # Bytes of names that are not UTF-8, as `printable` has them, with JSON's own backslash.
    text = re.sub("[\udc80-\udcff]", lambda byte: rf"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    console.file.write(text + "\n")


def table(columns: Iterable[str], rows: Iterable[Iterable], title: str = "") -> None:
    """Print a table: at a terminal with lines that fold, in a pipe with tabs between the cells."""
    columns, rows = list(columns), [[printable(str(cell)) for cell in row] for row in rows]
    if title:
        say(title, style="bold")
    if not console.is_terminal:
        for row in (columns, *rows):
            say("\t".join(cell.replace("\n", " ") for cell in row))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in columns:
        drawn.add_column(Text(name), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)


def duration(seconds: float) -> str:
    """Seconds in words: `45 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.

    Example:
        >>> from memssl_keras.cli.output import duration
        >>> duration(7500)
        '2 h 5 min'
    """
    seconds = round(seconds)
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds} s"


class PlainProgress:
    """Lines of progress for what is no terminal: the first after ten seconds, then two a minute."""

    def __init__(self, what: str, total: int, unit: str, clock: Callable[[], float] = time.monotonic):
        self.what, self.total, self.unit, self.clock = what, total, unit, clock
        self.done, self.found, self.begun = 0, 0, clock()
        self.next = self.begun + FIRST_LINE

    def advance(self, count: int = 1) -> None:
        """Note that `count` more are done. What was done before the first second counts as found, not as speed."""
        self.done += count
        now = self.clock()
        if now - self.begun < 1:
            self.found = self.done
        if now < self.next or self.done >= self.total:
            return
        self.next = now + EVERY
        rate = (self.done - self.found) / max(now - self.begun, 1e-9)
        left = duration((self.total - self.done) / max(rate, 1e-9))
        say_error(f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.1f}/s, {left} left")


class Steps:
    """What `progress` gives: `advance(count)` for one task, or `track(values, words)` for several."""

    def __init__(self, unit: str, bars: Any = None):
        self.unit, self.bars = unit, bars
        self.task: Any = None

    def start(self, what: str, total: int) -> Steps:
        """Begin a task."""
        self.task = (
            self.bars.add_task(what, total=total) if self.bars else PlainProgress(what, total, self.unit)
        )
        return self

    def advance(self, count: int = 1) -> None:
        """Note that `count` more are done."""
        if self.bars:
            self.bars.advance(self.task, count)
        else:
            self.task.advance(count)

    def track(self, values: Any, words: str) -> Iterator:
        """Iterate over values as a task of their own."""
        self.start(words, len(values))
        for value in values:
            yield value
            self.advance()


@contextlib.contextmanager
def progress(unit: str) -> Iterator[Steps]:
    """Progress on the error output, with count, rate and time left."""
    if not errors.is_terminal:
        yield Steps(unit)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn()]
    columns += [TextColumn(unit, markup=False), TimeRemainingColumn(elapsed_when_finished=True)]
    with Progress(*columns, console=errors) as bars:
        yield Steps(unit, bars)
