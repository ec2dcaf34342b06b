"""All benchmarks, one after the other, into ``docs/benchmarks.md``: one table of ratios, one of errors, each with its bar.

Run ``python benchmarks/all.py`` on a quiet machine (about ten minutes on one thread), or ``--quick`` to see that it works. The
page is written anew after each part, so that what an interrupted run has found is kept.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Annotated

import typer
from results import Results, circumstances
from rich.console import Console
from timing import one_thread

PARTS = ("speed", "trees", "surrogates", "deeplift", "gradients", "memory", "shapley", "intervals", "data")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Written by `python benchmarks/all.py`, which runs this toolkit and captum, shap, lime and shapiq in turn in one process and writes
every figure here. A time ratio is the median of the ratios of single rounds; the lowest and the highest round stand beside it, and
ratios below 1.15 count as equal. A figure that does not meet its bar says so.
"""


def page(results: Results, waiting: list[str]) -> str:
    """The page with what was found so far."""
    lines = [HEAD, circumstances(), "", results.markdown()]
    if waiting:
        lines += [f"Not run yet: {', '.join(waiting)}.", ""]
    noisy = sum(figure.value.noisy for figure in results.figures)
    if noisy:
        lines += [f"{noisy} of {len(results.figures)} figures moved by more than 15 % from round to round: the machine was not quiet.", ""]
    return "\n".join(lines)


def main(
    quick: Annotated[
        bool, typer.Option(help="Small sizes: to see that it works, not to quote. Prints only, unless --out is given.")
    ] = False,
    part: Annotated[list[str] | None, typer.Option(help=f"Only these parts, of {', '.join(PARTS)}.")] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write; docs/benchmarks.md unless --quick or --part is given.")] = None,
) -> None:
    """Run the parts in turn, print what they find, and write the page."""
    unknown = set(part or ()) - set(PARTS)
    if unknown:
        raise typer.BadParameter(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}.")
    one_thread()
    if out is None and not quick and not part:
        out = PAGE
    results, console = Results(), Console()
    chosen = [name for name in PARTS if not part or name in part]
    started = time.perf_counter()
    for number, name in enumerate(chosen, 1):
        begun = time.perf_counter()
        console.print(f"[bold]{name}[/bold] ({number} of {len(chosen)})")
        found = importlib.import_module(name).measure(quick)
        found.show()
        results.add(found)
        if out is not None:
            out.write_text(page(results, [name for name in PARTS if name not in chosen[:number]]), encoding="utf-8")
        console.print(f"{name}: {time.perf_counter() - begun:.0f} s, {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    typer.run(main)
