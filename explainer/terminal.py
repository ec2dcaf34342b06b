"""What the command line prints: tables, verdicts, progress on stderr, and JSON for machines on stdout."""

from __future__ import annotations

import json
import math
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from explainer.errors import Cancelled
from explainer.progress import Report

COLOURS = {
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "error": "red",
    "not run": "dim",
    "exact": "green",
    "approximate": "yellow",
    "unsupported": "dim",
}
SYMBOLS = {"pass": "✓", "warn": "!", "fail": "✗", "error": "✗", "not run": "○", "exact": "✓", "approximate": "~", "unsupported": "○"}


def out() -> Any:
    """The console for what was asked for."""
    from rich.console import Console

    return Console(highlight=False)


def err() -> Any:
    """The console for everything else, so that stdout can be piped."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def state(word: str) -> str:
    """A coloured word with its symbol: never colour alone."""
    return f"[{COLOURS.get(word, 'default')}]{SYMBOLS.get(word, '·')} {word}[/]"


def escape(text: object) -> str:
    """Text that rich shall not read as markup."""
    from rich.markup import escape as rich_escape

    return rich_escape(str(text))


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right: Sequence[str] = (), widths: Sequence[int] = ()
) -> None:
    """Print rows of markup under ``columns``; those named in ``right`` are set flush right, the first ones ``widths`` wide."""
    from rich import box
    from rich.table import Table

    if title:
        say(f"[bold]{title}[/]")  # a table's own title would be broken at the table's width
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, column in enumerate(columns):
        width = widths[k] if k < len(widths) else None
        made.add_column(column, justify="right" if column in right else "left", overflow="fold", width=width)
    for row in rows:
        made.add_row(*row)
    out().print(made)


def say(text: str) -> None:
    """Print one line of markup."""
    out().print(text)


def emit(value: Any) -> None:
    """Print ``value`` as JSON, NaN as null."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # half a surrogate pair, from data, or a terminal of few letters
        text = json.dumps(plain(value), indent=1, allow_nan=False)
    sys.stdout.write(f"{text}\n")


def plain(value: Any) -> Any:
    """The JSON form of numpy arrays and numbers, tuples and mappings; what is not finite becomes None."""
    if hasattr(value, "tolist"):  # numpy, without importing it
        value = value.tolist()
    if hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)


@contextmanager
def progress(description: str) -> Iterator[Report]:
    """Yield a callable ``(done, total)`` behind a bar with the time left; nothing is drawn where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    console = err()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stoppable(report: Report) -> Iterator[Report]:
    """``report``, raising Cancelled after a first Ctrl-C, so that what is known by then is kept; a second one ends the program."""
    pressed: list[int] = []

    def press(number: int, frame: Any) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    def told(done: int, total: int) -> None:
        report(done, total)
        if pressed:
            raise Cancelled("Ctrl-C")

    if threading.current_thread() is not threading.main_thread():  # only there can a signal be handled
        yield report
        return
    before = signal.signal(signal.SIGINT, press)
    try:
        yield told
    finally:
        signal.signal(signal.SIGINT, before)
