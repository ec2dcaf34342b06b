"""One column of a table, whatever is in it, brought to numbers or to codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.levels import Levels
from explainer.checks.levels import normalised as normalised
from explainer.checks.levels import parses as parses

TEXT_WORDS = 5  # a column of strings of this many words on average is prose, not categories
MIXED_SHARE = 0.9  # a column this full of numbers is a column of numbers with something else in it
MIXED_LEAST = 10  # values needed before a column's type is a claim
CODE_LEVELS = 20  # a column with no more distinct values than this is a code, not a measure


@dataclass(frozen=True, eq=False)
class Column:
    """One column of any type: numbers as float64 with NaN, or codes (-1 missing) into levels."""

    name: str
    kind: str  # "number", "date", "category", "text" or "empty"
    missing: np.ndarray
    numbers: np.ndarray | None
    coded: np.ndarray | None = None
    levels: Levels = field(default_factory=Levels)
    mixed: str = ""  # what is mixed in it, in words
    odd: tuple[int, ...] = ()  # the rows that are of the rarer type
    types: tuple[np.ndarray, list[str]] | None = None  # of a column of objects: codes (-1 missing) and names of each row's type

    @cached_property
    def codes(self) -> np.ndarray:
        """``(n,)`` int32: which value each row has, numbered from 0, -1 where it is missing."""
        return np.asarray(pd.factorize(np.asarray(self.numbers))[0] if self.coded is None else self.coded, dtype=np.int32)

    @cached_property
    def distinct(self) -> int:
        """How many values it has."""
        return len(self.levels) if self.numbers is None else len(self.sizes)

    @property
    def sizes(self) -> np.ndarray:
        """How often each value stands, in no special order."""
        if self.numbers is None:
            return np.bincount(self.codes[self.codes >= 0], minlength=len(self.levels))
        return run_lengths(np.sort(self.numbers[~self.missing]))

    @property
    def hashes(self) -> np.ndarray:
        """``(n,)`` uint64 of the values; equal values give equal hashes in any table."""
        if self.numbers is not None:
            return pd.util.hash_array(np.where(self.missing, np.nan, self.numbers) + 0.0)
        return np.append(self.levels.hashes, np.uint64(0))[self.codes]


def run_lengths(ordered: np.ndarray) -> np.ndarray:
    """How often each value stands in a sorted array."""
    if not len(ordered):
        return np.zeros(0, dtype=np.int64)
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(ordered))
    return np.diff(ends, prepend=0)


def column_of(name: str, values: pd.Series) -> Column:
    """Read one column, whatever is in it."""
    kind = values.dtype
    if isinstance(kind, pd.CategoricalDtype):
        values = values.astype(object)
    elif isinstance(kind, pd.SparseDtype):
        values = pd.Series(np.asarray(values))
    if pd.api.types.is_datetime64_any_dtype(values.dtype) or pd.api.types.is_timedelta64_dtype(values.dtype):
        missing = values.isna().to_numpy(dtype=bool)
        unit = values.dt.tz_localize(None) if getattr(values.dt, "tz", None) is not None else values
        numbers = np.where(missing, np.nan, unit.to_numpy().astype("int64", copy=False).astype(float))
        return _numeric(name, "date", numbers, missing)
    if pd.api.types.is_complex_dtype(values.dtype):
        values = values.astype(str)
    elif pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        missing = values.isna().to_numpy(dtype=bool)
        return _numeric(name, "number", values.to_numpy(dtype=np.float64, na_value=np.nan), missing)
    return _objects(name, values)


def _numeric(name: str, kind: str, numbers: np.ndarray, missing: np.ndarray) -> Column:
    missing = missing | np.isnan(numbers)
    return Column(name, "empty" if missing.all() else kind, missing, numbers)


def _objects(name: str, values: pd.Series) -> Column:
    if pd.api.types.infer_dtype(values, skipna=True) == "string":
        return _strings(name, values)
    listed_values = values.tolist()
    texts: list[str | None] = []
    types: list[str] = []
    for value in listed_values:
        if isinstance(value, str):
            stripped = value.strip()
            texts.append(value if stripped else None)
            types.append("text" if stripped else "")
        elif _is_missing(value):
            texts.append(None)
            types.append("")
        else:
            texts.append(_written(value))
            types.append(_type_of(value))
    missing = np.array([t is None for t in texts], dtype=bool)
    present = {t for t in types if t}
    if not present:
        return Column(name, "empty", missing, None, np.full(len(texts), -1))
    if present <= {"number", "true or false"} and len(present) == 1:
        numbers = np.array([np.nan if t is None else _float(v) for v, t in zip(listed_values, texts, strict=True)])
        return _numeric(name, "number", numbers, missing)
    typed, names = pd.factorize(np.array([t or None for t in types], dtype=object))
    mixed, odd = mixture(typed, list(names))
    codes, levels = pd.factorize(np.array(texts, dtype=object))
    return Column(name, "category", missing, None, codes.astype(np.int32), Levels(levels), mixed, odd, (typed, list(names)))


def _is_missing(value: Any) -> bool:
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    try:
        return bool(value != value)
    except ArithmeticError:  # a signalling NaN
        return True
    except Exception:
        return False


def _written(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object that cannot even be printed still counts as a value
        return f"<{type(value).__name__}>"


def _type_of(value: Any) -> str:
    import numbers

    if isinstance(value, (bool, np.bool_)):
        return "true or false"
    if isinstance(value, numbers.Real):
        return "number"
    return {"bytes": "bytes", "list": "list", "dict": "dict", "tuple": "tuple"}.get(type(value).__name__, type(value).__name__.lower())


def _float(value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError, TypeError):
        return np.inf


def mixture(codes: np.ndarray, names: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """What types are mixed in one column of objects, and where the rarer are; codes of types, -1 where nothing is."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    present = sorted(np.flatnonzero(sizes), key=lambda k: (-sizes[k], names[k]))
    if len(present) < 2:
        return "", ()
    odd = np.flatnonzero((codes >= 0) & (codes != present[0]))
    return ", ".join(f"{sizes[k]:,} {names[k]}" for k in present), tuple(odd.tolist())


