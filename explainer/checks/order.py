"""Whether the order of the rows says something: rows sorted, trending, or in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, failed, listed, passed, plural
from explainer.checks.drift import significant
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.inputs import MODALITIES

EFFECT = 0.15  # of neighbours' likeness, or of rank correlation with the row number: 2 % of the variance
LEAST = 50
ROWS_MOST, STRETCH = 100_000, 2_000  # rows looked at: of more, stretches of so many, evenly spread, so that neighbours stay together


def order_of_rows(context: Context) -> Finding:
    """The label, columns or summary figures that go with the row number.

    Numbers: rank correlation with the row number (Spearman), and of each value with the next (Wald and Wolfowitz, An exact test for
    randomness in the non-parametric case based on serial correlation, 1943). Kinds: the number of runs (Mood, 1940). Reported where
    the adjusted p-value is below ``FALSE_SHARE`` and the effect at least ``EFFECT``. Running numbers and dates are left out.
    """
    view = context.view
    if context.order:
        raise NotRun(context.order)
    context.need_rows(LEAST)
    tests: list[dict[str, Any]] = []
    rows = _stretches(view.n)
    labels = context.labels
    if labels is not None:
        values = labels.numbers if labels.kind == "number" and labels.numbers is not None else None
        tests += _test("the label", None if values is None else values[rows], None if values is not None else labels.codes[rows])
    skip = {c.name for c in view.columns if c.kind == "date" or view.identifier(c)} if isinstance(view, TableView) else set()
    for name in view.summary.columns:
        if str(name) in skip:
            continue
        column = view.summary[name].iloc[rows]
        kinds = isinstance(column.dtype, pd.CategoricalDtype)
        tests += _test(str(name), None if kinds else column.to_numpy(dtype=float), column.cat.codes.to_numpy() if kinds else None)
    if not tests:
        raise NotRun("Neither a label nor a column varies enough to show an order.")
    sure, found = significant(tests, EFFECT)
    things = plural(view.noun)
    details: dict[str, Any] = {"value": sure[0]["effect"] if sure else 0.0, "threshold": EFFECT, "p": min(t["adjusted p"] for t in tests),
                               "evidence": {"tests": (found or tests)[:EVIDENCE_SHOWN]}}  # fmt: skip
    if not found:
        return passed(f"The {things} stand in no order that the label or a column shows.", **details)
    names = [t["column"] for t in found]
    shown = listed(f"{t['what']} {t['how']} ({t['effect']:.2f})" for t in found)
    note = f" {ROWS_MOST:,} of {view.n:,} were looked at, in stretches of {STRETCH:,}." if view.n > ROWS_MOST else ""
    note += " They stand in the order of time." if context.time is not None and _sorted(context.time) else ""
    message = f"The {things} are in an order: {shown}.{note}"
    return failed(message, count=len(found), columns=[n for n in names if n != "the label"], **details)


def _stretches(n: int) -> np.ndarray:
    """All rows, or so many stretches of neighbours that the first and the last row are among them."""
    if n <= ROWS_MOST:
        return np.arange(n)
    starts = np.linspace(0, n - STRETCH, ROWS_MOST // STRETCH).astype(int)
    return np.unique((starts[:, None] + np.arange(STRETCH)).ravel())


def _sorted(time: np.ndarray) -> bool:
    steps = np.diff(time[np.isfinite(time)])
    return bool(len(steps)) and bool((steps >= 0).all() or (steps <= 0).all())


def _test(name: str, numbers: np.ndarray | None, codes: np.ndarray | None) -> list[dict[str, Any]]:
    what = name if name == "the label" else repr(name)
    if codes is not None:
        codes = codes[codes >= 0]
        return [{"column": name, "what": what, **found} for found in runs(codes)]
    assert numbers is not None
    numbers = numbers[np.isfinite(numbers)]
    return [{"column": name, "what": what, **found} for found in serial(numbers)]


def serial(numbers: np.ndarray) -> list[dict[str, Any]]:
    """Both rank tests of one column, the surer of the two with its p-value doubled; nothing where it does not vary."""
    from scipy.stats import norm, rankdata

    n = len(numbers)
    if n < LEAST or numbers.min() == numbers.max():
        return []
    ranks = rankdata(numbers)
    ranks -= ranks.mean()
    total = (ranks**2).sum()
    place = np.arange(n) - (n - 1) / 2
    trend = float((ranks * place).sum() / np.sqrt(total * (place**2).sum()))
    follow = float((ranks[:-1] * ranks[1:]).sum() / total)
    p_trend = 2 * norm.sf(abs(trend) * np.sqrt(n - 1))
    p_follow = norm.sf((follow + 1 / n) * np.sqrt(n))
    if p_trend <= p_follow:
        return [{"how": "rises" if trend > 0 else "falls", "effect": abs(trend), "p": min(1.0, 2 * float(p_trend))}]
    return [{"how": "is alike in neighbours", "effect": follow, "p": min(1.0, 2 * float(p_follow))}]


def runs(codes: np.ndarray) -> list[dict[str, Any]]:
    """Fewer runs of equal codes than shuffling gives: mean (n (n + 1) - S2) / n and variance by Mood (1940); effect: share lacking."""
    from scipy.stats import norm

    sizes = np.bincount(codes).astype(float) if len(codes) else np.zeros(1)
    n = sizes.sum()
    if n < LEAST or sizes.max() == n or (sizes > 0).sum() > n / 2:
        return []
    squares, cubes = (sizes**2).sum(), (sizes**3).sum()
    mean = (n * (n + 1) - squares) / n
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    seen = 1 + int((codes[1:] != codes[:-1]).sum())
    if variance <= 0:
        return []
    return [{"how": "comes in runs", "effect": float(max(0.0, 1 - seen / mean)), "p": float(norm.cdf((seen - mean) / np.sqrt(variance)))}]


CHECKS: tuple[Check, ...] = (
    Check(
        "order of rows",
        MODALITIES,
        order_of_rows,
        "Cut into folds or batches as they stand, rows in an order give parts that are unlike each other.",
        "Shuffle before splitting; where the order is time, split by time instead.",
        "from sklearn.utils import shuffle\n\ndata, labels = shuffle(data, labels, random_state=0)",
    ),
)
