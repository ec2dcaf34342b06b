"""The checks that only tables need."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import MIXED_LEAST, Column
from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, NotRun, count, failed, listed, passed, percent, share
from explainer.checks.finding import Finding
from explainer.checks.frame import IDENTIFIER_LEAST, TableView
from explainer.checks.view import digest

MISSING_COLUMN = 0.05  # up to 5 % of a column can be filled or its rows left out with little harm (Schafer, 1999)
MISSING_ROW = 0.5  # a row that lacks more than half of itself is mostly guesswork
REDUNDANT_RANK = 0.9999  # rank correlation of two columns that order the rows alike
REDUNDANT_LINEAR = 0.999  # with it 99.8 % of one column's variance is the other's
CORRELATION_ROWS = 20_000  # a correlation of 0.999 is known to the fourth digit on this many
PLACEHOLDERS = frozenset(
    {"?", "-", "--", "n/a", "nan", "null", "missing", "#n/a", "(null)", "<na>", "not available"}
)  # "none" may be a kind
SENTINEL = re.compile(r"^-?(9{3,}|6{3,}|8{3,}|7{3,})$|^-(9|99|1)$")
SENTINEL_LEAST = 2  # the same odd number twice is a code, once is an outlier


def _table(context: Context) -> TableView:
    assert isinstance(context.view, TableView)
    if not context.view.columns:
        raise NotRun("The table has no columns.")
    return context.view


def constant_columns(context: Context) -> Finding:
    view = _table(context)
    context.need_rows(2)
    # an empty column is reported as missing; here it would be said twice
    flat = [c for c in view.columns if c.kind != "empty" and c.distinct == 1 and not c.missing.any()]
    evidence = {c.name: _value(c, int(np.argmin(c.missing))) for c in flat[:EVIDENCE_SHOWN]}
    if flat:
        shown = listed(f"{c.name!r} (always {evidence[c.name]!r})" if c.name in evidence else c.name for c in flat)
        message = f"{share(len(flat), len(view.columns))} columns with one value only: {shown}."
        return failed(message, value=len(flat), threshold=0, count=len(flat), columns=[c.name for c in flat], evidence=evidence)
    return passed(f"All {len(view.columns):,} columns vary.", value=0, threshold=0)


def _value(column: Column, row: int) -> Any:
    if column.missing[row]:
        return None
    if column.numbers is None:
        return column.levels[column.codes[row]][:80]
    return str(pd.Timestamp(int(column.numbers[row]), unit="us")) if column.kind == "date" else float(column.numbers[row])


def mixed_types(context: Context) -> Finding:
    view = _table(context)
    mixed = [c for c in view.columns if c.mixed]
    rows = sorted({i for c in mixed for i in c.odd})
    evidence = {c.name: {"types": c.mixed, "examples": [_value(c, i) for i in c.odd[:5]]} for c in mixed[:EVIDENCE_SHOWN]}
    if mixed:
        message = f"{count(len(mixed), 'column')} of mixed types: " + listed(f"{c.name!r} ({c.mixed})" for c in mixed) + "."
        return failed(message, value=len(mixed), threshold=0, rows=view.at(rows), columns=[c.name for c in mixed], evidence=evidence)
    return passed("Every column holds one type of value.", value=0, threshold=0)


def infinite_values(context: Context) -> Finding:
    view = _table(context)
    where = {c.name: np.isinf(c.numbers) for c in view.columns if c.numbers is not None and np.isinf(c.numbers).any()}
    if where:
        rows = np.logical_or.reduce(list(where.values()))
        n = int(sum(m.sum() for m in where.values()))
        message = f"{count(n, 'value')} in {listed(map(repr, where))} {'is' if n == 1 else 'are'} infinite."
        counts = {name: int(mask.sum()) for name, mask in where.items()}
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=where, evidence=counts)
    return passed("No value is infinite.", value=0, threshold=0)


def placeholders(context: Context) -> Finding:
    """Codes for "not known" that pass for values: ``?``, ``n/a``, or 999 far from a column's other values."""
    view = _table(context)
    found: dict[str, dict[str, int]] = {}
    rows = np.zeros(view.n, dtype=bool)
    for column in view.columns:
        codes = _sentinels(column) if column.numbers is not None else _empty_words(column)
        if codes:
            found[column.name] = {code: int(mask.sum()) for code, mask in codes.items()}
            rows |= np.logical_or.reduce(list(codes.values()))
    if found:
        shown = listed(f"{name!r} ({listed(f'{code} in {n:,}' for code, n in codes.items())})" for name, codes in found.items())
        message = f"{count(len(found), 'column')} with what look like codes for a missing value: {shown}."
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=found, evidence=found)
    return passed("No value looks like a code for a missing one.", value=0, threshold=0)