def _nearly_numbers(codes: np.ndarray, levels: Levels) -> tuple[str, tuple[int, ...]]:
    """A column of numbers written as text with a few other texts among them."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(levels))
    known = int(sizes.sum())
    other = ~levels.numeric
    odd = int(sizes[other].sum())
    if known < MIXED_LEAST or not 0 < odd <= (1 - MIXED_SHARE) * known:
        return "", ()
    rows = np.flatnonzero((codes >= 0) & other[codes])
    return f"{known - odd:,} numbers written as text, {odd:,} other texts", tuple(rows.tolist())


def _nearly_words(codes: np.ndarray, levels: Sequence[str]) -> tuple[str, tuple[int, ...]]:
    """A column of a few words, without a digit in them, with a few numbers among them: two ways of coding one thing."""
    if not 2 < len(levels) <= CODE_LEVELS:
        return "", ()
    sizes = np.bincount(codes[codes >= 0], minlength=len(levels))
    number = np.array([parses(level) for level in levels], dtype=bool)
    wordy = np.array([not any(c.isdigit() for c in level) for level in levels], dtype=bool)
    known, odd = int(sizes.sum()), int(sizes[number].sum())
    if known < MIXED_LEAST or not 0 < odd <= (1 - MIXED_SHARE) * known or (number | wordy).sum() < len(levels):
        return "", ()
    rows = np.flatnonzero((codes >= 0) & number[codes])
    return f"{known - odd:,} words, {odd:,} numbers", tuple(rows.tolist())


def _strings(name: str, values: pd.Series) -> Column:
    """A column of nothing but strings and missing values; those of white space alone count as missing."""
    codes, found = pd.factorize(values)
    codes, levels = codes.astype(np.int32), Levels(found)
    filled = levels.filled
    if not filled.all():
        codes = np.append(np.where(filled, np.cumsum(filled) - 1, -1), -1)[codes].astype(np.int32)
        levels = levels.take(np.flatnonzero(filled))
    if not len(levels):
        return Column(name, "empty", codes < 0, None, codes)
    return coded_column(name, codes, levels)


def coded_column(name: str, codes: np.ndarray, levels: Levels) -> Column:
    """A column of strings, prose or categories."""
    words = np.mean([len(level.split()) for level in levels[:1000]])
    prose = words >= TEXT_WORDS and len(levels) > CODE_LEVELS
    mixed, odd = _nearly_numbers(codes, levels)
    if not mixed:
        mixed, odd = _nearly_words(codes, levels)
    return Column(name, "text" if prose else "category", codes < 0, None, codes, levels, mixed, odd)
