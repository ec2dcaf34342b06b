"""The rows a counterfactual may be: which columns may change, in which direction, to which values, and how far apart rows lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.inspection.tables import cells, is_category, is_whole, levels, position

if TYPE_CHECKING:
    import pandas as pd

CANDIDATES = 20  # values tried of a column of numbers
REFERENCE = 1000  # data rows that plausibility is measured against
NEIGHBOURS = 5


@dataclass
class Column:
    """What one column may become. Numbers lie on a grid of ``10 ** -decimals``; categories are codes into ``levels``."""

    name: Any
    like: Any
    category: bool
    scale: float
    low: float
    high: float
    decimals: int = 0
    levels: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=object))
    allowed: np.ndarray = field(default_factory=lambda: np.empty(0))
    quantiles: np.ndarray = field(default_factory=lambda: np.empty(0))
    fixed: bool = False
    direction: int = 0

    def ends(self, own: float) -> tuple[float, float]:
        """The lowest and the highest number that may stand in place of ``own``; there is none where the first is above the second."""
        low = max(self.low, own) if self.direction > 0 and not math.isnan(own) else self.low
        high = min(self.high, own) if self.direction < 0 and not math.isnan(own) else self.high
        return low, high

    def candidates(self, own: float) -> np.ndarray:
        """Values to try in place of ``own``."""
        if self.fixed:
            return np.empty(0)
        if self.category:
            ways = self.allowed[(self.allowed - own) * self.direction >= 0] if self.direction else self.allowed
        else:
            low, high = self.ends(own)
            if not low <= high:
                return np.empty(0)
            inside = self.quantiles[(self.quantiles >= low) & (self.quantiles <= high)]
            # The quantiles crowd where the data do; a few evenly spaced values fill the gaps between.
            ways = self.snapped(np.concatenate([inside, np.linspace(low, high, 7)]), low, high)
        return np.unique(ways[ways != own])

    def snapped(self, values: np.ndarray, low: float, high: float) -> np.ndarray:
        """Numbers on the column's grid, within the ends."""
        return np.clip(np.round(values, self.decimals), low, high)

    def permits(self, values: np.ndarray, own: float) -> np.ndarray:
        """Which values are allowed, ``own`` always."""
        if self.category:
            told = np.isin(values, self.candidates(own))
        else:
            low, high = self.ends(own)
            told = (values >= low) & (values <= high)
        return told | (values == own)


class Space:
    """Rows as numbers ``(m, columns)``, and back; limits and distances."""

    def __init__(
        self, data: pd.DataFrame, originals: pd.DataFrame, immutable: Sequence[Any], monotone: Mapping[Any, str], ranges: Mapping[Any, Any]
    ) -> None:
        fixed = {position(data, name) for name in ([immutable] if isinstance(immutable, str) else immutable)}
        ways = {position(data, name): _direction(name, way) for name, way in monotone.items()}
        spans = {position(data, name): given for name, given in ranges.items()}
        self.columns = [
            _column(data.iloc[:, j], originals.iloc[:, j], j in fixed, ways.get(j, 0), spans.get(j)) for j in range(data.shape[1])
        ]
        self._like = originals
        self._pools: list[Any] = [cells(c.levels, c.like).array if c.category else None for c in self.columns]
        self.own = self.encode(originals)
        self.data = self.encode(data)
        rng = np.random.default_rng([0, len(data)])
        chosen = rng.permutation(len(data))[:REFERENCE]
        self._reference = self.data[chosen]
        own = self._apart(self._reference[:300], self._reference)
        np.fill_diagonal(own[:, : len(own)], np.inf)
        self._usual = np.sort(_nearest(own))

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Numbers ``(m, columns)``; NaN for what is missing, and for a category that is not known."""
        encoded = np.empty(frame.shape)
        for j, column in enumerate(self.columns):
            values = frame.iloc[:, j]
            if column.category:
                place = {value: k for k, value in enumerate(column.levels)}
                encoded[:, j] = [place.get(value, np.nan) for value in values.astype(object)]
            else:
                encoded[:, j] = values.to_numpy(dtype=float, na_value=np.nan)
        return encoded

    def frame(self, z: np.ndarray, original: int) -> pd.DataFrame:
        """A table of the originals' types; numbers that did not change are the original's own, bit for bit."""
        import pandas as pd

        made = {column.name: self._cells(column, z[:, j], j, original) for j, column in enumerate(self.columns)}
        return pd.DataFrame(made, copy=False)

    def _cells(self, column: Column, values: np.ndarray, j: int, original: int) -> Any:
        import pandas as pd

        if column.category:
            missing = np.isnan(values)
            taken = self._pools[j].take(np.where(missing, -1, values).astype(int), allow_fill=bool(missing.any()))
            return pd.Series(taken, dtype=column.like.dtype)
        own = self._like.iloc[:, j].array[original]
        moved = ~same(values, self.own[original, j])
        if isinstance(column.like.dtype, np.dtype) and column.like.dtype != object:
            filled = np.full(len(values), own, dtype=column.like.dtype)
            filled[moved] = values[moved]
            return filled
        mixed = np.full(len(values), own, dtype=object)
        mixed[moved] = values[moved]
        return cells(mixed, column.like)

    def distance(self, z: np.ndarray, own: np.ndarray) -> np.ndarray:
        """Per column ``(m, columns)``: numbers in median absolute deviations of the data, 1 for another category."""
        apart = np.abs(z - own) / np.array([column.scale for column in self.columns])
        kinds = np.array([column.category for column in self.columns])
        apart = np.where(kinds | np.isnan(apart), 1.0, apart)
        return np.where(same(z, own), 0.0, apart)

    def lonely(self, z: np.ndarray) -> np.ndarray:
        """Mean distance to the five nearest data rows ``(m,)``."""
        return _nearest(self._apart(z, self._reference))

    def plausibility(self, z: np.ndarray) -> np.ndarray:
        """Share of data rows that lie at least as far from their nearest rows as these do ``(m,)``: 1 ordinary, 0 like none."""
        return 1 - np.searchsorted(self._usual, self.lonely(z) * (1 - 1e-9)) / len(self._usual)

    def _apart(self, z: np.ndarray, others: np.ndarray) -> np.ndarray:
        total = np.zeros((len(z), len(others)))
        for j, column in enumerate(self.columns):
            a, b = z[:, j, None], others[None, :, j]
            gap = (a != b).astype(float) if column.category else np.abs(a - b) / column.scale
            lost = np.isnan(a) | np.isnan(b)
            if lost.any():
                gap = np.where(lost, np.where(np.isnan(a) & np.isnan(b), 0.0, 1.0), gap)
            total += gap
        return total


def same(a: Any, b: Any) -> Any:
    """Equal, or both missing."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _nearest(apart: np.ndarray) -> np.ndarray:
    count = min(NEIGHBOURS, max(1, apart.shape[1] - 1))
    near = np.partition(apart, count - 1, axis=1)[:, :count]
    return np.where(np.isfinite(near), near, 0).mean(axis=1)


