"""Dates that cannot be: no such day, long before or after anything a column speaks of, defaults, ends before starts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from explainer.checks.columns import Column
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.privacy import spelled
from explainer.checks.tabular import PLACEHOLDERS

FORM_SHARE = 0.8  # of a column's values must be written as dates
FIRST_YEAR = 1900  # before it, in a column of later dates
ODD_SHARE = 0.1  # where more are so early, or so late, the column is one of such dates
DEFAULT_TIMES = 5  # a default piled up is so many times as frequent as the most frequent other day
DEFAULT_LEAST = 3
DAYS_LEAST = 10  # other days that tell how far such a column reaches
DEFAULTS = ("0001-01-01", "1753-01-01", "1899-12-30", "1899-12-31", "1900-01-01", "1901-01-01", "1904-01-01", "1970-01-01", "1980-01-01",
            "2000-01-01", "2038-01-19", "9999-12-31")  # fmt: skip
LATER = re.compile(
    r"\b(due|expir\w*|until|to|ends?|maturity|matures|planned|next|scheduled|deadline|target|valid|forecast\w*|renewal|follow ?up)\b"
)
DATED = re.compile(r"\b(date|day|dob|born|birth|datum|time|timestamp|on|at)\b")

_TIME = r"(?:[T ,]\s*\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?\s*(?:Z|[+-]\d{2}:?\d{2})?)?"
_YEAR_FIRST = re.compile(rf"\s*(\d{{4}})[-/.](\d{{1,2}})[-/.](\d{{1,2}}){_TIME}\s*")
_YEAR_LAST = re.compile(rf"\s*(\d{{1,2}})[-/.](\d{{1,2}})[-/.](\d{{4}}){_TIME}\s*")
_WORD = r"([A-Za-z]{3,9})"
_WORDED = re.compile(rf"\s*(?:(\d{{1,2}})\.?[ -]{_WORD}\.?,?[ -](\d{{4}})|{_WORD}\.? (\d{{1,2}}),? (\d{{4}})){_TIME}\s*")
_COMPACT = re.compile(r"\s*((?:18|19|20|99)\d\d)(\d\d)(\d\d)\s*")
_MONTHS = {m: i + 1 for i, m in enumerate(("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"))}

# Pairs of names of which the first cannot come after the second.
ORDERS = (
    ("start", "end"), ("begin", "end"), ("from", "to"), ("from", "until"), ("start", "finish"), ("start", "stop"), ("first", "last"),
    ("admission", "discharge"), ("admitted", "discharged"), ("opened", "closed"), ("open", "close"), ("created", "updated"),
    ("created", "modified"), ("order", "delivery"), ("ordered", "delivered"), ("order", "ship"), ("ordered", "shipped"),
    ("hire", "termination"), ("hired", "left"), ("issue", "expiry"), ("issued", "expires"), ("birth", "death"), ("born", "died"),
    ("check in", "check out"), ("checkin", "checkout"), ("departure", "arrival"), ("invoice", "payment"),
)  # fmt: skip


@dataclass(frozen=True)
class _Dates:
    """One column read as days: NaT where a value is missing or no date; ``wrong`` says what is wrong with those."""

    name: str
    days: np.ndarray  # (n,) datetime64[D]
    wrong: dict[str, np.ndarray]  # reason -> (n,) bool

    @cached_property
    def known(self) -> np.ndarray:
        return ~np.isnat(self.days)


def impossible_dates(context: Context) -> Finding:
    """Days that do not exist, texts among dates, days before 1900 or after today in a column of others, defaults, ends before starts."""
    view = context.view
    assert isinstance(view, TableView)
    columns = [d for i, c in enumerate(view.columns) if (d := _dates(view, i, c)) is not None]
    if not columns:
        raise NotRun("The table has no column of dates.")
    found: dict[str, dict[str, int]] = {}
    rows = np.zeros(view.n, dtype=bool)
    for column in columns:
        for reason, where in {**column.wrong, **_out_of_time(column), **_defaults(column)}.items():
            if where.any():
                found.setdefault(column.name, {})[reason] = int(where.sum())
                rows |= where
    for first, second in _ordered(columns):
        after = np.zeros(view.n, dtype=bool)
        both = first.known & second.known
        after[both] = second.days[both] < first.days[both]
        if after.any():
            found.setdefault(second.name, {})[f"before {first.name!r}"] = int(after.sum())
            rows |= after
    if found:
        shown = listed(f"{name!r} ({listed(f'{n:,} {reason}' for reason, n in one.items())})" for name, one in found.items())
        message = f"{count(len(found), 'column')} with impossible dates: {shown}."
        evidence = dict(list(found.items())[:EVIDENCE_SHOWN])
        return failed(message, value=int(rows.sum()), threshold=0, rows=view.at(rows), columns=found, evidence=evidence)
    return passed(f"The dates of {count(len(columns), 'column')} are possible.", value=0, threshold=0)


def _dates(view: TableView, place: int, column: Column) -> _Dates | None:
    if column.kind == "date":
        values = view.frame.iloc[:, place]
        if not pd.api.types.is_datetime64_any_dtype(values.dtype):
            return None
        values = values.dt.tz_localize(None) if getattr(values.dt, "tz", None) is not None else values
        return _Dates(column.name, values.to_numpy().astype("datetime64[D]"), {})
    named = bool(DATED.search(spelled(column.name)))
    if column.kind == "number" and named and column.numbers is not None:
        numbers = np.unique(column.numbers[np.isfinite(column.numbers)])
        if not len(numbers) or numbers[0] < 18000000 or numbers[-1] > 99991231 or (numbers != np.round(numbers)).any():
            return None
        levels: Sequence[str] = [str(int(v)) for v in numbers]
        codes = np.where(column.missing, -1, np.searchsorted(numbers, column.numbers))
    elif column.numbers is None and column.kind in ("category", "text"):
        levels, codes = column.levels, column.codes
    else:
        return None
    sample = levels[:: max(1, len(levels) // 200)]
    if len(levels) < 3 or sum(_parts(level, named) is not None for level in sample) < FORM_SHARE * len(sample):
        return None
    days, state = _read(levels, named)
    if (state == 2).mean() > 1 - FORM_SHARE:
        return None
    index = np.where(codes < 0, len(levels), codes)
    state = np.append(state, 0)[index]
    wrong = {"of a day that does not exist": state == 1, "not written as dates": state == 2}
    return _Dates(column.name, np.append(days, np.datetime64("NaT"))[index], wrong)


def _read(levels: Sequence[str], named: bool) -> tuple[np.ndarray, np.ndarray]:
    """``datetime64[D]`` of each level, and its state: 0 a date (or a word for none), 1 no such day, 2 no date."""
    parts = [_parts(level, named) for level in levels]
    # 03/04/2020: the day first, unless only the month first makes dates of them
    loose = [p for p in parts if p is not None and p[3]]
    month_first = sum(p[2] > 12 for p in loose) > sum(p[1] > 12 for p in loose)
    days = np.full(len(levels), np.datetime64("NaT"), dtype="datetime64[D]")
    state = np.array([0 if p is not None or level.strip().lower() in PLACEHOLDERS else 2 for p, level in zip(parts, levels, strict=True)])
    held = np.array([p is not None for p in parts], dtype=bool)
    year, day, month, loose_ = np.array([p for p in parts if p is not None], dtype=int).reshape(-1, 4).T
    if month_first:
        day, month = np.where(loose_, month, day), np.where(loose_, day, month)
    months = ((year - 1970) * 12 + np.clip(month, 1, 12) - 1).astype("datetime64[M]")
    found = months.astype("datetime64[D]") + (day - 1)
    there = (month >= 1) & (month <= 12) & (day >= 1) & (found.astype("datetime64[M]") == months) & (year >= 1)
    state[held] = np.where(there, 0, 1)
    days[held] = np.where(there, found, np.datetime64("NaT"))
    return days, state


def _parts(text: str, named: bool) -> tuple[int, int, int, bool] | None:
    """(year, day, month, whether day and month may be the other way round), or None."""
    if match := _YEAR_FIRST.fullmatch(text):
        return int(match[1]), int(match[3]), int(match[2]), False
    if match := _YEAR_LAST.fullmatch(text):
        return int(match[3]), int(match[1]), int(match[2]), True
    if (match := _WORDED.fullmatch(text)) and (month := _MONTHS.get((match[2] or match[4])[:3].lower())):
        return int(match[3] or match[6]), int(match[1] or match[5]), month, False
    if named and (match := _COMPACT.fullmatch(text)):
        return int(match[1]), int(match[3]), int(match[2]), False
    return None


def _out_of_time(column: _Dates) -> dict[str, np.ndarray]:
    early = np.zeros(len(column.days), dtype=bool)
    late = early.copy()
    known = column.known & ~np.isin(column.days, np.array(DEFAULTS, dtype="datetime64[D]"))
    early[known] = column.days[known] < np.datetime64(f"{FIRST_YEAR}-01-01")
    late[known] = column.days[known] > np.datetime64("today", "D") + 1
    most = ODD_SHARE * max(1, column.known.sum())
    if LATER.search(spelled(column.name)):
        late[:] = False
    return {
        f"before {FIRST_YEAR}": early if early.sum() <= most else early & False,
        "in the future": late if late.sum() <= most else late & False,
    }


def _defaults(column: _Dates) -> dict[str, np.ndarray]:
    """A program's default day where it is piled up, or stands apart from all other days: once, by more than they span."""
    days, place, sizes = np.unique(column.days[column.known], return_inverse=True, return_counts=True)
    default = np.isin(days, np.array(DEFAULTS, dtype="datetime64[D]"))
    if not default.any() or default.all():
        return {}
    usual = sizes[~default].max()
    low, high = days[~default].min(), days[~default].max()
    year = np.timedelta64(365, "D")
    piled = default & (sizes >= DEFAULT_LEAST) & (sizes > DEFAULT_TIMES * usual)
    gap = np.maximum(low - days, days - high)
    alone = gap > max(high - low, year) if (~default).sum() >= DAYS_LEAST else np.zeros(len(days), dtype=bool)
    apart = default & (((sizes >= 2) & (gap > year)) | alone)
    found = {}
    for k in np.flatnonzero(piled | apart):
        where = np.zeros(len(column.days), dtype=bool)
        where[np.flatnonzero(column.known)[place == k]] = True
        found[f"on {days[k]}, a default"] = where
    return found