def _empty_words(column: Column) -> dict[str, np.ndarray]:
    if column.kind == "text":
        return {}
    return {repr(column.levels[i]): column.codes == i for i in column.levels.among(PLACEHOLDERS)}


def _sentinels(column: Column) -> dict[str, np.ndarray]:
    """Numbers such as -1, 99... or 666 that recur and stand apart: further from the rest than the rest is wide."""
    numbers = column.numbers
    if column.kind != "number" or numbers is None:
        return {}
    values, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if len(values) < 3:
        return {}
    found = {}
    for edge, rest, mine in ((values[-1], values[:-1], counts[-1]), (values[0], values[1:], counts[0])):
        gap = abs(edge - (rest[-1] if edge > rest[-1] else rest[0]))
        written = f"{int(edge)}" if abs(edge) < 1e15 else ""
        if mine >= SENTINEL_LEAST and SENTINEL.match(written) and gap > (rest[-1] - rest[0]) and gap > 1:
            found[f"{edge:g}"] = numbers == edge
    return found


def spellings(context: Context) -> Finding:
    """Levels of one column that differ only in case, accents, space or punctuation."""
    view = _table(context)
    found: dict[str, list[list[str]]] = {}
    rows = np.zeros(view.n, dtype=bool)
    columns = [c for c in view.columns if c.kind == "category" and not view.identifier(c)]
    if not columns:
        raise NotRun("The table has no columns of categories.")
    for column in columns:
        written = column.levels.alike(punctuation=False)
        often = np.flatnonzero(np.bincount(written)[written] > 1)
        if not len(often):
            continue
        variants: dict[int, list[int]] = {}
        for i in often:
            variants.setdefault(int(written[i]), []).append(int(i))
        found[column.name] = [[column.levels[i] for i in group] for group in variants.values()]
        sizes = column.sizes
        rarer = [i for group in variants.values() for i in sorted(group, key=lambda i: -sizes[i])[1:]]
        rows |= np.isin(column.codes, rarer)
    if found:
        shown = listed(f"{name!r} ({listed(' = '.join(map(repr, g)) for g in groups)})" for name, groups in found.items())
        message = f"{count(len(found), 'column')} with one value written in several ways: {shown}."
        evidence = {name: groups[:EVIDENCE_SHOWN] for name, groups in found.items()}
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=found, evidence=evidence)
    return passed("No category is written in several ways.", value=0, threshold=0)


