"""Permutation importance: how much worse the predictions get when a column's values are dealt out anew among the rows."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.explanation import Provenance
from explainer.inspection import saving
from explainer.inspection.metrics import Metric, labels_of, metric_of
from explainer.inspection.tables import ROWS_AT_ONCE, Scorer, goal_of, position, rows_of, stamp, tabular
from explainer.progress import reporter

if TYPE_CHECKING:
    import pandas as pd

ROWS = 10_000
BLOCKS = 20  # of rows, each left out once: enough for an interval, few enough to be quick


@dataclass(frozen=True, eq=False)
class PermutationImportance:
    """How much a metric drops per column, or per group of columns.

    Attributes
    ----------
    values : mean drop over the repeats, in the unit of ``metric`` (a loss: how much it grows); 0 for a column without use.
    stderr, low, high : standard error and ends of the 95 % interval, over rows and over repeats together: they say how the
        drop would vary with other rows and other permutations, not with another training.
    drops : ``(columns, repeats)``, one for each time the column was permuted.
    score : the metric on the rows as they are.
    """

    names: tuple[str, ...]
    values: np.ndarray
    stderr: np.ndarray
    low: np.ndarray
    high: np.ndarray
    drops: np.ndarray
    score: float
    metric: str
    rows: int
    provenance: Provenance

    def __post_init__(self) -> None:
        for array in (self.values, self.stderr, self.low, self.high, self.drops):
            array.setflags(write=False)

    @property
    def order(self) -> np.ndarray:
        """Positions of the columns, the most important first."""
        return np.argsort(-self.values, kind="stable")

    def to_frame(self) -> pd.DataFrame:
        """One row per column, the most important first."""
        import pandas as pd

        columns = {"feature": list(self.names), "importance": self.values, "stderr": self.stderr, "low": self.low, "high": self.high}
        return pd.DataFrame(columns).iloc[self.order].reset_index(drop=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as one JSON file."""
        return saving.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PermutationImportance:
        """Read what :meth:`save` wrote. Raises InvalidInput, CorruptFile."""
        found = saving.load(path, cls.__name__)
        arrays = {name: np.array(found[name], dtype=float) for name in ("values", "stderr", "low", "high", "drops")}
        return cls(**{**found, **arrays, "names": tuple(found["names"]), "provenance": saving.provenance(found["provenance"])})


def permutation_importance(
    model: Any,
    data: Any,
    labels: Any,
    *,
    metric: Any = "auto",
    repeats: int = 10,
    groups: Mapping[str, Sequence[Any]] | None = None,
    rows: int | None = ROWS,
    seed: int = 0,
    progress: Any = False,
) -> PermutationImportance:
    r"""How much worse the model predicts when one column's values are dealt out anew among the rows.

    .. math:: s(y, f(X)) - \frac1R \sum_r s(y, f(X^{(j, r)}))

    with X^{(j, r)} the table whose column j is permuted (Breiman 2001; Fisher, Rudin & Dominici 2019). The same permutations
    serve all columns, and are scikit-learn's for the same seed. Two columns that say the same hide each other: permute them
    together with ``groups={"address": ["street", "town"]}`` (columns in no group stand alone). Intervals come from leaving out
    each of 20 blocks of rows (jackknife; Student's t).

    Parameters
    ----------
    labels : one per row: class names or numbers, or the true value.
    metric : "accuracy", "balanced_accuracy", "log_loss", "brier", "roc_auc"; "r2", "squared_error", "absolute_error"; a
        function ``(labels, scores) -> number`` of which more is better; "auto" is accuracy or R2.
    rows : at most so many are drawn; None uses all.

    Raises InvalidInput, UnknownName, Unsupported.
    """
    started = time.perf_counter()
    model = tabular(model, "Permutation importance")
    if isinstance(repeats, bool) or not isinstance(repeats, (int, np.integer)) or repeats < 1:
        raise InvalidInput(f"repeats={repeats!r} is how often each column is permuted; a whole number from 1 on is needed.")
    if data is None:
        raise InvalidInput("Permutation importance needs rows with labels; pass data and labels.")
    measure = metric_of(model, metric)
    y = labels_of(model, labels, len(model.canonical(data)))
    frame, chosen = rows_of(model, data, rows, seed)
    y = y[chosen]
    parts = _parts(frame, groups)
    orders = _orders(len(frame), int(repeats), seed)
    goal, _ = goal_of(model, "all")
    with reporter(progress, "Permutation importance") as report:
        scale = "raw" if model.task == "regression" else "probability"
        score = Scorer(model, goal, scale, report, len(frame) * (1 + len(parts) * int(repeats)))
        at = score(frame)
        told = np.isfinite(at).all(axis=1)
        if told.sum() < 2:
            raise InvalidInput(f"{model.name} could score {int(told.sum())} of {len(frame)} rows: {score.why}")
        blocks = np.random.default_rng([seed, len(frame)]).permutation(len(frame)) % min(BLOCKS, len(frame))
        drops, errors = np.empty((len(parts), int(repeats))), np.empty(len(parts))
        for k, places in enumerate(parts.values()):
            permuted = _permuted(frame, places, orders, score)
            drops[k], errors[k] = _compared(measure, y, at, permuted, blocks)
    from scipy.stats import t

    values, reach = drops.mean(axis=1), float(t.ppf(0.975, blocks.max())) * errors
    parameters = {"metric": measure.name, "repeats": int(repeats), "rows": len(frame), "groups": dict(groups or {})}
    return PermutationImportance(
        names=tuple(parts), values=values, stderr=errors, low=values - reach, high=values + reach, drops=drops,
        score=measure.sign * measure.score(y[told], at[told]), metric=measure.name, rows=len(frame),
        provenance=stamp(model, "permutation importance", frame, seed, score.evaluations, started, parameters, score.notes()),
    )  # fmt: skip


