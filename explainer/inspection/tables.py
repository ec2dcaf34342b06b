"""What the views of a table share: which rows, which output, new values in a column, and scores in a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from explainer import inputs as inputs_
from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.explanation import Provenance, versions
from explainer.faults import score_each
from explainer.inputs import take
from explainer.model import Model, wrap
from explainer.progress import Report
from explainer.target import Target, resolve

if TYPE_CHECKING:
    import pandas as pd

ROWS_AT_ONCE = 8192


def tabular(model: Any, what: str) -> Model:
    """The model behind its face. Raises Unsupported when it takes something else than a table."""
    model = model if isinstance(model, Model) else wrap(model)
    if model.modality != "tabular":
        raise Unsupported(f"{what} is for tables, where a column has a meaning of its own; {model.name} takes {model.modality} inputs.")
    return model


def rows_of(model: Model, data: Any, most: int | None, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Canonical rows of ``data`` (the model's background without), at most ``most`` drawn with ``seed``, and their numbers."""
    frame = model.background if data is None else model.canonical(data)
    if frame is None:
        raise InvalidInput(f"{model.name} brings no rows to look at; pass data=rows.")
    if most is None or len(frame) <= most:
        return frame.reset_index(drop=True), np.arange(len(frame))
    if most < 1:
        raise InvalidInput(f"rows={most} is the number of rows used; it is at least 1.")
    chosen = np.sort(np.random.default_rng(seed).choice(len(frame), most, replace=False))
    return take(frame, chosen).reset_index(drop=True), chosen


def position(frame: pd.DataFrame, column: Any) -> int:
    """Where a column stands, by its name or its number. Raises UnknownName."""
    names = list(frame.columns)
    if column in names:
        return names.index(column)
    if isinstance(column, (int, np.integer)) and not isinstance(column, bool) and 0 <= column < len(names):
        return int(column)
    raise unknown("column", column, names)


def is_category(column: pd.Series) -> bool:
    """Whether values are names rather than amounts: text, categories, true and false."""
    import pandas as pd

    return not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)


def is_whole(column: pd.Series) -> bool:
    """Whether a column holds whole numbers by its type."""
    import pandas as pd

    return not is_category(column) and pd.api.types.is_integer_dtype(column)


def levels(column: pd.Series) -> np.ndarray:
    """The values seen, sorted; those of an ordered category in its own order. Missing is none."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        seen = set(column.dropna())
        order = [v for v in column.cat.categories if v in seen]
    else:
        order = list(column.dropna().unique())
    if not (isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered):
        try:
            order = sorted(order)
        except TypeError:
            order = sorted(order, key=str)
    found = np.empty(len(order), dtype=object)
    found[:] = order
    return found


def cells(values: Sequence[Any] | np.ndarray, like: pd.Series) -> pd.Series:
    """``values`` as a column of the type of ``like``, numbered from 0; never another type that they look like."""
    import pandas as pd

    if isinstance(like.dtype, np.dtype) and like.dtype != object:
        return pd.Series(np.asarray(values).astype(like.dtype))
    return pd.Series(list(values), dtype=like.dtype)


class Scorer:
    """Target values of tables, in batches, with progress; a row that cannot be scored is NaN and counted."""

    def __init__(self, model: Model, target: Target, output: str, report: Report, total: int) -> None:
        self.model, self.target, self.output = model, target, output
        self.evaluations, self.lost = 0, 0
        self.why = ""
        self._report, self._total = report, total

    def __call__(self, frame: pd.DataFrame) -> np.ndarray:
        """Values ``(rows, k)``."""
        parts = []
        for start in range(0, len(frame), ROWS_AT_ONCE):
            scores, faults = score_each(self.model, take(frame, slice(start, start + ROWS_AT_ONCE)), self.output)
            if faults:
                self.lost += len(faults)
                self.why = self.why or next(iter(faults.values()))
            told = np.isfinite(scores).all(axis=1)
            values = np.full((len(scores), self.target.k), np.nan)
            if told.any():
                values[told] = self.target(scores[told], 0)
            parts.append(values)
            self.evaluations += len(scores)
            self._report(self.evaluations, max(self._total, self.evaluations))
        return np.concatenate(parts)

    def notes(self) -> tuple[str, ...]:
        """What went wrong, in words."""
        return (f"{self.lost} of {self.evaluations} rows could not be scored and are left out: {self.why}",) if self.lost else ()


def goal_of(model: Model, target: Any) -> tuple[Target, tuple[str, ...]]:
    """The outputs followed, the same for all rows: "auto" is the second of two classes, else every output.

    Raises InvalidInput for "predicted": a curve through rows with different predictions would follow no one number.
    """
    names = model.class_names
    if isinstance(target, str) and target == "auto":
        target = 1 if len(names) == 2 and model.task == "classification" else "all"
    if isinstance(target, str) and target == "predicted" and target not in names:
        raise InvalidInput(f"target='predicted' differs from row to row; name one output ({', '.join(names[:8])}), or 'all'.")
    goal = resolve(target, np.full((1, len(names)), 1 / len(names)), names)
    every = isinstance(target, str) and target == "all"
    return goal, names if every else goal.labels[:1]


def scale_of(model: Model, output: str) -> str:
    """The scale asked for; "auto" is the probability of a class or the value of a regression."""
    if output not in ("auto", "probability", "logit", "raw"):
        raise unknown("output", output, ("auto", "probability", "logit", "raw"))
    return "raw" if model.task == "regression" else "probability" if output == "auto" else output


def stamp(
    model: Model, method: str, data: Any, seed: int, evaluations: int, started: float, parameters: dict[str, Any], notes: Iterable[str] = ()
) -> Provenance:
    """What was really done."""
    return Provenance(
        method=method, parameters=parameters, seed=seed, evaluations=evaluations, seconds=time.perf_counter() - started,
        device=str(model.device), versions=versions("scikit-learn", "torch"), model_sha256=model.fingerprint(),
        inputs_sha256=inputs_.sha256(data), notes=tuple(notes),
    )  # fmt: skip


Score = Callable[["pd.DataFrame"], np.ndarray]
