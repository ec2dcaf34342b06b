"""Whether values are missing at random: Little's test, and each column's missingness held against the other columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, chance, count, failed, listed, passed
from explainer.checks.drift import compare_counts, significant
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView

EFFECT = 0.2  # Cliff's delta (small from 0.147, medium from 0.33: Romano et al., 2006) or total variation distance
LEAST = 10  # values missing, and values there, below which a column's missingness shows no pattern
ROWS_MOST = 10_000  # rows tested; of more, so many drawn with seed 0: an effect of 0.2 is far beyond chance on these
LITTLE_ROWS, LITTLE_COLUMNS, LITTLE_PATTERNS = 5_000, 30, 100  # Little's test fits a normal distribution to so much by EM
PATTERN_LEAST = 5  # rows of a pattern, whose mean is taken to be nearly normal


@dataclass(frozen=True)
class _Other:
    """Something that missingness may depend on: numbers with NaN, or codes with -1."""

    name: str
    numbers: np.ndarray | None
    codes: np.ndarray | None


def missingness_pattern(context: Context) -> Finding:
    """Columns whose values are missing where another column (or the label, or the row number) is high, low or of some kind.

    Each pair is tested by the rank-sum test or chi-square, adjusted by Benjamini and Hochberg; reported where p < ``FALSE_SHARE``
    and the effect is at least ``EFFECT``. Beside it stands Little's test (1988) on the normal scores of the number columns.
    """
    view = context.view
    assert isinstance(view, TableView)
    if not any(c.missing.any() for c in view.columns):
        return passed("No value is missing.", value=0, threshold=EFFECT)
    rows = np.arange(view.n)
    if view.n > ROWS_MOST:
        rows = np.sort(np.random.default_rng(0).choice(view.n, ROWS_MOST, replace=False))
    holed = [c for c in view.columns if c.missing[rows].sum() >= LEAST and (~c.missing[rows]).sum() >= LEAST]
    if not holed:
        raise NotRun(f"No column has at least {LEAST} values missing and {LEAST} there; on fewer, a pattern cannot be told from chance.")
    missing = np.column_stack([c.missing[rows] for c in holed])
    tests = _tests([c.name for c in holed], missing, _others(context, view, rows))
    if not tests:
        raise NotRun("There is no other column that missingness could be held against.")
    sure, found = significant(tests, EFFECT)
    evidence: dict[str, Any] = {"pairs": (found or tests)[:EVIDENCE_SHOWN], "missing together": _together([c.name for c in holed], missing)}
    little = _little(view, rows)
    evidence |= {"Little's test": little} if little else {}
    note = f" Little's test of missing completely at random: {chance(little['p'])}." if little else ""
    note += f" {ROWS_MOST:,} of {view.n:,} rows, drawn with seed 0, were tested." if view.n > ROWS_MOST else ""
    details: dict[str, Any] = {"value": sure[0]["effect"] if sure else 0.0, "threshold": EFFECT, "evidence": evidence}
    if not found:
        p = little["p"] if little else tests[0]["adjusted p"]
        return passed(f"No column's missing values go with another column's values.{note}", p=p, **details)
    strongest: dict[str, dict[str, Any]] = {}
    for test in found:
        strongest.setdefault(test["column"], test)
    shown = listed(f"{n!r} {t['where']} (effect {t['effect']:.2f})" for n, t in strongest.items())
    message = f"Values are not missing at random in {count(len(strongest), 'column')}: {shown}.{note}"
    lost = np.logical_or.reduce([c.missing for c in holed if c.name in strongest])
    return failed(message, p=found[0]["adjusted p"], rows=view.at(lost), columns=strongest, **details)


def _others(context: Context, view: TableView, rows: np.ndarray) -> list[_Other]:
    others = [_Other("the row number", rows.astype(float), None)]
    for c in view.columns:
        if c.kind in ("empty", "text") or c.distinct < 2 or view.identifier(c):
            continue
        others.append(_Other(c.name, None, c.codes[rows]) if c.numbers is None else _Other(c.name, c.numbers[rows], None))
    labels = context.labels
    if labels is not None:
        number = labels.kind == "number" and labels.numbers is not None
        numbers = labels.numbers[rows] if number and labels.numbers is not None else None
        others.append(_Other("the label", numbers, None if number else labels.codes[rows]))
    return others


def _tests(names: list[str], missing: np.ndarray, others: list[_Other]) -> list[dict[str, Any]]:
    numbers = [o for o in others if o.numbers is not None]
    tests = _rank_tests(names, missing, [o.name for o in numbers], np.column_stack([o.numbers for o in numbers]))  # type: ignore[misc]
    for other in others:
        if other.codes is None:
            continue
        known = other.codes >= 0
        levels = int(other.codes.max(initial=-1)) + 1
        for j, name in enumerate(names):
            sides = [np.bincount(other.codes[known & side], minlength=levels) for side in (missing[:, j], ~missing[:, j])]
            if name == other.name or min(side.sum() for side in sides) < LEAST:
                continue
            distance, p = compare_counts(*sides)
            where = f"with the kind of {other.name!r}" if other.name != "the label" else "with the label"
            tests.append({"column": name, "other": other.name, "test": "chi-square", "effect": distance, "p": p, "where": where})
    return tests


def _rank_tests(names: list[str], missing: np.ndarray, others: list[str], values: np.ndarray) -> list[dict[str, Any]]:
    """Rank-sum tests of all pairs at once, tied ranks averaged; Cliff's delta = 2 S / (n1 n0), S the centred sum of ranks."""
    from scipy.stats import norm, rankdata

    known = ~np.isnan(values)
    ranks = np.zeros_like(values)
    for i in range(values.shape[1]):
        there = known[:, i]
        if there.any():
            ranks[there, i] = rankdata(values[there, i]) - (there.sum() + 1) / 2
    lost = missing.astype(float)
    ones = lost.T @ known
    all_ = known.sum(axis=0)
    zeros = all_ - ones
    total = lost.T @ ranks
    spread = np.sqrt(ones * zeros / np.maximum(all_ * (all_ - 1.0), 1) * (ranks**2).sum(axis=0))
    tests = []
    for j, i in np.argwhere((ones >= LEAST) & (zeros >= LEAST) & (spread > 0)):
        if names[j] == others[i]:
            continue
        delta = 2 * total[j, i] / (ones[j, i] * zeros[j, i])
        other = others[i] if others[i].startswith("the ") else repr(others[i])
        where = f"where {other} is {'high' if delta > 0 else 'low'}"
        p = 2 * norm.sf(abs(total[j, i]) / spread[j, i])
        tests.append(
            {"column": names[j], "other": others[i], "test": "rank sum", "effect": abs(float(delta)), "p": float(p), "where": where}
        )
    return tests