def _parts(frame: pd.DataFrame, groups: Mapping[str, Sequence[Any]] | None) -> dict[str, list[int]]:
    """Positions of the columns permuted together, per name; a group stands where its first column does."""
    owner: dict[int, str] = {}
    for name, members in (groups or {}).items():
        for member in [members] if isinstance(members, str) else members:
            place = position(frame, member)
            if place in owner:
                raise InvalidInput(f"groups= puts the column {frame.columns[place]!r} in two groups: {owner[place]!r} and {name!r}.")
            owner[place] = str(name)
    parts: dict[str, list[int]] = {}
    for place, column in enumerate(frame.columns):
        parts.setdefault(owner.get(place, str(column)), []).append(place)
    return parts


def _orders(n: int, repeats: int, seed: int) -> np.ndarray:
    """Permutations ``(repeats, n)``, each made from the one before, by scikit-learn's law."""
    first = np.random.RandomState(seed).randint(np.iinfo(np.int32).max + 1)
    draw, shuffled = np.random.RandomState(first), np.arange(n)
    orders, place = np.empty((repeats, n), dtype=np.int64), np.arange(n)
    for r in range(repeats):
        draw.shuffle(shuffled)
        place = place[shuffled]
        orders[r] = place
    return orders


def _permuted(frame: pd.DataFrame, places: Sequence[int], orders: np.ndarray, score: Scorer) -> np.ndarray:
    """Scores ``(repeats, n, outputs)`` with the columns at ``places`` permuted, several permutations in one batch."""
    n, at_once, parts = len(frame), max(1, ROWS_AT_ONCE // len(frame)), []
    for start in range(0, len(orders), at_once):
        chosen = orders[start : start + at_once]
        many = frame.iloc[np.tile(np.arange(n), len(chosen))].reset_index(drop=True)
        for place in places:
            many[frame.columns[place]] = frame.iloc[:, place].array.take(chosen.ravel())
        parts.append(score(many).reshape(len(chosen), n, -1))
    return np.concatenate(parts)


def _compared(measure: Metric, y: np.ndarray, at: np.ndarray, permuted: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, float]:
    """The drop per repeat ``(repeats,)``, and the standard error of their mean from leaving out each block of rows."""
    told = np.isfinite(at).all(axis=1) & np.isfinite(permuted).all(axis=(0, 2))

    def drops(kept: np.ndarray) -> np.ndarray:
        whole = measure.score(y[kept], at[kept])
        return np.array([whole - measure.score(y[kept], one[kept]) for one in permuted])

    without = np.array([drops(told & (blocks != b)).mean() for b in range(blocks.max() + 1)])
    without = without[np.isfinite(without)]
    if len(without) < 2:
        return drops(told), float("nan")
    return drops(told), float(np.sqrt((len(without) - 1) / len(without) * ((without - without.mean()) ** 2).sum()))
