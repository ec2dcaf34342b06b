"""What a part of the benchmarks finds: figures held against a bar, and errors of many methods on one game."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version

import numpy as np
from rich.console import Console
from rich.table import Table
from timing import Spread

PACKAGES = (
    "explainer-toolkit",
    "torch",
    "captum",
    "shap",
    "lime",
    "shapiq",
    "scikit-learn",
    "lightgbm",
    "xgboost-cpu",
    "scipy",
    "cleanlab",
    "numpy",
    "pandas",
)


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``bar`` is the least it must be, or the most where ``at_most``; ``unit`` is "x", "s", "GB" or "rows/s".

    Whoever sets a bar says what it would be missed by: ``why``, printed only where it is. Raises ValueError without.
    """

    case: str
    against: str
    value: Spread
    bar: float | None = None
    at_most: bool = False
    unit: str = "x"
    detail: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        if self.bar is not None and not self.why:
            raise ValueError(f"{self.case}: a figure with a bar says why it may miss it (why=).")

    @property
    def met(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value.median <= self.bar if self.at_most else self.value.median >= self.bar

    def cells(self) -> tuple[str, ...]:
        spread = "" if self.value.low == self.value.high else f"{number(self.value.low)} to {number(self.value.high)}"
        bar = "" if self.bar is None else f"{'at most' if self.at_most else 'at least'} {self.bar:g}"
        detail = f"{self.detail}. Why: {self.why}" if self.met is False else self.detail
        return self.case, self.against, f"{number(self.value.median)} {self.unit}", spread, bar, _VERDICT[self.met], detail


@dataclass(frozen=True)
class Errors:
    """Median relative errors on one game at one count of evaluations. ``bar`` is the most of ours over the best peer's."""

    game: str
    evaluations: int
    ours: dict[str, float]
    peers: dict[str, float]
    bar: float | None = None
    coverage: float | None = None
    why: str = ""  # as of a figure

    def __post_init__(self) -> None:
        if self.bar is not None and not self.why:
            raise ValueError(f"{self.game}: errors with a bar say why they may miss it (why=).")

    @property
    def ratio(self) -> float:
        """Our default's error over that of the best peer."""
        return next(iter(self.ours.values())) / min(self.peers.values())

    @property
    def met(self) -> bool | None:
        return None if self.bar is None else self.ratio <= self.bar

    def cells(self, methods: Sequence[str]) -> tuple[str, ...]:
        every = {**self.ours, **self.peers}
        errors = [f"{every[m]:.3g}" if m in every else "" for m in methods]
        bar = "" if self.bar is None else f"at most {self.bar:g}"
        covered = "" if self.coverage is None else f"{self.coverage:.2f}"
        verdict = f"not met: {self.why}" if self.met is False else _VERDICT[self.met]
        return f"{self.game} @ {self.evaluations}", *errors, f"{self.ratio:.2f}", bar, verdict, covered


_VERDICT = {True: "met", False: "not met", None: ""}
_FIGURES = ("case", "against", "figure", "over the rounds", "bar", "", "detail")


@dataclass
class Results:
    """All that was found so far."""

    figures: list[Figure] = field(default_factory=list)
    errors: list[Errors] = field(default_factory=list)
    others: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = field(default_factory=list)  # title, heads and rows
    notes: list[str] = field(default_factory=list)

    def add(self, other: Results) -> None:
        self.figures += other.figures
        self.errors += other.errors
        self.others += other.others
        self.notes += other.notes

    def tables(self) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
        """Title, heads and cells of each table."""
        found = []
        for title, units in (("Ratios", ("x",)), ("Seconds", ("s",)), ("Memory", ("GB",)), ("Throughput", ("rows/s",))):
            rows = [figure.cells() for figure in self.figures if figure.unit in units]
            if rows:
                found.append((title, _FIGURES, rows))
        if self.errors:
            methods = list(dict.fromkeys(m for e in self.errors for m in (*e.ours, *e.peers)))
            heads = ("game @ evaluations", *methods, "ours / best peer", "bar", "", "coverage")
            found.append(("Errors", heads, [e.cells(methods) for e in self.errors]))
        return found + self.others

    def show(self) -> None:
        """Print the tables."""
        for title, heads, rows in self.tables():
            table = Table(*heads, title=title)
            for row in rows:
                table.add_row(*row)
            Console().print(table)
        for note in self.notes:
            Console().print(note)

    def markdown(self) -> str:
        lines = []
        for title, heads, rows in self.tables():
            lines += [f"## {title}", "", *_ABOUT.get(title, []), _line(heads), _line(["---"] * len(heads)), *map(_line, rows), ""]
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"


_ABOUT = {
    "Ratios": ["Against a peer: its time over ours. Against bare passes of the model: our time over theirs.", ""],
    "Coverage of 95 % intervals, by kind of game": [
        "Share of Shapley values that lie within 1.96 of our standard errors of the exact ones, and the median relative error beside it, "
        "over games of 8 to 200 players (`python benchmarks/intervals.py` says which).",
        "",
    ],
    "Errors": [
        "Median over instances and seeds of the distance to the exact Shapley values, over their length. The first column is our "
        "default; coverage is the share of its 95 % intervals that hold the exact value.",
        "",
    ],
}


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """A figure with about three digits that mean something."""
    if not np.isfinite(value):
        return "none"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def circumstances() -> str:
    """Date, machine and versions in one paragraph; no name of the machine."""
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except ImportError:  # the extra is not installed
            continue
    return (
        f"Measured on {date.today().isoformat()}: {platform.machine()}, {os.cpu_count()} cores of which one thread was used, "
        f"{platform.system()}, Python {platform.python_version()}; {', '.join(versions)}."
    )