def _together(names: list[str], missing: np.ndarray) -> list[list[str]]:
    """Columns missing in the very same rows."""
    groups: dict[bytes, list[str]] = {}
    for j, name in enumerate(names):
        groups.setdefault(np.packbits(missing[:, j]).tobytes(), []).append(name)
    return [g for g in groups.values() if len(g) > 1][:EVIDENCE_SHOWN]


def _little(view: TableView, rows: np.ndarray) -> dict[str, float]:
    """Little's test on normal scores of the number columns, those with most values missing first; {} where it cannot be done."""
    from scipy.stats import norm, rankdata

    numeric = [c for c in view.columns if c.numbers is not None and c.kind == "number" and c.distinct > 2 and not view.identifier(c)]
    numeric.sort(key=lambda c: -int(c.missing.sum()))
    if len(numeric) < 2:
        return {}
    rows = rows if len(rows) <= LITTLE_ROWS else np.random.default_rng(0).choice(rows, LITTLE_ROWS, replace=False)
    values = np.column_stack([c.numbers[rows] for c in numeric[:LITTLE_COLUMNS]])  # type: ignore[index]
    for column in values.T:
        known = ~np.isnan(column)
        column[known] = norm.ppf((rankdata(column[known]) - 0.375) / (known.sum() + 0.25))  # Blom's scores
    result = little_mcar(values)
    return {} if result is None else dict(zip(("statistic", "degrees of freedom", "p"), result, strict=True))


