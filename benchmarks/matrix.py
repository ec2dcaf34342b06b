"""Right, flagged, refused or wrong: every method on every model of the gallery, for this toolkit, captum and shap.

Run ``python benchmarks/matrix.py`` (about five minutes on one thread; it writes ``docs/matrix.md``), or ``--quick``. Each cell is one
method of one tool on one model of ``tests/explainer/model_gallery.py``, at the model's first input, on its own output. It is

- right (+): what the judge of the method, the same for all tools, says it must be (``judges.py``, ``truths.py``);
- flagged (!): not right, and the tool itself says so: a warning that names the problem, a failed check of its own;
- refused (-): no answer, but the tool's own error with the reason;
- wrong (X): not right, and not a word;
- error (E): no answer, but an error from somewhere inside that the tool did not raise itself;
- not judged (?): what is right cannot be said without the tools.

Exit code 1 where ours has a wrong cell, or an error.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from contenders import Call
from judges import SYMBOLS, Cell, Judge, cell
from matrixpage import page
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from timing import one_thread

QUICK = ("functional relu", "layer norm and gelu", "lstm", "gradient reversal")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "matrix.md"


def tools() -> dict[str, dict[str, Call]]:
    """Tool -> method -> call."""
    from contenders import OURS, captums, shaps

    return {"ours": OURS, "captum": captums(), "shap": shaps()}


def cells(models: list[str], methods: list[str], called: dict[str, dict[str, Call]]) -> Iterator[Cell]:
    """The cells model by model; a model that cannot be made here (nothing compiles, say) has none."""
    from cases import Case

    for name in models:
        try:
            case = Case(name)
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                raise
            for tool, calls in called.items():
                yield from (Cell(tool, method, name, "", "none", f"not made: {error}") for method in methods if method in calls)
            continue
        judge = Judge(case)
        for tool, calls in called.items():
            for method in methods:
                if method in calls:
                    yield cell(tool, method, case, judge, calls[method])


def quietly() -> None:
    """What libraries say on the way is no outcome; warnings are caught cell by cell."""
    warnings.simplefilter("ignore")
    for name in ("transformers", "shap", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)


def show(found: list[Cell]) -> None:
    """One table per tool: a symbol per cell, and counts."""
    console = Console(width=120)
    methods = list(dict.fromkeys(c.method for c in found))
    for tool in dict.fromkeys(c.tool for c in found):
        own = {(c.model, c.method): c for c in found if c.tool == tool}
        table = Table("model", *(str(i) for i in range(1, len(methods) + 1)), title=tool)
        for name in dict.fromkeys(model for model, _ in own):
            table.add_row(name, *(SYMBOLS[own[name, m].outcome] if (name, m) in own else " " for m in methods))
        console.print(table)
        counts = {outcome: sum(c.outcome == outcome for c in own.values()) for outcome in SYMBOLS if outcome != "none"}
        console.print(f"{tool}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    console.print(", ".join(f"{i} {m}" for i, m in enumerate(methods, 1)))
    console.print(", ".join(f"{symbol} {outcome}" for outcome, symbol in SYMBOLS.items() if outcome != "none"))
    for c in found:
        if c.tool == "ours" and c.outcome in ("wrong", "error"):
            console.print(f"[red]ours, {c.method} on {c.model}: {c.outcome}, {c.detail}, off by {c.far}[/red]")


def run(models: list[str], methods: list[str], called: dict[str, dict[str, Call]], progress: bool = True) -> list[Cell]:
    """All cells, with a bar that says how long it will still take."""
    total = len(models) * sum(len(set(methods) & set(calls)) for calls in called.values())
    found: list[Cell] = []
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), transient=True,
        console=Console(stderr=True), disable=not progress,
    )  # fmt: skip
    with bar:
        task = bar.add_task("matrix", total=total)
        for one in cells(models, methods, called):
            found.append(one)
            bar.update(task, advance=1, description=f"{one.tool}, {one.model}"[:40])
    return found


def main(
    quick: Annotated[bool, typer.Option(help=f"Only {', '.join(QUICK)}; prints only.")] = False,
    method: Annotated[list[str] | None, typer.Option(help="Only these methods.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only these models of the gallery.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cells as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="The page to write; docs/matrix.md where everything is run.")] = None,
) -> None:
    """Print the matrix, and write its page where everything is run."""
    one_thread()
    quietly()
    from cases import GALLERY

    called = tools()
    models = list(model or (QUICK if quick else GALLERY))
    methods = list(method or called["ours"])
    for kind, asked, known in (("model", models, GALLERY), ("method", methods, called["ours"])):
        unknown = set(asked) - set(known)
        if unknown:
            raise typer.BadParameter(f"no {kind} is called {', '.join(sorted(unknown))}; there are {', '.join(known)}.")
    started = time.perf_counter()
    found = run(models, methods, called)
    if as_json:
        print(json.dumps([asdict(c) for c in found], indent=1))
    else:
        show(found)
        Console().print(f"{len(found)} cells in {time.perf_counter() - started:.0f} s")
    if out is None and not (quick or method or model):
        out = PAGE
    if out is not None:
        out.write_text(page(found), encoding="utf-8")
    raise typer.Exit(int(any(c.tool == "ours" and c.outcome in ("wrong", "error") for c in found)))


if __name__ == "__main__":
    typer.run(main)
