"""One column's values against its contributions, and the column it interacts with most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Explanation
from explainer.target import shared

if TYPE_CHECKING:
    import pandas as pd

BINS = 10  # of the column's own values, fewer where a bin would hold less than _ROWS rows
_ROWS = 20
_THIRDS = 3  # of the other column's values: enough to see a slope or a bend
_SHUFFLES = 199
_ALPHA = 0.05


@dataclass(frozen=True, eq=False)
class Contributions:
    """A column's own values and contributions, row by row, and how much of their spread each other column explains.

    Attributes
    ----------
    own, values, stderr : ``(n,)`` the column, its contributions, and their standard errors (0 where exact).
    partner, other : the column with the strongest interaction (or the one asked for) and its values; None where none is left.
    strength : per other column, the share (0 to 1, adjusted for chance) of what the column's own value leaves unexplained.
    p_value : how often shuffled rows give as strong a strongest column.
    left : the share of the contributions' variance that the column's own value leaves unexplained.
    noise : the share of what is left unexplained that the sampling error of the values accounts for.
    """

    column: str
    own: np.ndarray
    values: np.ndarray
    stderr: np.ndarray
    partner: str | None
    other: np.ndarray | None
    strength: Mapping[str, float]
    p_value: float
    left: float
    noise: float
    target: str
    output: str
    method: str

    def __len__(self) -> int:
        return len(self.values)

    @property
    def certain(self) -> bool:
        """Whether the interaction with the strongest column is more than chance (5 %)."""
        return bool(self.p_value <= _ALPHA)

    def to_frame(self) -> pd.DataFrame:
        """One row per instance: the column, its contribution and standard error, and the partner's value."""
        import pandas as pd

        frame = pd.DataFrame({self.column: self.own, "contribution": self.values, "stderr": self.stderr})
        return frame if self.partner is None else frame.assign(**{self.partner: self.other})


