"""How the score depends on one or two columns: partial dependence, single rows (ICE), accumulated local effects (ALE)."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Provenance
from explainer.inspection import saving
from explainer.inspection.ale import accumulated, accumulated_pair
from explainer.inspection.tables import (
    ROWS_AT_ONCE,
    Scorer,
    cells,
    goal_of,
    is_category,
    is_whole,
    levels,
    position,
    rows_of,
    scale_of,
    stamp,
    tabular,
)  # fmt: skip
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd

KINDS = ("pdp", "ice", "ale")
GRID = 40
ROWS = 1000
_MOST = 1000  # points along one column
_MOST_PAIR = 50  # intervals along each of two columns in ALE, which accumulates over all pairs
_ENDS = (0.05, 0.95)  # quantiles between which a grid of numbers runs, as in scikit-learn
_Z = 1.96


@dataclass(frozen=True, eq=False)
class Dependence:
    """A curve (one column) or a surface (two) of the score over values of the columns.

    Attributes
    ----------
    grid : per column the values it was set to, ``(g,)``; the edges of the intervals for ALE.
    values : ``(outputs, g)`` or ``(outputs, g, h)``: the mean score, or for ALE the effect, which is 0 on average.
    stderr : standard error of each value over the rows: another sample of rows, the same model.
    curves : with ``kind="ice"`` the score of each row ``(outputs, rows, g)``, else None.
    own : with ``kind="ice"``, each row's own value of the column.
    spread : per column how its values lie: deciles of numbers, shares of the categories in ``grid``.
    labels : one name per output. ``rows``: how many were used.
    """

    kind: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    grid: tuple[np.ndarray, ...]
    values: np.ndarray
    stderr: np.ndarray
    spread: tuple[np.ndarray, ...]
    labels: tuple[str, ...]
    output: str
    rows: int
    provenance: Provenance
    curves: np.ndarray | None = None
    own: np.ndarray | None = None

    def __post_init__(self) -> None:
        for array in (self.values, self.stderr, self.curves, *self.grid):
            if array is not None:
                array.setflags(write=False)

    @property
    def low(self) -> np.ndarray:
        """Lower ends of the 95 % intervals."""
        return self.values - _Z * self.stderr

    @property
    def high(self) -> np.ndarray:
        """Upper ends of the 95 % intervals."""
        return self.values + _Z * self.stderr

    def to_frame(self) -> pd.DataFrame:
        """Long table: one row per output and grid point."""
        import pandas as pd

        rows = []
        for o, label in enumerate(self.labels):
            for where in np.ndindex(*self.values.shape[1:]):
                at = {name: axis[k] for name, axis, k in zip(self.columns, self.grid, where, strict=True)}
                cell = (o, *where)
                rows.append({"output": label, **at, "value": self.values[cell], "stderr": self.stderr[cell],
                             "low": self.low[cell], "high": self.high[cell]})  # fmt: skip
        return pd.DataFrame(rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dependence:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        types = tuple(found["types"])
        curves = None if found["curves"] is None else np.array(found["curves"], dtype=float)
        own = None if found["own"] is None else _axis(found["own"], types[0])
        return cls(**{
            **found, "curves": curves, "own": own, "types": types, "columns": tuple(found["columns"]), "labels": tuple(found["labels"]),
            "grid": tuple(_axis(axis, kind) for axis, kind in zip(found["grid"], types, strict=True)),
            "values": np.array(found["values"], dtype=float), "stderr": np.array(found["stderr"], dtype=float),
            "spread": tuple(np.array(one, dtype=float) for one in found["spread"]), "provenance": saving.provenance(found["provenance"]),
        })  # fmt: skip


def partial_dependence(
    model: Any,
    data: Any = None,
    columns: Any = None,
    *,
    kind: str = "pdp",
    grid: Any = GRID,
    target: Any = "auto",
    output: str = "auto",
    rows: int | None = ROWS,
    seed: int = 0,
    progress: Any = False,
) -> Dependence:
    r"""How the score changes with one column, or with two, over the rows of a table.

    ``"pdp"``: the mean score with the column set to v in every row, :math:`\frac1n \sum_i f(v, x_{i,-j})` (Friedman 2001);
    rows that do not exist are scored where columns depend on each other. ``"ice"``: the same, and each row's own curve
    (Goldstein et al. 2015). ``"ale"``: accumulated local effects (Apley & Zhu 2020),

    .. math:: \sum_{k \le K(v)} \frac{1}{n_k} \sum_{x_{ij} \in (z_{k-1}, z_k]} f(z_k, x_{i,-j}) - f(z_{k-1}, x_{i,-j}), \text{ centred,}

    which moves each row only within its own interval, so that columns that depend on each other are kept apart; of two
    columns the part beyond both single effects. Categories without an order are put in one by likeness of their rows.

    Parameters
    ----------
    data : a table; by default the model's background rows. At most ``rows`` of them are drawn; None uses all.
    columns : a column (name or number), or two.
    grid : how many points (ALE: intervals), or the values themselves; for two columns, one of either or a pair.
    target : an output (class name or index), a margin, a function of the scores, or "all"; "auto" is the second of two
        classes, else "all".

    Standard errors are over rows: they say how another sample of rows would move the curve, not how another training would.
    Raises InvalidInput, UnknownName, Unsupported.
    """
    started = time.perf_counter()
    model = tabular(model, "Partial dependence")
    if kind not in KINDS:
        raise unknown("kind of dependence", kind, KINDS)
    frame, _ = rows_of(model, data, rows, seed)
    places = _places(frame, columns, kind)
    goal, labels = goal_of(model, target)
    scale = scale_of(model, output)
    grids = tuple(_grid(frame, j, given, kind) for j, given in zip(places, _per_column(grid, len(places)), strict=True))
    with reporter(progress, "Partial dependence") as report:
        score = Scorer(model, goal, scale, report, len(frame) * int(np.prod([len(g) for g in grids])))
        made: dict[str, Any]
        if kind == "ale" and len(places) == 2:
            if max(map(len, grids)) > _MOST_PAIR + 1:
                raise InvalidInput(f"ALE of two columns takes up to {_MOST_PAIR} intervals along each; grid={grid!r} came.")
            values, stderr = accumulated_pair(frame, places, grids, score)
            made = {}
        elif kind == "ale":
            axis, values, stderr = accumulated(frame, places[0], grids[0], score)
            grids, made = (axis,), {}
        else:
            values, stderr, curves = _mean_curves(frame, places, grids, score, keep=kind == "ice")
            made = {} if curves is None else {"curves": curves, "own": frame.iloc[:, places[0]].to_numpy()}
    if not np.isfinite(values).any():
        raise InvalidInput(f"{model.name} could score none of the rows: {score.why}")
    names = tuple(str(frame.columns[j]) for j in places)
    parameters = {"kind": kind, "columns": list(names), "grid": [len(g) for g in grids], "rows": len(frame)}
    return Dependence(
        kind=kind, columns=names, types=tuple(_type(frame.iloc[:, j]) for j in places), grid=grids, values=values, stderr=stderr,
        spread=tuple(_spread(frame.iloc[:, j], axis) for j, axis in zip(places, grids, strict=True)), labels=labels, output=scale,
        rows=len(frame), **made,
        provenance=stamp(model, f"partial dependence ({kind})", frame, seed, score.evaluations, started, parameters, score.notes()),
    )  # fmt: skip


def _places(frame: pd.DataFrame, columns: Any, kind: str) -> tuple[int, ...]:
    if columns is None:
        raise InvalidInput(f"Name the column, or two of them: columns='age'. There are: {', '.join(map(str, frame.columns[:12]))}.")
    listed = list(columns) if isinstance(columns, (list, tuple)) else [columns]
    places = tuple(position(frame, column) for column in listed)
    if len(places) not in (1, 2) or len(set(places)) != len(places):
        raise InvalidInput(f"One column or two different ones are needed; {listed} came. Call again for each further column.")
    if len(places) == 2 and kind == "ice":
        raise Unsupported("Curves of single rows are drawn over one column; use kind='pdp' or 'ale' for two.")
    if len(places) == 2 and kind == "ale" and any(is_category(frame.iloc[:, j]) for j in places):
        raise Unsupported("ALE of two columns needs numbers in both; use kind='pdp' where one is a category.")
    return places


def _per_column(grid: Any, count: int) -> tuple[Any, ...]:
    if count == 2 and isinstance(grid, (list, tuple)) and len(grid) == 2 and any(isinstance(g, (list, tuple, np.ndarray)) for g in grid):
        return tuple(grid)
    if count == 2 and not isinstance(grid, (int, np.integer)):
        raise InvalidInput("For two columns, grid= is a number of points, or a pair of lists of values.")
    return (grid if count == 1 or grid != GRID else GRID // 2,) * count


def _grid(frame: pd.DataFrame, j: int, given: Any, kind: str) -> np.ndarray:
    """Values of a column: those given, those seen, or evenly spaced between two quantiles (ALE: the quantiles)."""
    column = frame.iloc[:, j]
    name = frame.columns[j]
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)):
        return _given(column, name, given)
    if not 2 <= given <= _MOST:
        raise InvalidInput(f"grid={given} is the number of points; it lies between 2 and {_MOST}.")
    seen = levels(column)
    if len(seen) < 2:
        raise InvalidInput(f"Column {name!r} has {len(seen)} value in these rows; a curve needs at least 2. Pass grid=[values].")
    if is_category(column):
        return seen
    numbers = column.dropna().to_numpy(dtype=float)
    if kind == "ale":
        return np.unique(np.quantile(numbers, np.linspace(0, 1, int(given) + 1), method="inverted_cdf"))
    if len(seen) < given:
        return seen.astype(float)
    from scipy.stats.mstats import mquantiles

    low, high = mquantiles(numbers, prob=_ENDS)
    if np.isclose(low, high):  # nine rows in ten share one value
        low, high = numbers.min(), numbers.max()
    axis = np.linspace(low, high, int(given))
    return np.unique(np.rint(axis)) if is_whole(column) else axis


def _given(column: pd.Series, name: Any, given: Any) -> np.ndarray:
    values = list(np.ravel(np.asarray(given, dtype=object)))
    if is_category(column):
        seen = levels(column)
        strange = [v for v in values if v not in list(seen)]
        if strange:
            raise unknown(f"value of column {name!r}", strange[0], seen)
        axis = np.empty(len(values), dtype=object)
        axis[:] = values
    else:
        try:
            axis = np.unique(np.array(values, dtype=float))
        except (TypeError, ValueError):
            raise InvalidInput(f"Column {name!r} holds numbers; grid={given!r} does not.") from None
        if is_whole(column) and (axis != np.rint(axis)).any():
            raise InvalidInput(f"Column {name!r} holds whole numbers; grid= must too.")
    if len(axis) < 2 or (axis.dtype != object and not np.isfinite(axis).all()):
        raise InvalidInput(f"grid= needs at least 2 different finite values; {given!r} came.")
    return axis


def _mean_curves(
    frame: pd.DataFrame, places: Sequence[int], grids: Sequence[np.ndarray], score: Scorer, keep: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Means and standard errors ``(k, *grid)`` over rows, and each row's curve ``(k, rows, g)`` where they are kept."""
    shape = tuple(len(g) for g in grids)
    points = np.stack(np.meshgrid(*(np.arange(s) for s in shape), indexing="ij"), axis=-1).reshape(-1, len(shape))
    n, k = len(frame), score.target.k
    mean, error = np.empty((k, len(points))), np.empty((k, len(points)))
    curves = np.empty((k, n, len(points))) if keep else None
    at_once = max(1, ROWS_AT_ONCE // n)
    for start in range(0, len(points), at_once):
        chosen = points[start : start + at_once]
        many = frame.iloc[np.tile(np.arange(n), len(chosen))].reset_index(drop=True)
        for j, axis, at in zip(places, grids, chosen.T, strict=True):
            many[frame.columns[j]] = cells(np.repeat(axis[at], n), frame.iloc[:, j])
        scores = score(many).reshape(len(chosen), n, k)
        told = np.isfinite(scores).sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            middle = np.nansum(scores, axis=1) / told
            spread = np.nansum((scores - middle[:, None]) ** 2, axis=1) / (told - 1)
        mean[:, start : start + at_once] = middle.T
        error[:, start : start + at_once] = np.sqrt(spread / np.maximum(told, 1)).T
        if curves is not None:
            curves[:, :, start : start + at_once] = scores.transpose(2, 1, 0)
    return mean.reshape(k, *shape), error.reshape(k, *shape), curves


def _type(column: pd.Series) -> str:
    return "category" if is_category(column) else "whole" if is_whole(column) else "number"


def _spread(column: pd.Series, axis: np.ndarray) -> np.ndarray:
    if is_category(column):
        shares = column.value_counts(normalize=True)
        return np.array([float(shares.get(value, 0.0)) for value in axis])
    return np.quantile(column.dropna().to_numpy(dtype=float), np.linspace(0, 1, 11))


def _axis(values: Sequence[Any], kind: str) -> np.ndarray:
    if kind != "category":
        return np.array(values, dtype=float)
    axis = np.empty(len(values), dtype=object)
    axis[:] = list(values)
    return axis
