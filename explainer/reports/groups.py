"""Figures per protected group: rates of selection or prediction with intervals, error rates, small cells named and not shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.metrics import bounds, worth
from explainer.reports.wording import clean

SUPPRESSED_BELOW = 10
SMALL_BELOW = 30
SMALL_SHARE = 0.02
CROSSED = 3  # attributes taken in pairs
MOST_CELLS = 24  # of a pair of attributes
MISSING = "unknown"


def frame_of(groups: Any, rows: int) -> Any:
    """``groups`` as a DataFrame with one row per row of the data. Raises InvalidInput."""
    import pandas as pd

    frame = groups.to_pandas() if hasattr(groups, "to_pandas") and not isinstance(groups, pd.DataFrame) else groups
    if isinstance(frame, pd.Series):
        frame = frame.to_frame()
    if not isinstance(frame, pd.DataFrame):
        try:
            frame = pd.DataFrame(frame)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"groups must be a DataFrame of protected attributes, one row per row of the data; {error}.") from None
    if len(frame) != rows:
        raise InvalidInput(f"groups has {len(frame)} rows and the data {rows}; pass one row of attributes per row of the data.")
    if not len(frame.columns):
        raise InvalidInput("groups has no columns; name at least one protected attribute, or leave groups out.")
    return frame.reset_index(drop=True)


def units_of(units: Any, rows: int) -> tuple[np.ndarray | None, str]:
    """The number ``(n,)`` of whom each row is of, from 0, and what they are called. Raises InvalidInput."""
    import pandas as pd

    if units is None:
        return None, ""
    given = units.to_pandas() if hasattr(units, "to_pandas") else units
    if isinstance(given, pd.DataFrame) or getattr(given, "ndim", 1) > 1:
        shape = given.shape
        if shape[1:] != (1,):
            raise InvalidInput(f"units has shape {shape} for {rows} rows of data; pass one value per row, as a column of patients.")
        given = given.iloc[:, 0] if isinstance(given, pd.DataFrame) else np.ravel(given)
    try:
        column = given if isinstance(given, pd.Series) else pd.Series(given)
        numbered = pd.factorize(column, sort=False)[0].astype(np.int64)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise InvalidInput(f"units must name whom each row is of, one value per row of the data; {error}.") from None
    if len(column) != rows:
        raise InvalidInput(f"units has shape {column.shape} for {rows} rows of data; pass one value per row, as a column of patients.")
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise InvalidInput(f"units row {missing[0]} is missing ({len(missing)} in all); name whom every row is of, or leave units out.")
    return numbered, clean(column.name) if column.name is not None else "unit"


def favourable_of(favourable: Any, task: str, class_names: tuple[str, ...]) -> int | str | None:
    """The outcome that is good for the person: a class by name or index, of a regression "high" or "low"; None where it is not named.

    It is never guessed: which of two classes is good decides which group is disadvantaged. Raises UnknownName.
    """
    if favourable is None:
        return None
    if task == "regression":
        if favourable not in ("high", "low"):
            raise unknown("favourable outcome of a regression", favourable, ("high", "low"))
        return str(favourable)
    if isinstance(favourable, (int, np.integer)) and not isinstance(favourable, bool) and 0 <= favourable < len(class_names):
        return int(favourable)
    if str(favourable) in class_names:
        return class_names.index(str(favourable))
    raise unknown("favourable class", favourable, class_names)


@dataclass(frozen=True)
class Decisions:
    """What is counted per group, each ``(n,)`` or None where it has no meaning.

    ``selected``: the model gives the favourable outcome; ``good``: the label is favourable; ``right``: the prediction is right;
    ``error``: absolute error of a regression; ``estimate``: its prediction. ``predicted``: per class, whether it is predicted.
    """

    selected: np.ndarray | None = None
    good: np.ndarray | None = None
    right: np.ndarray | None = None
    error: np.ndarray | None = None
    estimate: np.ndarray | None = None
    predicted: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: np.ndarray | None = None  # whose each row is, where rows of one are alike
    counted: str = "rows"  # what is counted: rows, or whom they are of

    def count(self, inside: np.ndarray) -> int:
        """How many rows, or units where they are known, there are among those ``inside``."""
        return int(inside.sum()) if self.units is None else len(np.unique(self.units[inside]))

    def proportion(self, name: str, hits: np.ndarray, inside: np.ndarray) -> dict[str, float | int | None]:
        """The share of ``hits`` inside, with its interval, the rows it is of and what they are worth; of too few, their number alone."""
        n, units = int(inside.sum()), None if self.units is None else self.units[inside]
        if self.count(inside) < SUPPRESSED_BELOW:
            return {name: None, f"{name}_low": None, f"{name}_high": None, f"{name}_n": n}
        low, high = bounds(hits[inside], units)
        found: dict[str, float | int | None] = {name: float(hits[inside].mean()), f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}
        return found if units is None else {**found, f"{name}_worth": worth(hits[inside], units)}


def decisions(scores: np.ndarray, labels: np.ndarray | None, favourable: int | str | None, class_names: tuple[str, ...]) -> Decisions:
    """What a classification's scores ``(n, classes)`` decide, ``favourable`` a class or None."""
    predicted = scores.argmax(1)
    return Decisions(
        selected=None if favourable is None else predicted == favourable,
        good=None if favourable is None or labels is None else labels == favourable,
        right=None if labels is None else predicted == labels,
        predicted={clean(name): predicted == k for k, name in enumerate(class_names)},
    )


