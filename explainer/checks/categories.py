"""Categories too rare to learn from, and categories that the reference set does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.checks.columns import CODE_LEVELS, Column
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.order import runs

RARE = 5  # rows: with fewer, one of five folds has none
RARE_SHARE = 0.02  # of the rows: where more are of rare kinds, the column is one of many kinds by its nature
RARE_LEVELS = 100  # and so is one of more kinds than this
ROWS_LEAST = 100
STRETCH_LEAST, STRETCH_SHARE = 3, 0.05  # rows of a value whose place may say something
CODE_LEAST, CODE_SHARE = 10, 0.05  # rows of each value of a code, and share of all rows: where some are rarer, rarer ones are to come
LUCK = 1e-3  # unseen values that chance would give this often are no finding


def rare_categories(context: Context) -> Finding:
    """Categories of fewer than ``RARE`` rows in a column whose rows are nearly all of frequent ones; and values of one stretch only.

    Of codes of a few whole numbers too, a value is named whose rows all stand closer together than chance puts them: m of n rows have a
    span of w or less with P = m (w / n)^(m - 1) - (m - 1) (w / n)^m, taken times the values tried.
    """
    view = context.view
    assert isinstance(view, TableView)
    context.need_rows(ROWS_LEAST)
    columns = [c for c in view.columns if c.kind == "category" and 1 < c.distinct <= RARE_LEVELS and not view.identifier(c)]
    codes = [c for c in view.columns if c.kind == "number" and 2 < c.distinct <= CODE_LEVELS]
    if not columns and not codes:
        raise NotRun(f"The table has no columns of 2 to {RARE_LEVELS} categories.")
    found: dict[str, dict[str, int]] = {}
    rows = np.zeros(view.n, dtype=bool)
    for column in columns:
        sizes = np.bincount(column.codes[column.codes >= 0], minlength=column.distinct)
        rare = np.flatnonzero((sizes > 0) & (sizes < RARE))
        if len(rare) and sizes[rare].sum() <= RARE_SHARE * sizes.sum():
            found[column.name] = {column.levels[i][:80]: int(sizes[i]) for i in rare}
            rows |= np.isin(column.codes, rare)
    stretches = _stretches([*columns, *codes])
    for name, (level, where) in stretches.items():
        found.setdefault(name, {})[level] = len(where)
        rows[where] = True
    if found:
        shown = listed(f"{name!r} ({listed(f'{level!r} in {n}' for level, n in levels.items())})" for name, levels in found.items())
        message = f"{count(len(found), 'column')} with rare categories: {shown}."
        close = listed(
            f"{level!r} of {name!r} only in {view.noun}s {view.at(w)[0]:,} to {view.at(w)[-1]:,}" for name, (level, w) in stretches.items()
        )
        message += f" One stretch only: {close}." if close else ""
        evidence = dict(list(found.items())[:EVIDENCE_SHOWN])
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=found, evidence=evidence)
    return passed(f"No category in {count(len(columns) + len(codes), 'column')} is rare among frequent ones.", value=0, threshold=0)


def _stretches(columns: list[Column]) -> dict[str, tuple[str, np.ndarray]]:
    """For each column the rare value, if there is one, whose rows stand closest together, in a column otherwise in no order."""
    tried: list[tuple[float, Column, int, np.ndarray]] = []
    for column in columns:
        n = len(column.codes)
        sizes = np.bincount(column.codes[column.codes >= 0], minlength=column.distinct)
        for value in np.flatnonzero((sizes >= STRETCH_LEAST) & (sizes <= STRETCH_SHARE * n)):
            where = np.flatnonzero(column.codes == value)
            m, w = len(where), min(1.0, (where[-1] - where[0] + 1) / n)
            tried.append((m * w ** (m - 1) - (m - 1) * w**m, column, int(value), where))
    found: dict[str, tuple[str, np.ndarray]] = {}
    for luck, column, value, where in sorted(tried, key=lambda t: t[0]):
        if luck * len(tried) >= LUCK or column.name in found:
            continue
        rest = runs(column.codes[(column.codes >= 0) & (column.codes != value)])
        if not rest or rest[0]["p"] < LUCK:  # a column sorted, or in blocks, throughout: the order of rows says so
            continue
        level = column.levels[value][:80] if column.numbers is None else f"{column.numbers[where[0]]:g}"
        found[column.name] = (level, where)
    return found


def unseen_categories(context: Context) -> Finding:
    """Categories (and codes of few whole numbers) that the reference set lacks, beyond what chance gives.

    A reference set of N values of which f are the only one of their kind leaves about f / N of new values unseen (Good, The
    population frequencies of species and the estimation of population parameters, Biometrika 1953).
    """
    from scipy.stats import binom

    view, reference = context.view, context.need_reference()
    assert isinstance(view, TableView) and isinstance(reference, TableView)
    context.need_rows(1)
    theirs = {c.name: c for c in reference.columns}
    pairs = [(c, theirs[c.name]) for c in view.columns if c.name in theirs]
    pairs = [(a, b) for a, b in pairs if _categorical(a, b) and not view.identifier(a) and not reference.identifier(b)]
    if not pairs:
        raise NotRun("The two tables have no column of categories in common.")
    found: dict[str, dict[str, Any]] = {}
    rows = np.zeros(view.n, dtype=bool)
    for mine, other in pairs:
        here, there = _levels(mine), _levels(other)
        seen = set(there)
        new = [i for i, level in enumerate(here) if level not in seen]
        if not new:
            continue
        hit = np.isin(_codes(mine), new)
        sizes = np.bincount(_codes(other)[_codes(other) >= 0], minlength=len(there))
        alone = int((sizes == 1).sum())
        unseen = min(1.0, (alone + 2 * np.sqrt(alone)) / max(1, sizes.sum()))  # two standard errors more
        if binom.sf(hit.sum() - 1, int((~mine.missing).sum()), unseen) >= LUCK:
            continue
        found[mine.name] = {
            "not in the reference": [here[i][:80] for i in new[:EVIDENCE_SHOWN]],
            "rows": int(hit.sum()),
            "expected share": unseen,
        }
        rows |= hit
    if found:
        shown = listed(f"{n!r} ({listed(map(repr, f['not in the reference']))})" for n, f in found.items())
        message = (
            f"{count(len(found), 'column')} with categories that the reference set lacks, in {count(int(rows.sum()), 'row')}: {shown}."
        )
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=found, evidence=found)
    return passed(f"The categories of {count(len(pairs), 'column')} are those of the reference set.", value=0, threshold=0)


def _categorical(mine: Column, other: Column) -> bool:
    return mine.kind == other.kind == "category" or (mine.kind == "number" and _coded(other))


def _coded(column: Column) -> bool:
    """Few whole numbers, each for many rows: a code rather than a count that may go on."""
    if column.kind != "number" or column.numbers is None or column.distinct > CODE_LEVELS:
        return False
    known = column.numbers[~column.missing]
    if not np.isfinite(known).all() or (known != np.round(known)).any():
        return False
    return bool(np.unique(known, return_counts=True)[1].min() >= max(CODE_LEAST, CODE_SHARE * len(known)))


def _levels(column: Column) -> Sequence[str]:
    return column.levels if column.numbers is None else [f"{v:g}" for v in np.unique(column.numbers[~column.missing])]


def _codes(column: Column) -> np.ndarray:
    if column.numbers is None:
        return column.codes
    return np.where(column.missing, -1, np.searchsorted(np.unique(column.numbers[~column.missing]), column.numbers))


CHECKS: tuple[Check, ...] = (
    Check(
        "rare categories",
        ("tabular",),
        rare_categories,
        "A kind seen less than five times can be neither learnt nor tested, and is often a typing error.",
        "Look at these rows; correct what is mistyped, and join the rest into one kind.",
        'for name in {columns}:\n    sizes = data[name].map(data[name].value_counts())\n    data.loc[sizes < 5, name] = "other"',
    ),
    Check(
        "unseen categories",
        ("tabular",),
        unseen_categories,
        "A model has learnt nothing of a kind it never saw: it fails, or treats it as nothing.",
        "Find out where these come from; correct what is mistyped, retrain with the new ones, or refuse to score them.",
    ),
)