def little_mcar(values: np.ndarray) -> tuple[float, int, float] | None:
    """Little's test that values are missing completely at random: (d2, degrees of freedom, p), or None where it cannot be done.

    d2 = sum over patterns j of n_j (ybar_j - mu_j)' S_j^-1 (ybar_j - mu_j), chi-square with sum p_j - p degrees of freedom, where mu and
    S are the maximum-likelihood mean and covariance (by EM) and _j those of the p_j columns that pattern j has (Little, A test of
    missing completely at random for multivariate data with missing values, JASA 1988). ``values``: ``(n, columns)`` with NaN. Patterns
    of fewer than ``PATTERN_LEAST`` rows and those beyond the ``LITTLE_PATTERNS`` most frequent are left out, and so are empty rows.
    """
    from scipy.stats import chi2

    there = ~np.isnan(values)
    values, there = values[there.any(axis=1)], there[there.any(axis=1)]
    patterns, place, sizes = np.unique(there, axis=0, return_inverse=True, return_counts=True)
    chosen = [k for k in np.argsort(-sizes, kind="stable")[:LITTLE_PATTERNS] if sizes[k] >= PATTERN_LEAST]
    groups = [(np.flatnonzero(patterns[k]), values[place.ravel() == k][:, patterns[k]]) for k in chosen]
    seen = np.zeros(values.shape[1], dtype=bool)
    for held, _ in groups:
        seen[held] = True
    if len(groups) < 2 or not seen.all() or sum(len(g) for _, g in groups) <= 2 * values.shape[1]:
        return None
    try:
        mean, cov = _normal_by_em(groups, values.shape[1])
        total, parts = 0.0, 0
        for held, rows in groups:
            off = rows.mean(axis=0) - mean[held]
            total += len(rows) * float(off @ np.linalg.solve(cov[np.ix_(held, held)], off))
            parts += len(held)
    except np.linalg.LinAlgError:  # columns that are combinations of others
        return None
    freedom = parts - values.shape[1]
    return (total, freedom, float(chi2.sf(total, freedom))) if freedom > 0 and np.isfinite(total) else None


def _normal_by_em(groups: list[tuple[np.ndarray, np.ndarray]], d: int, most: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Maximum-likelihood mean and covariance of a normal distribution from rows of several patterns."""
    n = sum(len(rows) for _, rows in groups)
    mean = np.zeros(d)
    cov = np.eye(d)
    sums = [(held, len(rows), rows.sum(axis=0), rows.T @ rows) for held, rows in groups]
    for _ in range(most):
        first, second = np.zeros(d), np.zeros((d, d))
        for held, size, total, squares in sums:
            lost = np.setdiff1d(np.arange(d), held)
            # x_lost = shift + slope x_held: all rows of one pattern at once, by their sums
            slope = np.linalg.solve(cov[np.ix_(held, held)], cov[np.ix_(held, lost)]).T if len(lost) else np.zeros((0, len(held)))
            shift = mean[lost] - slope @ mean[held]
            map_ = np.zeros((d, len(held)))
            map_[held, np.arange(len(held))] = 1
            map_[lost] = slope
            move = np.zeros(d)
            move[lost] = shift
            first += map_ @ total + size * move
            cross = np.outer(map_ @ total, move)
            second += map_ @ squares @ map_.T + cross + cross.T + size * np.outer(move, move)
            second[np.ix_(lost, lost)] += size * (cov[np.ix_(lost, lost)] - slope @ cov[np.ix_(held, lost)])
        new = first / n
        new_cov = second / n - np.outer(new, new)
        step = max(np.abs(new - mean).max(), np.abs(new_cov - cov).max())
        mean, cov = new, new_cov
        if step < 1e-6:
            break
    return mean, cov * n / (n - 1)


CHECKS: tuple[Check, ...] = (
    Check(
        "missingness pattern",
        ("tabular",),
        missingness_pattern,
        "Where values are missing for a reason, leaving rows out or filling them in biases what is learnt, and absence itself may tell.",
        "Find out why they are missing there; keep an indicator column, and fill in from the columns named.",
        'for name in {columns}:\n    data[name + " missing"] = data[name].isna()',
    ),
)