def _ordered(columns: list[_Dates]) -> list[tuple[_Dates, _Dates]]:
    """Pairs of columns whose names say that the first comes first; a birth comes before everything."""
    pairs = []
    for a in columns:
        for b in columns:
            if a is b:
                continue
            mine, theirs = spelled(a.name), spelled(b.name)
            born = bool(re.search(r"\b(dob|birth|born)\b", mine)) and not re.search(r"\b(dob|birth|born)\b", theirs)
            if born or any(_without(mine, x) == _without(theirs, y) is not None for x, y in ORDERS):
                pairs.append((a, b))
    return pairs


def _without(name: str, word: str) -> str | None:
    """``name`` less ``word``, less words that say only that it is a date; None where ``word`` is not in it."""
    if not re.search(rf"\b{word}\b", name):
        return None
    return " ".join(re.sub(rf"\b({word}|date|time|day|datetime|timestamp|at|on)\b", " ", name).split())


CHECKS: tuple[Check, ...] = (
    Check(
        "impossible dates",
        ("tabular",),
        impossible_dates,
        "An age or a duration worked out from such a date is nonsense, and looks like any other number.",
        "Correct them from the source; read defaults as missing.",
        'for name in {columns}:\n    data[name] = pd.to_datetime(data[name], errors="coerce")  # what is no day becomes missing',
    ),
)
