"""Numbers that jump to another unit: a block of rows or a cluster of values off by a fixed factor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.checks.columns import CODE_LEVELS, Column
from explainer.checks.context import Check, Context, NotRun, count, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView

FACTORS = {10.0: "10", 100.0: "100", 1000.0: "1,000", 2.54: "2.54 (inches and centimetres)", 2.2046226: "2.2046 (kilograms and pounds)",
           1.609344: "1.609 (miles and kilometres)", 3.2808399: "3.281 (metres and feet)"}  # fmt: skip
ROWS_LEAST = 50
PART_LEAST = 5  # rows that must have jumped
ROWS_MOST = 50_000  # rows looked at; of more, so many drawn with seed 0, in order
GAP_LUCK = 1e-4  # a gap in the values that a power-law tail gives this often
GAP_SIDE = 30  # spacings beneath a gap by which it is measured, or a tenth of all where that is more
BLOCK_LUCK = 1e-4  # a block of rows that shuffled rows give this often
ALIKE = 0.005  # p-value of the Kolmogorov-Smirnov test above which the converted values are taken to be alike
MOVED = 1e-3  # and below which, divided by the number of columns, another is taken to move along


@dataclass(frozen=True)
class _Jump:
    part: np.ndarray  # (n,) bool: the rows that jumped
    unit: str
    how: str


def _conversions() -> list[tuple[str, Callable[[np.ndarray], np.ndarray]]]:
    found: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = []
    for factor, name in FACTORS.items():
        found.append((f"{name} times as large", lambda x, f=factor: x * f))  # type: ignore[misc]
        found.append((f"{name} times as small", lambda x, f=factor: x / f))  # type: ignore[misc]
    found.append(("in degrees Fahrenheit among Celsius", lambda x: x * 1.8 + 32))
    found.append(("in degrees Celsius among Fahrenheit", lambda x: (x - 32) / 1.8))
    return found


CONVERSIONS = _conversions()


def unit_jumps(context: Context) -> Finding:
    """Columns of which a part is distributed as the rest would be in another unit.

    The part is a cluster of values set apart by a gap (wider than a power-law tail gives one time in 10,000), or a block of
    successive rows (range of the cumulative sums of normal scores, Kuiper's test). It counts where the rest, converted, passes
    the Kolmogorov-Smirnov test against it, and no other column moves with it: rows that differ in more than one column, by no
    unit's factor, are another population. Single rows are seen only where the factor is larger than the column is wide (largest by
    smallest value), and two populations that by chance stand in a unit's ratio look the same.
    """
    view = context.view
    assert isinstance(view, TableView)
    context.need_rows(ROWS_LEAST)
    columns = [c for c in view.columns if _measure(c) and not view.identifier(c)]
    if not columns:
        raise NotRun(f"The table has no measured column: numbers of more than {CODE_LEVELS} different values in {ROWS_LEAST} rows.")
    rows = np.arange(view.n)
    if view.n > ROWS_MOST:
        rows = np.sort(np.random.default_rng(0).choice(view.n, ROWS_MOST, replace=False))
    values = {i: np.asarray(c.numbers, dtype=float)[rows] for i, c in enumerate(columns)}
    jumps = {i: jump for i, x in values.items() if (jump := _cluster(x) or _block(x)) is not None}
    alone = {i: jump for i, jump in jumps.items() if not _moves_along(jump.part, {k: x for k, x in values.items() if k != i}, jumps)}
    details: dict[str, Any] = {"value": len(alone), "threshold": 0}
    sampled = f" {ROWS_MOST:,} of {view.n:,} rows, drawn with seed 0, were looked at." if view.n > ROWS_MOST else ""
    if not alone:
        return passed(f"No part of {count(len(columns), 'column')} looks to be in another unit.{sampled}", **details)
    hit = np.logical_or.reduce([jump.part for jump in alone.values()])
    shown = listed(f"{columns[i].name!r}, {share(int(j.part.sum()), len(rows))} values {j.unit} ({j.how})" for i, j in alone.items())
    message = f"{count(len(alone), 'column')} whose unit jumps: {shown}.{sampled}"
    evidence = {columns[i].name: {"rows": int(j.part.sum()), "unit": j.unit, "how": j.how} for i, j in alone.items()}
    return failed(message, rows=view.at(rows[hit]), columns=[columns[i].name for i in alone], evidence=evidence, **details)


def _measure(column: Column) -> bool:
    if column.kind != "number" or column.numbers is None or column.distinct <= CODE_LEVELS:
        return False
    return int(np.isfinite(column.numbers).sum()) >= ROWS_LEAST


def _cluster(x: np.ndarray) -> _Jump | None:
    """A part of the values beyond a gap, in either direction."""
    usable = np.flatnonzero(np.isfinite(x) & (x > 0))
    if len(usable) < max(ROWS_LEAST, 0.9 * np.isfinite(x).sum()):
        return None
    for sign in (1, -1):
        logs = sign * np.log(x[usable])
        edge = _gap(np.unique(logs))
        part = np.zeros(len(x), dtype=bool)
        part[usable[logs > edge]] = True
        if PART_LEAST <= part.sum() <= len(usable) / 2 and (unit := _unit(x[part], x[usable][~part[usable]])):
            return _Jump(part, unit, "a cluster of values apart")
    return None


def _gap(values: np.ndarray) -> float:
    """The value above which a gap sets the rest apart, or infinity.

    Above the k-th largest value of a sample with an exponential tail, k times the gap is exponential with the tail's scale (Renyi, 1953);
    the scale is the mean of the next m such figures, so P(k gap / scale > t) = (1 + t / m)^-m, taken times the gaps tried.
    """
    k = np.arange(len(values) - 1, 0, -1)
    scaled = k * np.diff(values)
    side = max(GAP_SIDE, len(scaled) // 10)
    sums = np.concatenate([[0.0], np.cumsum(scaled)])
    at = np.arange(side, len(scaled))
    if not len(at):
        return np.inf
    scale = (sums[at] - sums[at - side]) / side
    luck = (1 + scaled[at] / np.maximum(scale, 1e-12) / side) ** -float(side) * len(scaled)
    luck[k[at] < PART_LEAST] = np.inf
    best = int(np.argmin(luck))
    return float(values[at[best]]) if luck[best] < GAP_LUCK else np.inf


def _block(x: np.ndarray) -> _Jump | None:
    """A block of successive rows that stands higher or lower than the rest."""
    from scipy.stats import norm, rankdata

    known = np.flatnonzero(np.isfinite(x))
    forms = [x[known]] if (x[known] > 0).mean() > 0.95 else [x[known], np.abs(x[known])]
    for form in forms:
        scores = norm.ppf((rankdata(form) - 0.5) / len(form))
        centred = (scores - scores.mean()) / max(scores.std(), 1e-12)
        walk = np.concatenate([[0.0], np.cumsum(centred)])
        if _kuiper((walk.max() - walk.min()) / np.sqrt(len(form))) > BLOCK_LUCK:
            continue
        a, b = _sharpened(centred, *sorted((int(walk.argmin()), int(walk.argmax()))))
        if not PART_LEAST <= b - a <= len(form) - PART_LEAST:
            continue
        inside = np.zeros(len(x), dtype=bool)
        inside[known[a:b]] = True
        rest = np.zeros(len(x), dtype=bool)
        rest[known] = ~inside[known]
        part, rest = (inside, rest) if inside.sum() <= rest.sum() else (rest, inside)
        unit = _unit(x[part], x[rest])
        if unit:
            return _Jump(part, unit, "a block of successive rows")
    return None


def _sharpened(scores: np.ndarray, a: int, b: int) -> tuple[int, int]:
    """The block [a, b) with edges where scores cross midway between inside and outside: the stretch of the largest sum above midway."""
    inside = scores[a:b].mean()
    outside = np.concatenate([scores[:a], scores[b:]]).mean() if b - a < len(scores) else 0.0
    walk = np.concatenate([[0.0], np.cumsum((scores - (inside + outside) / 2) * np.sign(inside - outside))])
    end = int((walk - np.minimum.accumulate(walk)).argmax())
    return int(walk[: end + 1].argmin()), end


def _kuiper(v: float) -> float:
    """P(range of a Brownian bridge > v) = 2 sum over j of (4 j^2 v^2 - 1) exp(-2 j^2 v^2) (Kuiper, 1960)."""
    if v < 0.5:
        return 1.0
    j = np.arange(1, 30)
    return float(min(1.0, 2 * ((4 * j**2 * v**2 - 1) * np.exp(-2 * j**2 * v**2)).sum()))


def _unit(part: np.ndarray, rest: np.ndarray) -> str:
    """The conversion that makes the rest like the part, or "": of those that pass, the likeliest."""
    from scipy.stats import ks_2samp

    spread = np.subtract(*np.quantile(rest, [0.75, 0.25]))
    best, likeliest = "", ALIKE
    for name, convert in CONVERSIONS:
        other = convert(rest)
        near = abs(np.median(part) - np.median(other)) <= max(np.subtract(*np.quantile(other, [0.75, 0.25])), 1e-12)
        if not near or (np.ptp(rest) > 0 and spread == 0):
            continue
        p = float(ks_2samp(part, other, method="asymp").pvalue)
        if p > likeliest:
            best, likeliest = name, p
    return best


def _moves_along(part: np.ndarray, others: dict[int, np.ndarray], jumps: dict[int, _Jump]) -> bool:
    """Whether other columns differ between part and rest too, by no unit's factor."""
    from scipy.stats import ks_2samp

    for k, x in others.items():
        a, b = x[part & np.isfinite(x)], x[~part & np.isfinite(x)]
        if k in jumps or min(len(a), len(b)) < PART_LEAST:
            continue
        if ks_2samp(a, b, method="asymp").pvalue < MOVED / len(others):
            return True
    return False


CHECKS: tuple[Check, ...] = (
    Check(
        "unit jumps",
        ("tabular",),
        unit_jumps,
        "A model takes 180 (centimetres) and 71 (inches) for two kinds of people.",
        "Find where the unit changed (a source, a date, a form); convert these rows, and write the unit into the column's name.",
    ),
)
