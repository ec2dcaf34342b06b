"""Does each check find its defect, and leave clean data alone? Planted defects and clean twins, into ``docs/checks.md``.

Run ``python benchmarks/defects.py`` (about five minutes on two cores), or ``--only NAME`` for some checks. Every defect of
``commondefects.py``, ``tabledefects.py``, ``mediadefects.py`` and ``seriesdefects.py`` is planted into a clean twin (``twins.py``) of
each seed at each strength, and only the check that must find it is asked. All checks are asked about the clean twins.

Bars: at the documented strength a check fails in at least 95 % of the seeds, and on clean twins in at most 5 %. A bar that is missed
is shown as missed, and the exit code is 1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer
from commondefects import listed
from defectspage import page, recalls, relisted, wrong
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from trials import Outcome, known, work
from twins import SIZES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "checks.md"


def run(seeds: int, only: list[str], workers: int = 2, progress: bool = True) -> list[Outcome]:
    """All outcomes; a bar says how long it will still take."""
    tasks = [(m, seed, only, part) for part in ("clean", "planted") for seed in range(seeds) for m in SIZES]
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True,
        console=Console(stderr=True), disable=not progress,
    )  # fmt: skip
    found: list[Outcome] = []
    with bar:
        todo = bar.add_task("planted defects", total=len(tasks))
        for outcomes in _done(tasks, workers):
            found += outcomes
            bar.advance(todo)
    return found


def _done(tasks: list[tuple[str, int, list[str], str]], workers: int) -> Iterator[list[Outcome]]:
    if workers < 2:
        yield from (work(*task) for task in tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from (one.result() for one in [pool.submit(work, *task) for task in tasks])  # in the order of the page


def main(
    seeds: Annotated[int, typer.Option(help="How many clean twins of each kind of data.")] = 20,
    only: Annotated[list[str] | None, typer.Option(help="Only these checks.")] = None,
    workers: Annotated[int, typer.Option(help="Processes side by side.")] = 2,
    catalogue: Annotated[bool, typer.Option(help="Measure nothing: write the list of checks in the page anew.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page to write; docs/checks.md where everything is run.")] = None,
) -> None:
    """Print recall and false positives per check, and write the page where everything is run."""
    console = Console(width=160)
    if catalogue:
        (out or PAGE).write_text(relisted((out or PAGE).read_text(encoding="utf-8")), encoding="utf-8")
        return
    every = {d.check for d in listed()} | {name for m in SIZES for name in known(m)}
    unknown = set(only or ()) - every
    if unknown:
        raise typer.BadParameter(f"no check is called {', '.join(sorted(unknown))}; there are {', '.join(sorted(every))}.")
    started = time.perf_counter()
    found = run(seeds, list(only or ()), workers)
    table = Table("check", "data", "defect", "found", "other strengths", "rows right/found", "columns", "false", "bar")
    for row in recalls(found, list(only or ())):
        table.add_row(*row)
    console.print(table)
    faults = wrong(found)
    for line in faults:
        console.print(f"[red]{line}[/red]")
    console.print(f"{len(found)} checks run in {time.perf_counter() - started:.0f} s")
    if out is None and not only and seeds >= 20:
        out = PAGE
    if out is not None:
        out.write_text(page(found, seeds), encoding="utf-8")
    raise typer.Exit(int(bool(faults)))


if __name__ == "__main__":
    typer.run(main)
