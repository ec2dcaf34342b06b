"""Bins of a table's columns, as lime cuts them: quartiles of numbers, other columns value by value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.numerals import rounded

if TYPE_CHECKING:
    import pandas as pd

_FEW_VALUES = 10  # a numeric column with no more different values is taken value by value
_QUARTILES = (25, 50, 75)


class Bins:
    """Bins of each column of ``background``, with the share of its rows in each; the bins of inputs are found in them.

    A numeric column of more than 10 values is cut at its quartiles, and a value inside a bin is drawn from the normal law with
    the bin's mean and deviation, cut off at its ends (lime's law). Missing values are a bin of their own. ``own`` (n, columns)
    are the bins of ``inputs``; one that the background never shows has share 0.
    """

    def __init__(self, background: pd.DataFrame, inputs: pd.DataFrame) -> None:
        self.names = [str(name) for name in background.columns]
        self._columns = [_column(background[name], inputs[name]) for name in background.columns]
        self._labels = list(inputs.columns)
        self.own = np.stack([column.own for column in self._columns], axis=1)
        self.background = np.stack([column.background for column in self._columns], axis=1)

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """Bins ``(size, columns)``, each column on its own by its shares in the background, as lime draws them."""
        return np.stack([rng.choice(len(c.shares), size, p=c.shares) for c in self._columns], axis=1)

    def elsewhere(self, i: int, size: int, rng: np.random.Generator) -> np.ndarray:
        """Bins ``(size, columns)`` other than those of input ``i``; its own where a column has no other."""
        drawn = np.empty((size, len(self._columns)), dtype=np.int64)
        for j, column in enumerate(self._columns):
            shares = column.shares.copy()
            shares[self.own[i, j] : self.own[i, j] + 1] = 0
            total = shares.sum()
            uniform = rng.random(size)
            if total > 0:
                drawn[:, j] = np.searchsorted(np.cumsum(shares) / total, uniform, side="right").clip(max=len(shares) - 1)
            else:
                drawn[:, j] = self.own[i, j]
        return drawn

    def frame(self, drawn: np.ndarray, rng: np.random.Generator, i: int = 0, kept: np.ndarray | None = None) -> pd.DataFrame:
        """Rows with values inside the bins ``drawn``; where ``kept`` (size, columns), input ``i``'s own values."""
        import pandas as pd

        columns = (c.values(drawn[:, j], rng, i, None if kept is None else kept[:, j]) for j, c in enumerate(self._columns))
        return pd.DataFrame(dict(zip(self._labels, columns, strict=True)), copy=False)

    def rules(self, i: int) -> tuple[str, ...]:
        """The bin of each column of input ``i`` in words, such as ``"40 < age <= 52"``."""
        return tuple(column.rule(name, i) for name, column in zip(self.names, self._columns, strict=True))


def _column(background: pd.Series, inputs: pd.Series) -> _Numbers | _Values:
    import pandas as pd

    numeric = pd.api.types.is_numeric_dtype(background) and not pd.api.types.is_bool_dtype(background)
    return _Numbers(background, inputs) if numeric and background.nunique() > _FEW_VALUES else _Values(background, inputs)


class _Numbers:
    """Quartile bins; the last bin is for missing values."""

    def __init__(self, background: pd.Series, inputs: pd.Series) -> None:
        known = background.to_numpy(dtype=float, na_value=np.nan)
        self._inputs = inputs.to_numpy(dtype=float, na_value=np.nan)
        present = known[~np.isnan(known)]
        self._edges = np.unique(np.percentile(present, _QUARTILES))
        self.background, self.own = self._find(known), self._find(self._inputs)
        counts = np.bincount(self.background, minlength=len(self._edges) + 2)
        self.shares = counts / counts.sum()
        bins = self._find(present)
        amount = np.maximum(np.bincount(bins, minlength=len(self._edges) + 2), 1)
        self._means = np.bincount(bins, present, len(amount)) / amount
        self._deviations = np.sqrt(np.bincount(bins, (present - self._means[bins]) ** 2, len(amount)) / amount) + 1e-11  # as lime
        self._lows = np.array([present.min(), *self._edges, np.nan])
        self._highs = np.array([*self._edges, present.max(), np.nan])

    def _find(self, numbers: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(numbers), len(self._edges) + 1, np.searchsorted(self._edges, numbers))

    def values(self, drawn: np.ndarray, rng: np.random.Generator, i: int, kept: np.ndarray | None) -> np.ndarray:
        from scipy.special import ndtr, ndtri

        low, high = ndtr((self._lows - self._means) / self._deviations), ndtr((self._highs - self._means) / self._deviations)
        # A bin's mean lies inside it, so both ends are on the good side of the normal law's tails.
        normal = ndtri(low[drawn] + rng.random(len(drawn)) * (high - low)[drawn])
        values = np.clip(self._means[drawn] + self._deviations[drawn] * normal, self._lows[drawn], self._highs[drawn])
        return values if kept is None else np.where(kept, self._inputs[i], values)

    def rule(self, name: str, i: int) -> str:
        edges, bin_ = self._edges, int(self.own[i])
        if bin_ > len(edges):
            return f"{name} is missing"
        if bin_ == 0:
            return f"{name} <= {rounded(edges[0], 4)}"
        if bin_ == len(edges):
            return f"{name} > {rounded(edges[-1], 4)}"
        return f"{rounded(edges[bin_ - 1], 4)} < {name} <= {rounded(edges[bin_], 4)}"


class _Values:
    """One bin per value (missing is one), in the order of the background; an input's value that is not there has its own."""

    def __init__(self, background: pd.Series, inputs: pd.Series) -> None:
        import pandas as pd

        self._rows = len(background)
        pooled = pd.concat([background, inputs], ignore_index=True)
        codes = pd.factorize(pooled, use_na_sentinel=False)[0]
        self.background, self.own = codes[: self._rows], codes[self._rows :]
        self.shares = np.bincount(self.background) / self._rows
        self._pool = pooled.array
        self._at = np.unique(codes, return_index=True)[1]

    def values(self, drawn: np.ndarray, rng: np.random.Generator, i: int, kept: np.ndarray | None) -> Any:
        index = self._at[drawn]
        return self._pool.take(index if kept is None else np.where(kept, self._rows + i, index))

    def rule(self, name: str, i: int) -> str:
        return f"{name} = {self._pool[self._rows + i]}"


def together(rules: Sequence[str]) -> str:
    """Several rules as one condition."""
    return " and ".join(rules)