def _direction(name: Any, way: Any) -> int:
    if way not in ("up", "down"):
        raise unknown(f"direction of {name!r} in monotone=", way, ("up", "down"))
    return 1 if way == "up" else -1


def _column(data: pd.Series, own: pd.Series, fixed: bool, direction: int, span: Any) -> Column:
    name = data.name
    if is_category(data) or is_category(own):
        return _category(data, own, fixed, direction, span)
    numbers = data.dropna().to_numpy(dtype=float)
    if not len(numbers):
        return Column(name, own, False, 1.0, math.nan, math.nan, fixed=True)
    apart = np.abs(numbers - np.median(numbers))
    scale = float(np.median(apart) or apart.mean() or 1.0)
    decimals = _decimals(numbers, own, scale)
    low, high = float(numbers.min()), float(numbers.max())
    if span is not None:
        low, high = _span(name, span, low, high)
        if is_whole(own) or decimals == 0:
            low, high = float(np.ceil(low)), float(np.floor(high))
    quantiles = np.unique(np.quantile(numbers, np.linspace(0, 1, CANDIDATES), method="inverted_cdf"))
    return Column(name, own, False, scale, low, high, decimals, quantiles=quantiles, fixed=fixed, direction=direction)


def _category(data: pd.Series, own: pd.Series, fixed: bool, direction: int, span: Any) -> Column:
    seen = list(levels(data))
    if direction and not (hasattr(data.dtype, "ordered") and data.dtype.ordered) and data.dtype != bool:
        raise InvalidInput(f"Column {data.name!r} holds categories without an order; monotone= is for numbers and ordered categories.")
    if span is not None:
        wanted = [span] if isinstance(span, str) else list(span)
        strange = [value for value in wanted if value not in seen]
        if strange:
            raise unknown(f"category of {data.name!r} in ranges=", strange[0], seen)
    every = [*seen, *(value for value in levels(own) if value not in seen)]
    known = np.empty(len(every), dtype=object)
    known[:] = every
    allowed = [k for k, value in enumerate(seen) if span is None or value in wanted]
    return Column(
        data.name, own, True, 1.0, 0.0, len(seen) - 1.0, levels=known, allowed=np.array(allowed, dtype=float), fixed=fixed,
        direction=direction,
    )  # fmt: skip


def _decimals(numbers: np.ndarray, own: pd.Series, scale: float) -> int:
    """Whole numbers stay whole; others keep the data's decimals, or a thousandth of their spread where they have many."""
    if is_whole(own):
        return 0
    for decimals in range(4):
        if np.array_equal(np.round(numbers, decimals), numbers):
            return decimals
    return max(0, 3 - math.floor(math.log10(scale)))


def _span(name: Any, span: Any, low: float, high: float) -> tuple[float, float]:
    try:
        first, last = span
        wanted = (low if first is None else float(first), high if last is None else float(last))
    except (TypeError, ValueError):
        raise InvalidInput(f"ranges= of the column {name!r} is a pair (low, high), None for an open end; {span!r} came.") from None
    if not wanted[0] <= wanted[1]:
        raise InvalidInput(f"ranges= of the column {name!r} is empty: {span!r}.")
    return wanted
