"""One column of a table, whatever is in it, brought to numbers or to codes."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.view import digest

TEXT_WORDS = 5  # a column of strings of this many words on average is prose, not categories
MIXED_SHARE = 0.9  # a column this full of numbers is a column of numbers with something else in it
MIXED_LEAST = 10  # values needed before a column's type is a claim
CODE_LEVELS = 20  # a column with no more distinct values than this is a code, not a measure


@dataclass(frozen=True)
class Column:
    """One column of any type: numbers as float64 with NaN, or codes (-1 missing) into levels."""

    name: str
    kind: str  # "number", "date", "category", "text" or "empty"
    missing: np.ndarray
    numbers: np.ndarray | None
    codes: np.ndarray
    levels: list[str]
    mixed: str = ""  # what is mixed in it, in words
    odd: tuple[int, ...] = ()  # the rows that are of the rarer type

    @property
    def distinct(self) -> int:
        return len(self.levels) if self.numbers is None else int(self.codes.max(initial=-1)) + 1

    @cached_property
    def hashes(self) -> np.ndarray:
        """``(n,)`` uint64 of the values; equal values give equal hashes in any table."""
        if self.numbers is not None:
            return pd.util.hash_array(np.where(self.missing, np.nan, self.numbers) + 0.0)
        table = np.array([digest(level.encode("utf-8", "surrogatepass")) for level in self.levels] + [0], dtype=np.uint64)
        return table[self.codes]


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
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        return _numeric(name, "number", np.array(numbers, dtype=np.float64), missing)
    return _objects(name, values)


def _numeric(name: str, kind: str, numbers: np.ndarray, missing: np.ndarray) -> Column:
    missing = missing | np.isnan(numbers)
    codes = pd.factorize(numbers)[0]
    return Column(name, "empty" if missing.all() else kind, missing, numbers, codes, [])


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
        return Column(name, "empty", missing, None, np.full(len(texts), -1), [])
    if present <= {"number", "true or false"} and len(present) == 1:
        numbers = np.array([np.nan if t is None else _float(v) for v, t in zip(listed_values, texts, strict=True)])
        return _numeric(name, "number", numbers, missing)
    mixed, odd = _mixture(types)
    codes, levels = pd.factorize(np.array(texts, dtype=object))
    return Column(name, "category", missing, None, codes, [str(level) for level in levels], mixed, odd)


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


def _mixture(types: list[str]) -> tuple[str, tuple[int, ...]]:
    """What types are mixed in one column of objects, and where the rarer are."""
    known = [t for t in types if t]
    present = sorted(set(known), key=known.count, reverse=True)
    odd = tuple(i for i, t in enumerate(types) if t and t != present[0])
    return (", ".join(f"{known.count(t):,} {t}" for t in present), odd) if len(present) > 1 else ("", ())


def _nearly_numbers(codes: np.ndarray, levels: list[str]) -> tuple[str, tuple[int, ...]]:
    """A column of numbers written as text with a few other texts among them."""
    sizes = np.bincount(codes[codes >= 0], minlength=len(levels))
    known = int(sizes.sum())
    other = np.array([not parses(level) for level in levels], dtype=bool)
    odd = int(sizes[other].sum())
    if known < MIXED_LEAST or not 0 < odd <= (1 - MIXED_SHARE) * known:
        return "", ()
    rows = np.flatnonzero((codes >= 0) & other[codes])
    return f"{known - odd:,} numbers written as text, {odd:,} other texts", tuple(rows.tolist())


def _nearly_words(codes: np.ndarray, levels: list[str]) -> tuple[str, tuple[int, ...]]:
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
    levels = [str(level) for level in found]
    held = np.array([bool(level.strip()) for level in levels], dtype=bool)
    if not held.all():
        moved = np.where(held, np.cumsum(held) - 1, -1)
        codes = np.append(moved, -1)[codes]
        levels = [level for level, keep in zip(levels, held, strict=True) if keep]
    if not levels:
        return Column(name, "empty", codes < 0, None, codes, [])
    words = np.mean([len(level.split()) for level in levels[:1000]])
    prose = words >= TEXT_WORDS and len(levels) > CODE_LEVELS
    mixed, odd = _nearly_numbers(codes, levels)
    if not mixed:
        mixed, odd = _nearly_words(codes, levels)
    return Column(name, "text" if prose else "category", codes < 0, None, codes, levels, mixed, odd)


_NUMBER = re.compile(r"^\s*[+-]?(\d[\d,]*\.?\d*|\.\d+)([eE][+-]?\d+)?\s*%?\s*$")


def parses(text: str) -> bool:
    """Whether a text is a number as people write them."""
    return bool(_NUMBER.match(text))


_PUNCTUATION = re.compile(r"[\W_]+")


def normalised(text: str) -> str:
    """A text without case, accents, punctuation and repeated space: what two spellings of one value share."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return _PUNCTUATION.sub(" ", bare.casefold()).strip() or text.strip()
