"""Figures per protected group: selection rates with intervals, ratios against the best group, error rates, small cells named.

The ratio is the one of the four-fifths rule (29 CFR 1607.4(D)) and of New York City's bias audits (6 RCNY 5-301); both are
measures, and whether they apply is not decided here.
"""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.metrics import Z, wilson

SUPPRESSED_BELOW = 10
SMALL_BELOW = 30
SMALL_SHARE = 0.02
FOUR_FIFTHS = 0.8
SIGNIFICANCE = 0.05
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


def favourable_index(favourable: Any, class_names: tuple[str, ...]) -> int | None:
    """The class that is good for the person: as named; else the second of two classes; else unknown (None)."""
    if favourable is None:
        return 1 if len(class_names) == 2 else None
    if isinstance(favourable, (int, np.integer)) and not isinstance(favourable, bool) and 0 <= favourable < len(class_names):
        return int(favourable)
    if str(favourable) in class_names:
        return class_names.index(str(favourable))
    raise unknown("favourable class", favourable, class_names)


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


def by_group(
    groups: Any, selected: np.ndarray | None, good: np.ndarray | None, right: np.ndarray | None, error: np.ndarray | None
) -> list[Any]:
    """One table per attribute, and per pair of attributes when there are two or three.

    ``selected``: the model gives the favourable outcome; ``good``: the label is favourable; ``right``: prediction is right;
    ``error``: absolute error of a regression; each ``(n,)`` or None where it has no meaning.
    """
    columns = {str(name): values_of(groups[name]) for name in groups.columns}
    tables = [_table(name, values, note, selected, good, right, error) for name, (values, note) in columns.items()]
    if 2 <= len(columns) <= 3:
        for (a, (va, _)), (b, (vb, _)) in combinations(columns.items(), 2):
            both = np.array([f"{x} × {y}" for x, y in zip(va, vb, strict=True)], dtype=object)
            both[(va == MISSING) | (vb == MISSING)] = MISSING
            if len(set(both)) <= 24:
                tables.append(_table(f"{a} × {b}", both, "", selected, good, right, error))
    return tables


def _table(name: str, values: np.ndarray, note: str, selected: Any, good: Any, right: Any, error: Any) -> dict[str, Any]:
    n = len(values)
    rows = [_row(value, values == value, n, selected, good, right, error) for value in _ordered(values)]
    table: dict[str, Any] = {"attribute": name, "note": note, "unknown": int((values == MISSING).sum()), "groups": rows}
    if selected is None:
        table.update(
            best=None, lowest=None, status="not run", reason="No favourable class is named, so there is no selection rate to compare."
        )
        return table
    counted = [row for row in rows if not row["small"] and row["group"] != MISSING]
    if len(counted) < 2:
        reason = f"Fewer than two known groups have at least {SMALL_BELOW} rows and {SMALL_SHARE:.0%} of all; no ratio is judged."
        table.update(best=None, lowest=None, status="not run", reason=reason)
        return table
    best = max(counted, key=lambda row: row["selection"])
    for row in rows:
        if row["group"] != MISSING and not row["suppressed"] and best["selection"] > 0:
            row.update(_ratio(row, best))
    return {**table, **_judgement(name, counted, best)}


def _ordered(values: np.ndarray) -> list[str]:
    def key(value: str) -> tuple[bool, float, str]:
        head = value.removeprefix("over ").split(" ")[0]
        number = float(head) if head.replace(".", "", 1).replace("-", "", 1).isdigit() else 0.0
        return value == MISSING, number, value

    return sorted(set(values), key=key)


def _row(value: str, inside: np.ndarray, n: int, selected: Any, good: Any, right: Any, error: Any) -> dict[str, Any]:
    count = int(inside.sum())
    row: dict[str, Any] = {"group": value, "n": count, "share": count / n, "suppressed": count < SUPPRESSED_BELOW,
                           "small": count < SMALL_BELOW or count < SMALL_SHARE * n}  # fmt: skip
    if row["suppressed"]:
        return row
    if selected is not None:
        row.update(_proportion("selection", selected[inside]))
        if good is not None:
            row.update(_proportion("true_positive", selected[inside & good]))
            row.update(_proportion("false_positive", selected[inside & ~good]))
    if right is not None:
        row.update(_proportion("accuracy", right[inside]))
    if error is not None:
        row["mae"] = float(error[inside].mean())
    return row


def _proportion(name: str, hits: np.ndarray) -> dict[str, float | int | None]:
    n = len(hits)
    low, high = wilson(float(hits.sum()), n)
    rate = float(hits.mean()) if n else None
    return {name: rate, f"{name}_low": low if n else None, f"{name}_high": high if n else None, f"{name}_n": n}


def _ratio(row: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """Ratio of selection rates with its 95 % log interval (Katz et al. 1978) and Fisher's exact two-sided p."""
    from scipy.stats import fisher_exact

    ratio = row["selection"] / best["selection"]
    if row is best:
        return {"ratio": 1.0, "ratio_low": None, "ratio_high": None, "p": None}
    a, b = round(row["selection"] * row["n"]), round(best["selection"] * best["n"])
    p = float(fisher_exact([[a, row["n"] - a], [b, best["n"] - b]])[1])
    if a == 0:
        return {"ratio": ratio, "ratio_low": 0.0, "ratio_high": None, "p": p}
    half = Z * np.sqrt(1 / a - 1 / row["n"] + 1 / b - 1 / best["n"])
    return {"ratio": ratio, "ratio_low": float(ratio * np.exp(-half)), "ratio_high": float(ratio * np.exp(half)), "p": p}


def _judgement(name: str, counted: list[dict[str, Any]], best: dict[str, Any]) -> dict[str, Any]:
    """Fail: a counted group is under four fifths and the difference is significant; warn: under it, not significant."""
    if best["selection"] == 0:
        return {
            "best": None,
            "lowest": None,
            "status": "not run",
            "reason": "No group receives the favourable outcome, so there is no ratio.",
        }
    lowest = min(counted, key=lambda row: row["ratio"])
    facts = {"best": best["group"], "lowest": lowest["group"]}
    said = f"{name} “{lowest['group']}” is selected at {lowest['ratio']:.3g} times the rate of “{best['group']}”"
    if lowest["ratio"] >= FOUR_FIFTHS - 1e-12:  # 0.36 / 0.45 is four fifths, whatever the last bit says
        return {**facts, "status": "pass", "reason": f"{said}, at or above four fifths."}
    if lowest["p"] is not None and lowest["p"] < SIGNIFICANCE:
        return {
            **facts,
            "status": "fail",
            "reason": f"{said}, under four fifths, and the difference is significant (Fisher's exact p = {lowest['p']:.2g}).",
        }
    return {
        **facts,
        "status": "warn",
        "reason": f"{said}, under four fifths; with this many rows it may be chance (Fisher's exact p = {lowest['p']:.2g}).",
    }
