"""What the numbers are that a model seen from outside gives: told by the person, or certain from the numbers, never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.errors import InvalidInput
from explainer.model import Returns

_SUMS = 1e-3  # how far from 1 the probabilities of a row may sum
_ASK = "Say what they are: returns='logit' (softmax makes them probabilities), returns='probability', or task='regression' for values."


def returned(rows: np.ndarray, told: Returns | None, task: str | None, what: str) -> Returns:
    """What ``rows`` (n, outputs) of ``what`` are: as told, or "probability" where every row lies in [0, 1] and sums to 1.

    Raises InvalidInput where that is not certain, or where probabilities were promised and others came.
    """
    if task == "regression" or told == "value":
        return "value"
    if told == "logit":
        return told
    if told == "probability":
        check_probabilities(rows, what)
        return told
    if rows.shape[1] > 1 and _between(rows) and np.allclose(rows.sum(1), 1, atol=_SUMS):
        return "probability"
    shown = ", ".join(f"{value:.3g}" for value in rows[0][:4]) + (", ..." if rows.shape[1] > 4 else "")
    why = (
        "one number per row may be a probability, a logit or a value"
        if rows.shape[1] == 1
        else "the rows are not probabilities that sum to 1"
    )
    raise InvalidInput(f"What {what} gives cannot be told: {why} (the first row is {shown}). {_ASK}")


def held(rows: np.ndarray, told: Returns | None, what: str) -> None:
    """Raise InvalidInput where scores of a classifier are not what they were told, or seemed, to be; rows with NaN are for others."""
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows):
        returned(rows, told, None, what)


def check_probabilities(rows: np.ndarray, what: str) -> None:
    """Raise InvalidInput where numbers that were called probabilities lie outside [0, 1]; NaN is for others to judge."""
    outside = rows[(rows < -_SUMS) | (rows > 1 + _SUMS)]
    if outside.size:
        raise InvalidInput(f"{what} was said to give probabilities, and gave {outside[0]:.4g}. {_ASK}")


def names_of_classes(told: Sequence[str] | None, width: int, task: str, what: str) -> list[str]:
    """The names told, held against the number of outputs, or numbered ones. One column may stand for two classes."""
    if told is None:
        if task == "regression":
            return ["value"] if width == 1 else [f"output {j}" for j in range(width)]
        return [f"class {j}" for j in range(max(2, width))]
    names = [told] if isinstance(told, str) else [str(name) for name in told]
    one_for_two = width == 1 and len(names) == 2 and task == "classification"
    if len(names) != width and not one_for_two:
        raise InvalidInput(f"{what} has {width} outputs, but {len(names)} class_names came ({', '.join(names[:6])}).")
    return names


def as_rows(scores: Any, n: int, what: str) -> np.ndarray:
    """Scores as float64 ``(n, outputs)``; trailing axes of length 1 are dropped. Raises InvalidInput for another shape."""
    array = np.asarray(scores, dtype=np.float64)
    while array.ndim > 2 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim == 1 and len(array) == n:
        array = array[:, None]
    if array.ndim != 2 or len(array) != n:
        raise InvalidInput(f"{what} gave scores of shape {array.shape} for {n} inputs; (n,) or (n, outputs) is needed.")
    return array


def _between(rows: np.ndarray) -> bool:
    return bool(((rows >= -1e-6) & (rows <= 1 + 1e-6)).all())
