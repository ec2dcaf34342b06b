"""One progress bar for all long work: ``progress=`` may be False, True, or a callable ``(done, total)``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Report = Callable[[int, int], None]


@contextmanager
def reporter(progress: Any, description: str) -> Iterator[Report]:
    """Yield a callable ``(done, total)``; True shows a bar with the time left. A callable may raise Cancelled to stop."""
    if callable(progress):
        yield progress
    elif progress:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True) as bar:
            task = bar.add_task(description, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield lambda done, total: None