def column_names(context: Context) -> Finding:
    view = _table(context)
    names = [c.name.strip() for c in view.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    nameless = [name for name in names if not name]
    if twice or nameless:
        parts = [f"{listed(map(repr, twice))} named more than once"] if twice else []
        parts += [count(len(nameless), "column") + " without a name"] if nameless else []
        message = f"Columns cannot be told apart by name: {'; '.join(parts)}."
        return failed(message, value=len(twice) + len(nameless), threshold=0, count=len(twice) + len(nameless), columns=twice)
    return passed(f"All {len(names):,} column names differ.", value=0, threshold=0)


def identifiers(context: Context) -> Finding:
    view = _table(context)
    if view.n < IDENTIFIER_LEAST:
        raise NotRun(f"With {count(view.n, 'row')} all values may differ by chance; at least {IDENTIFIER_LEAST} are needed.")
    found = {c.name: reason for c in view.columns if (reason := view.identifier(c))}
    if found:
        message = (
            f"{count(len(found), 'column')} that only {'names' if len(found) == 1 else 'name'} the rows: "
            + listed(f"{n!r} ({r})" for n, r in found.items())
            + "."
        )
        return failed(message, value=len(found), threshold=0, count=len(found), columns=found, evidence=found)
    return passed("No column merely names the rows.", value=0, threshold=0)


def redundant_columns(context: Context) -> Finding:
    """Two columns that are one: equal, one-to-one, or of the same order (|rank correlation| >= 0.9999, or |r| >= 0.999)."""
    view = _table(context)
    if view.n < MIXED_LEAST:
        raise NotRun(f"{count(view.n, 'row')} cannot show that two columns always agree; at least {MIXED_LEAST} are needed.")
    usable = [c for c in view.columns if c.kind not in ("empty", "text") and c.distinct > 1 and not view.identifier(c)]
    pairs = {**_one_to_one(usable, view.n), **_correlated([c for c in usable if c.numbers is not None])}
    if pairs:
        shown = listed(f"{a!r} and {b!r} ({reason})" for (a, b), (reason, _) in pairs.items())
        message = f"{count(len(pairs), 'pair')} of columns that say the same: {shown}."
        evidence = {f"{a} ~ {b}": {"how": reason, "value": value} for (a, b), (reason, value) in list(pairs.items())[:EVIDENCE_SHOWN]}
        later = dict.fromkeys(b for _, b in pairs)
        return failed(message, value=len(later), threshold=0, count=len(later), columns=later, evidence=evidence)
    return passed(f"No two of {count(len(usable), 'column')} say the same.", value=0, threshold=0)


def _one_to_one(columns: list[Column], n: int) -> dict[tuple[str, str], tuple[str, float]]:
    """Columns whose values map one to one: numbered by first appearance, they read alike."""
    first: dict[int, Column] = {}
    found = {}
    for column in columns:
        if column.distinct > n / 2:  # nearly all different: everything maps to everything
            continue
        codes = pd.factorize(column.codes, use_na_sentinel=False)[0].astype(np.int32)
        other = first.setdefault(digest(codes.tobytes()), column)
        if other is not column:
            same = (
                other.numbers is not None and column.numbers is not None and np.array_equal(other.numbers, column.numbers, equal_nan=True)
            )
            found[other.name, column.name] = ("equal" if same else "one to one", 1.0)
    return found


def _correlated(columns: list[Column]) -> dict[tuple[str, str], tuple[str, float]]:
    columns = [c for c in columns if np.isfinite(c.numbers).sum() >= MIXED_LEAST]  # type: ignore[arg-type]
    if len(columns) < 2:
        return {}
    step = max(1, len(columns[0].missing) // CORRELATION_ROWS)
    sampled = [np.asarray(c.numbers)[::step] for c in columns]
    values = np.column_stack([np.where(np.isfinite(one), one, np.nan) for one in sampled])
    ranks = pd.DataFrame(values).rank().to_numpy()
    linear, ordered = np.abs(_correlation(values)), np.abs(_correlation(ranks))
    same = np.triu((ordered >= REDUNDANT_RANK) | ((linear >= REDUNDANT_LINEAR) & (ordered >= 0.99)), 1)
    found = {}
    for i, j in np.argwhere(same):
        if (columns[i].missing == columns[j].missing).mean() < 0.95:  # they agree only where both are known
            continue
        equal = np.array_equal(columns[i].numbers, columns[j].numbers, equal_nan=True)  # type: ignore[arg-type]
        reason = "equal" if equal else f"correlation {max(linear[i, j], ordered[i, j]):.4f}"
        found[columns[i].name, columns[j].name] = (reason, float(max(linear[i, j], ordered[i, j])))
    return found


def _correlation(values: np.ndarray) -> np.ndarray:
    """Pearson correlation of columns; candidates by means in place of NaN, which the caller confirms by equal missingness."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column empty in the sample has no mean
        centred = values - np.nanmean(values, axis=0)
        centred = np.nan_to_num(centred, posinf=0, neginf=0)
        scale = np.abs(centred).max(axis=0)
        centred = centred / np.where(scale > 0, scale, 1)
        length = np.sqrt((centred**2).sum(axis=0))
        return (centred.T @ centred) / np.maximum(np.outer(length, length), 1e-12)


def constant_rows(context: Context) -> Finding:
    """Rows whose every number is the same, more of them than chance gives."""
    view = _table(context)
    columns = [c for c in view.columns if c.kind == "number" and c.distinct > 2]
    if len(columns) < 5 or len(columns) < len(view.columns):
        raise NotRun("Only a table of five or more number columns, none of them a yes-or-no column, can have constant rows.")
    values = np.column_stack([np.asarray(c.numbers) for c in columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        flat = (np.nanmax(values, axis=1) == np.nanmin(values, axis=1)) & ((~np.isnan(values)).sum(axis=1) >= 5)
    shared, expected = np.unique(values[flat][~np.isnan(values[flat])]), 0.0
    for value in shared:  # the chance of a row all ``value``, were the columns independent
        expected += view.n * float(np.prod((values == value).mean(axis=0)))
    if flat.sum() > expected + 3 * np.sqrt(expected):
        message = f"{share(int(flat.sum()), view.n)} rows hold the same number in every column (chance would give {expected:.2g})."
        return failed(message, value=flat.mean(), threshold=0, rows=view.at(flat), evidence={"values": shared[:EVIDENCE_SHOWN]})
    return passed("No row holds the same number throughout.", value=float(flat.mean()), threshold=0)


def missing_cells(context: Context) -> Finding:
    """Columns with more than ``MISSING_COLUMN`` of their cells missing, rows with more than ``MISSING_ROW``."""
    view = _table(context)
    lost = np.array([int(c.missing.sum()) for c in view.columns])
    by_row = np.zeros(view.n)
    for column in view.columns:
        by_row += column.missing
    by_column, by_row = lost / max(1, view.n), by_row / len(view.columns)
    bad = np.flatnonzero(by_column > MISSING_COLUMN)
    sparse = by_row > MISSING_ROW
    worst = np.argsort(-by_column, kind="stable")[: max(EVIDENCE_SHOWN, 1)]
    evidence = {view.columns[i].name: {"missing": int(lost[i]), "share": by_column[i]} for i in worst if by_column[i] > 0}
    some = int((by_column > 0).sum())
    details: dict[str, Any] = {"value": by_column.max(initial=0.0), "threshold": MISSING_COLUMN, "evidence": evidence}
    if len(bad) or sparse.any():
        parts = []
        if len(bad):
            order = bad[np.argsort(-by_column[bad], kind="stable")]
            shown = listed(f"{view.columns[i].name!r} {percent(by_column[i])}" for i in order)
            parts.append(f"{count(len(bad), 'column')} with more than {percent(MISSING_COLUMN)} of values missing: {shown}")
        if sparse.any():
            parts.append(f"{count(int(sparse.sum()), 'row')} with more than {percent(MISSING_ROW)} of values missing")
        rows = view.at(sparse if not len(bad) else np.logical_or.reduce([sparse, *(view.columns[i].missing for i in bad)]))
        return failed("; ".join(parts) + ".", rows=rows, columns=[view.columns[i].name for i in bad], **details)
    if some:
        message = f"{share(int(lost.sum()), view.n * len(lost))} cells are missing, in {count(some, 'column')}, "
        message += f"none above {percent(MISSING_COLUMN)}."
        return passed(message, rows=view.at(by_row > 0), columns=[view.columns[i].name for i in worst if by_column[i] > 0], **details)
    return passed(f"None of {view.n * len(lost):,} cells is missing.", **details)


CHECKS: tuple[Check, ...] = (
    Check(
        "missing values",
        ("tabular",),
        missing_cells,
        "Many models refuse missing values; others fill them in by a guess that becomes a pattern.",
        "Find out why they are missing; fill them in inside the pipeline with an indicator column, or leave the column out.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "placeholder values",
        ("tabular",),
        placeholders,
        "A model takes 999 for a large number and '?' for a kind.",
        "Read these codes as missing (na_values=... on loading).",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "infinite values",
        ("tabular",),
        infinite_values,
        "Infinite values break scaling and gradients.",
        "Find the division by zero or overflow they come from.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "mixed types",
        ("tabular",),
        mixed_types,
        "A column of mixed types is read as text, and its numbers lose their order.",
        "Convert the column to one type and look at what does not convert.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "spelling of categories",
        ("tabular",),
        spellings,
        "Two spellings of one value split its evidence.",
        "Write each value one way (strip, lower case, a mapping).",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "column names",
        ("tabular",),
        column_names,
        "Tools pick one of two columns of one name, not always the same.",
        "Give each column its own name.",
        streams=True,
    ),
    Check(
        "constant columns",
        ("tabular",),
        constant_columns,
        "A column that never changes tells nothing and hides a lost feature.",
        "Leave it out, after finding out whether it should vary.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "constant rows",
        ("tabular",),
        constant_rows,
        "A row of one number throughout is usually a default, not a measurement.",
        "Look at these rows in the source.",
    ),
    Check(
        "redundant columns",
        ("tabular",),
        redundant_columns,
        "Two columns that say the same share the credit for it, and either explanation is half wrong.",
        "Keep the one a person understands.",
    ),
    Check(
        "identifier columns",
        ("tabular",),
        identifiers,
        "A model can memorise rows by their number, and numbers often follow time or source.",
        "Keep it as an index, not as a feature.",
        FIX_CODE,
        streams=True,
    ),
)