def estimates(scores: np.ndarray, labels: np.ndarray | None, favourable: int | str | None) -> Decisions:
    """What a regression's scores ``(n, 1)`` decide: selected is what lies on the favourable side of the median (scoring rate)."""
    values = scores[:, 0]
    middle = np.median(values)
    return Decisions(
        selected=None if favourable is None else values > middle if favourable == "high" else values < middle,
        error=None if labels is None else np.abs(values - labels),
        estimate=values,
    )


def values_of(column: Any) -> tuple[np.ndarray, str]:
    """Each row's group as text, missing ones as "unknown"; a number with many values is cut into quarters (and says so)."""
    import pandas as pd

    missing = column.isna().to_numpy()
    note = ""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column) and column.nunique() > 8:
        numbers = column.to_numpy(dtype=float, na_value=np.nan)
        edges = np.unique(np.nanquantile(numbers, [0, 0.25, 0.5, 0.75, 1]))
        names = [f"{'over ' if k else ''}{a:g} to {b:g}" for k, (a, b) in enumerate(pairwise(edges))]
        quarter = np.clip(np.searchsorted(edges, np.nan_to_num(numbers, nan=edges[0]), side="left") - 1, 0, len(names) - 1)
        text = np.array([names[k] for k in quarter], dtype=object)
        note = "cut into quarters"
    else:
        text = np.array([_label(v) for v in column], dtype=object)
    text[missing] = MISSING
    return text, note


def coarse(groups: Any) -> Any:
    """The same attributes with the groups as they are tabulated: numbers cut into quarters."""
    import pandas as pd

    return pd.DataFrame({name: values_of(groups[name])[0] for name in groups.columns}, index=groups.index)


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def by_group(groups: Any, found: Decisions) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """One table per attribute and per pair of attributes, and which intersections there are none of.

    Of more than three attributes those with the fewest groups are paired, of equals those whose smallest group is largest.
    """
    columns = {str(name): values_of(groups[name]) for name in groups.columns}
    tables = [_table(name, values, note, found) for name, (values, note) in columns.items()]
    fewest = sorted(columns, key=lambda name: _spread(columns[name][0]))[:CROSSED]
    crossed = [name for name in columns if name in fewest]
    lacking = []
    for a, b in combinations(crossed, 2):
        both = _crossed(columns[a][0], columns[b][0])
        if len(set(both)) <= MOST_CELLS:
            tables.append(_table(f"{a} × {b}", both, "", found))
        else:
            lacking.append({"topic": f"The intersection {clean(f'{a} × {b}')}", "reason": f"It has more than {MOST_CELLS} groups."})
    if len(columns) > 2:
        lacking.append({"topic": "Further intersections of protected attributes", "reason": _uncrossed(len(columns), crossed)})
    return tables, lacking


def _spread(values: np.ndarray) -> tuple[int, int]:
    counts = np.unique(values[values != MISSING].astype(str), return_counts=True)[1]
    return len(counts), -int(counts.min(initial=len(values)))


def _crossed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    both = np.array([f"{x} × {y}" for x, y in zip(a, b, strict=True)], dtype=object)
    both[(a == MISSING) | (b == MISSING)] = MISSING
    return both


def _uncrossed(attributes: int, crossed: list[str]) -> str:
    if attributes <= CROSSED:
        return "Attributes are taken in pairs, never three together."
    named = ", ".join(clean(name) for name in crossed)
    said = f"Of {attributes} attributes only {named} are taken in pairs, those with the fewest and evenest groups"
    return f"{said}; never three together. Name others, at most {CROSSED}, as groups (--group)."


def _table(name: str, values: np.ndarray, note: str, found: Decisions) -> dict[str, Any]:
    rows = [_row(value, values == value, len(values), found) for value in _ordered(values)]
    return {"attribute": name, "note": note, "counted": found.counted, "unknown": int((values == MISSING).sum()), "groups": rows}


def _ordered(values: np.ndarray) -> list[str]:
    def key(value: str) -> tuple[bool, float, str]:
        head = value.removeprefix("over ").split(" ")[0]
        number = float(head) if head.replace(".", "", 1).replace("-", "", 1).isdigit() else 0.0
        return value == MISSING, number, value

    return sorted(set(values), key=key)


def _row(value: str, inside: np.ndarray, n: int, found: Decisions) -> dict[str, Any]:
    rows, count = int(inside.sum()), found.count(inside)
    row: dict[str, Any] = {"group": value, "n": rows, "share": rows / n, "suppressed": count < SUPPRESSED_BELOW,
                           "small": count < SMALL_BELOW or rows < SMALL_SHARE * n}  # fmt: skip
    if found.units is not None:
        row["units"] = count
    if row["suppressed"]:
        return row
    if found.selected is not None:
        row.update(found.proportion("selection", found.selected, inside))
        if found.good is not None:
            row.update(found.proportion("true_positive", found.selected, inside & found.good))
            row.update(found.proportion("false_positive", found.selected, inside & ~found.good))
    if found.predicted:
        row["predicted"] = {name: found.proportion("rate", hits, inside) for name, hits in found.predicted.items()}
    if found.right is not None:
        row.update(found.proportion("accuracy", found.right, inside))
    if found.error is not None:
        row["mae"] = float(found.error[inside].mean())
    if found.estimate is not None:
        row["estimate"] = float(found.estimate[inside].mean())
    return row