def contributions(ex: Explanation, column: str | None = None, *, by: str = "auto", seed: int = 0) -> Contributions:
    r"""How one column's contributions follow its values, and which other column they interact with most.

    A contribution is the column's own effect and half of each interaction it takes part in, so what its own value leaves
    unexplained is interaction (and sampling error). With r the residual of the contributions from a line in each quantile bin b
    of the column, the strength of column k is the adjusted share of the variance of r that thirds t of k explain in each bin:

    .. math:: 1 - \frac{\sum (r - \bar r_{bt})^2 / (n - \#bt)}{\sum (r - \bar r_b)^2 / (n - \#b)}

    It is held against the strongest column under 199 shuffles of r within the bins.

    ``column``: by default the one with the largest mean size. ``by``: "auto", or the column to set it against.
    Raises Unsupported for what has no columns, UnknownName, InvalidInput for fewer than 20 rows.
    """
    if not isinstance(ex, Explanation) or ex.axes != ("instance", "column") or not hasattr(ex.inputs, "columns"):
        raise Unsupported("contributions() takes an explanation of a table with one target, as explain(model, rows, 'shap') gives it.")
    told = np.isfinite(ex.values).all(axis=1)
    if told.sum() < _ROWS:
        raise InvalidInput(f"{int(told.sum())} explained rows show no dependence; explain at least {_ROWS}.")
    rows, names = ex.inputs[told].reset_index(drop=True), ex.feature_names[int(np.flatnonzero(told)[0])]
    known = [name for name in names if name in rows.columns]
    sizes = dict(zip(names, np.abs(ex.values[told]).mean(axis=0), strict=True))
    name = max(known, key=lambda one: sizes[one]) if column is None else column
    for asked in (name, *(() if by == "auto" else (by,))):
        if asked not in known:
            raise unknown("column", asked, known)
    j = names.index(name)
    values = ex.values[told][:, j]
    stderr = np.zeros_like(values) if ex.stderr is None else ex.stderr[told][:, j]
    own = rows[name]
    bins = _bins(own, min(BINS, max(1, len(values) // _ROWS)))
    left = _without_own_effect(own, bins, values)
    cells = {other: _pairs(bins, _bins(rows[other], _THIRDS)) for other in known if other != name}
    strength = {other: _strength(left, bins, cell) for other, cell in cells.items()}
    partner = by if by != "auto" else max(strength, key=lambda k: strength[k], default=None)
    p_value = _p_value(left, bins, cells, max(strength.values(), default=0.0), seed)
    spread = float(np.var(left))
    return Contributions(
        column=name, own=own.to_numpy(), values=values.copy(), stderr=stderr.copy(), partner=partner,
        other=None if partner is None else rows[partner].to_numpy(), strength=strength, p_value=p_value,
        left=spread / max(float(np.var(values)), 1e-300), noise=min(1.0, float(np.mean(stderr**2)) / spread) if spread > 0 else 0.0,
        target=shared(ex.target, "predicted class"), output=ex.output, method=ex.method,
    )  # fmt: skip


def _bins(column: Any, most: int) -> np.ndarray:
    """Each row's bin: quantiles of numbers, the most frequent categories else, what is missing apart."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values = column.to_numpy(dtype=float, na_value=np.nan)
        kinds = np.unique(values[np.isfinite(values)])
        if len(kinds) <= most:
            bins = np.searchsorted(kinds, values)
        else:
            edges = np.unique(np.nanquantile(values, np.linspace(0, 1, most + 1)[1:-1]))
            bins = np.searchsorted(edges, values, side="right")
        bins = np.where(np.isfinite(values), bins, most + 1)
    else:
        codes, _ = pd.factorize(column)  # missing is -1
        frequent = pd.Series(codes).value_counts().index[:most]
        bins = np.where(np.isin(codes, frequent), codes, -2)
    return np.unique(bins, return_inverse=True)[1]


def _pairs(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.unique(a * (b.max() + 1) + b, return_inverse=True)[1]


def _without_own_effect(own: Any, bins: np.ndarray, values: np.ndarray) -> np.ndarray:
    """What a line in each bin of the column leaves of its contributions."""
    left = values.astype(np.float64).copy()
    numbers = own.to_numpy(dtype=float, na_value=np.nan) if own.dtype.kind in "fiu" else np.zeros(len(left))
    for b in range(bins.max() + 1):
        here = bins == b
        left[here] -= left[here].mean()
        x = np.nan_to_num(numbers[here] - np.nanmean(numbers[here])) if np.isfinite(numbers[here]).any() else np.zeros(int(here.sum()))
        if here.sum() > 2 and (x**2).sum() > 0:
            left[here] -= x * (x @ left[here]) / (x @ x)
    return left


def _strength(left: np.ndarray, bins: np.ndarray, cells: np.ndarray) -> float:
    n, coarse, fine = len(left), int(bins.max()) + 1, int(cells.max()) + 1
    whole = _within(left, bins)
    if fine >= n or coarse >= n or whole <= 1e-20 * max(1.0, float((left**2).sum())) or fine == coarse:
        return 0.0
    return max(0.0, 1 - (_within(left, cells) / (n - fine)) / (whole / (n - coarse)))


def _within(left: np.ndarray, cells: np.ndarray) -> float:
    """Sum of squares around the means of the cells."""
    sums, counts = np.bincount(cells, weights=left), np.bincount(cells)
    return float((left**2).sum() - (sums**2 / np.maximum(counts, 1)).sum())


def _p_value(left: np.ndarray, bins: np.ndarray, cells: Mapping[str, np.ndarray], found: float, seed: int) -> float:
    """Shuffled within the bins, so that nothing but the other columns' part is undone."""
    if not cells or found <= 0:
        return math.nan if not cells else 1.0
    rng, above = np.random.default_rng(seed), 0
    inside = np.argsort(bins, kind="stable")
    for _ in range(_SHUFFLES):
        shuffled = np.empty_like(left)
        shuffled[inside] = left[np.lexsort((rng.random(len(left)), bins))]
        above += max(_strength(shuffled, bins, cell) for cell in cells.values()) >= found
    return (1 + above) / (1 + _SHUFFLES)
