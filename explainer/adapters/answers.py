"""What is said to an endpoint and back: batches as JSON, and the scores in an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainer.errors import InvalidInput

REQUESTS = ("instances", "inputs", "records", "dataframe_split")
_KEYS = ("predictions", "outputs", "probabilities", "scores", "logits", "instances", "data")


def rows_of(given: Any, form: str) -> dict[str, Any]:
    """The body of a request for one batch; missing values of a table go as null."""
    if form in ("records", "dataframe_split"):
        if not hasattr(given, "columns"):
            raise InvalidInput(f"request={form!r} is for tables; use 'instances', 'inputs' or a function.")
        values, columns = _listed(given), [str(c) for c in given.columns]
        if form == "dataframe_split":
            return {form: {"columns": columns, "data": values}}
        return {"instances": [dict(zip(columns, row, strict=True)) for row in values]}
    return {form: _listed(given)}


def _listed(given: Any) -> list[Any]:
    if hasattr(given, "columns"):
        plain = given.astype(object)
        return [[_plain(value) for value in row] for row in plain.where(given.notna(), None).to_numpy().tolist()]
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    return given.tolist() if isinstance(given, np.ndarray) else [one.tolist() if isinstance(one, np.ndarray) else one for one in given]


def _plain(value: Any) -> Any:
    return (
        value.item() if isinstance(value, np.generic) else value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
    )


def scores_in(answer: Any, key: str, class_names: Sequence[str], what: str) -> np.ndarray:
    """The scores in an answer: numbers, one list of numbers, one map label -> score, or a list of {label, score} per row.

    null becomes NaN. Raises InvalidInput that shows what came.
    """
    found = answer
    if isinstance(answer, Mapping):
        known = [name for name in _KEYS if name in answer] if key == "auto" else [key] if key in answer else []
        if not known:
            wanted = f"one of {', '.join(_KEYS)}" if key == "auto" else repr(key)
            raise InvalidInput(
                f"{what} answered an object with {_shown(list(answer))}; {wanted} is looked for. Pass response= (a key, or a function)."
            )
        found = answer[known[0]]
    elif key != "auto":
        raise InvalidInput(f"{what} answered {type(answer).__name__}, and response={key!r} names a key of an object.")
    if not isinstance(found, list):
        raise InvalidInput(f"{what} answered {_shown(found)} where a list with one entry per row is needed.")
    rows = [_row(one, class_names, what) for one in found]
    if len({len(row) for row in rows}) > 1:
        raise InvalidInput(f"{what} answered rows of {sorted({len(row) for row in rows})} scores; each must have as many.")
    return np.array(rows, dtype=np.float64)


def _row(one: Any, class_names: Sequence[str], what: str) -> list[float]:
    if isinstance(one, list) and one and isinstance(one[0], Mapping):
        if not all("label" in part and "score" in part for part in one):
            raise InvalidInput(f"{what} answered {_shown(one)} for a row; objects need a label and a score. Pass response=.")
        one = {part["label"]: part["score"] for part in one}
    if isinstance(one, Mapping):
        missing = [name for name in class_names if name not in one]
        if missing:
            raise InvalidInput(
                f"{what} answered scores for {_shown(list(one))}, and {missing[0]!r} of class_names is not among them; name the classes "
                "as the endpoint does."
            )
        one = [one[name] for name in class_names]
    if not isinstance(one, list):
        one = [one]
    while len(one) == 1 and isinstance(one[0], list):
        one = one[0]
    return [_number(value, what) for value in one]


def _number(value: Any, what: str) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInput(f"{what} answered {_shown(value)} where a number is needed. Pass response=, a function that finds the scores.")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _shown(value: Any) -> str:
    text = ", ".join(map(repr, value[:6])) if isinstance(value, list) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
