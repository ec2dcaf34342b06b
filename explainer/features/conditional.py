"""Which background values stand in for absent columns, given the present ones: a Gaussian copula, or the nearest rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

_RIDGE = 1e-6  # two equal columns would make the correlation singular
_GRID = 2**20  # distances are rounded to it: sums of whole numbers are the same in whatever order they are made


class Donors(ABC):
    """Chooses background values for the absent columns of coalitions; draws are the same for every coalition and instance."""

    absence: str
    repeats: int
    row_bytes: int

    @abstractmethod
    def pick(self, i: int, present: np.ndarray) -> np.ndarray:
        """Background rows ``(m, repeats)``, or per column ``(m, repeats, columns)``, for present columns (m, columns) of instance i."""


class Copula(Donors):
    r"""Draws from :math:`p(x_{\bar S} \mid x_S)` under a Gaussian copula fitted to the background.

    Each column becomes normal scores of its ranks, :math:`z = \Phi^{-1}(\hat F(x))`; with their correlation :math:`\Sigma` the
    conditional law is normal, and a draw is made from one of the joint law, :math:`z^* \sim N(0, \Sigma)`, by

    .. math:: z^*_{\bar S} + \Sigma_{\bar S S} \Sigma_{SS}^{-1} (z_S - z^*_S)

    (Aas, Jullum & Loland 2021; Matheron's rule). It goes back through the column's quantiles, so that every value drawn
    occurs in the background. Draws come in pairs of opposite sign. :math:`\Sigma` is shrunk as by Ledoit & Wolf (2004).
    Equal values share their mean rank, which weakens the dependence of columns with few values; a missing value tells
    nothing about the other columns and is never drawn. Raises InvalidInput for columns whose values have no order.
    """

    def __init__(self, frame: pd.DataFrame, background: pd.DataFrame, draws: int, seed: int) -> None:
        own, known = _ordered(frame, background)
        self._own = _scores(known, own)
        scores = np.nan_to_num(_scores(known, known))
        spread = scores.std(axis=0)
        self._correlation = _shrunk(np.divide(scores, spread, out=np.zeros_like(scores), where=spread > 0)) * (1 - _RIDGE)
        np.fill_diagonal(self._correlation, 1.0)
        rng = np.random.default_rng([seed, known.shape[1]])
        half = np.linalg.cholesky(self._correlation) @ rng.standard_normal((known.shape[1], -(-draws // 2)))
        self._joint = np.concatenate([half, -half], axis=1)[:, :draws]  # (columns, draws)
        self._order = np.argsort(known, axis=0, kind="stable")  # missing values come last
        self._counts = np.maximum(1, (~np.isnan(known)).sum(axis=0))
        self.repeats = draws
        columns = known.shape[1]
        self.row_bytes = 8 * (4 * columns + -(-2 * columns**2 // draws))
        self.absence = f"mean over {draws} draws given the present columns (Gaussian copula of {len(background)} background rows)"

    def pick(self, i: int, present: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        own = self._own[i]
        told = present & ~np.isnan(own)
        identity = np.eye(len(own))
        system = np.where(told[:, :, None] & told[:, None, :], self._correlation, identity)
        away = np.where(told[:, :, None], np.nan_to_num(own)[:, None] - self._joint, 0.0)  # (m, columns, draws)
        drawn = self._joint + self._correlation @ np.linalg.solve(system, away)
        place = np.minimum((ndtr(drawn) * self._counts[:, None]).astype(np.int64), self._counts[:, None] - 1)
        return np.moveaxis(self._order[place, np.arange(len(own))[:, None]], 1, 2)


class Neighbours(Donors):
    r"""The k background rows nearest to the instance on the present columns, by Gower's distance.

    .. math:: D_S(x, b) = \sum_{j \in S} \delta_j, \quad \delta_j = |x_j - b_j| / \mathrm{range}_j
        \text{ for numbers, else } 1[x_j \ne b_j]

    Gower (1971). A value that is missing on one side only is at distance 1. Rows at the same distance are taken in one
    order drawn with ``seed``; with nothing present they are k rows of the background at random.
    """

    def __init__(self, frame: pd.DataFrame, background: pd.DataFrame, k: int, seed: int) -> None:
        self._frame, self._background = frame, background
        self._rank = np.random.default_rng([seed, len(background)]).permutation(len(background))
        self.repeats = k
        self.row_bytes = -(-16 * len(background) // k)
        self.absence = f"mean over the {k} of {len(background)} background rows nearest on the present columns (Gower distance)"
        self.distances = lru_cache(maxsize=64)(self._distances)

    def pick(self, i: int, present: np.ndarray) -> np.ndarray:
        # Whole numbers below 2**53, all different: sums are exact, and the k smallest are told without a tie.
        key = (present.astype(np.float64) @ self.distances(i)) * len(self._rank) + self._rank
        nearest = np.argpartition(key, self.repeats - 1, axis=1)[:, : self.repeats]
        return np.take_along_axis(nearest, np.argsort(np.take_along_axis(key, nearest, axis=1), axis=1), axis=1)

    def _distances(self, i: int) -> np.ndarray:
        """The distance ``(columns, background rows)`` of instance ``i`` in each column, on the grid."""
        import pandas as pd

        found = np.empty((self._background.shape[1], len(self._background)))
        for j in range(self._background.shape[1]):
            column: Any = self._background.iloc[:, j]
            value: Any = self._frame.iloc[i, j]
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                numbers = column.to_numpy(dtype=float, na_value=np.nan)
                span = np.nanmax(numbers) - np.nanmin(numbers) if not np.isnan(numbers).all() else 0.0
                away = np.abs(numbers - (np.nan if pd.isna(value) else float(value)))
                found[j] = np.minimum(away / span, 1.0) if span > 0 else np.where(np.isnan(away), np.nan, away > 0)
                found[j] = np.where(np.isnan(found[j]), np.where(np.isnan(numbers) & pd.isna(value), 0.0, 1.0), found[j])
            elif pd.isna(value):
                found[j] = ~column.isna().to_numpy()
            else:
                found[j] = ~(column == value).fillna(False).to_numpy(dtype=bool)
        return np.round(found * _GRID)


def nearest_count(rows: int) -> int:
    """How many neighbours are averaged over, unless told: about the root of the background's size, 5 to 50."""
    return min(rows, int(np.clip(round(rows**0.5), 5, 50)))


def _ordered(frame: pd.DataFrame, background: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Instances and background as numbers in the order of the values, NaN where missing."""
    import pandas as pd

    numbers = np.empty((len(frame) + len(background), frame.shape[1]))
    nominal = []
    for j, name in enumerate(frame.columns):
        column = pd.concat([frame.iloc[:, j], background.iloc[:, j]], ignore_index=True)
        missing = column.isna().to_numpy()
        if isinstance(column.dtype, pd.CategoricalDtype) and column.dtype.ordered:
            values = column.cat.codes.to_numpy(dtype=float)
        elif pd.api.types.is_numeric_dtype(column):
            values = column.to_numpy(dtype=float, na_value=np.nan)
        elif pd.api.types.is_datetime64_any_dtype(column):
            values = column.astype("int64").to_numpy(dtype=float)
        else:  # two values have an order, whichever it is
            values, kinds = pd.factorize(column, sort=False)
            values = values.astype(float)
            if len(kinds) > 2:
                nominal.append(str(name))
        numbers[:, j] = np.where(missing, np.nan, values)
    if nominal:
        raise InvalidInput(
            f"baseline='copula' needs columns whose values have an order; {', '.join(nominal[:6])} hold names of more than two kinds. "
            "Use baseline='neighbours', which takes any column, or make them ordered categories."
        )
    return numbers[: len(frame)], numbers[len(frame) :]


def _shrunk(z: np.ndarray) -> np.ndarray:
    """The covariance of centred rows ``z``, drawn towards a multiple of the identity by Ledoit & Wolf's share."""
    n, d = z.shape
    covariance = z.T @ z / n
    target = np.eye(d) * (np.trace(covariance) / d)
    away = ((covariance - target) ** 2).sum()
    noise = (((z**2).sum(axis=1) ** 2).sum() / n - (covariance**2).sum()) / n
    share = min(1.0, noise / away) if away > 0 else 0.0
    return (1 - share) * covariance + share * target


def _scores(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Normal scores of ``values`` by their mean rank among ``known``, column by column; NaN where missing."""
    from scipy.special import ndtri

    scores = np.full(values.shape, np.nan)
    for j in range(values.shape[1]):
        present = np.sort(known[~np.isnan(known[:, j]), j])
        if len(present) == 0:
            continue
        below, upto = np.searchsorted(present, values[:, j], "left"), np.searchsorted(present, values[:, j], "right")
        share = np.clip((below + upto) / (2 * len(present)), 0.5 / len(present), 1 - 0.5 / len(present))
        scores[:, j] = np.where(np.isnan(values[:, j]), np.nan, ndtri(share))
    return scores
