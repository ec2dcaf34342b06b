"""What a model does wrong while it is asked: it raises, hangs, runs out of memory, or gives no numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from explainer.errors import Cancelled, ExplainerError, InvalidInput
from explainer.inputs import take

T = TypeVar("T")
_MEMORY = ("out of memory", "not enough memory", "can't allocate", "alloc_cpu")


class Hangs(InvalidInput):
    """The model did not answer within the time limit."""


class Unreachable(ExplainerError):
    """A model elsewhere cannot be asked: no input is to blame, and asking for each alone would not help."""


class Dead(Hangs):
    """The model answered none of the rows tried, alone or together."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on the CPU or on a GPU."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _MEMORY)


def within(seconds: float | None, call: Callable[[], T]) -> T:
    """``call()``, or Hangs after ``seconds``; the thread that hangs is left behind, for nothing can stop it."""
    if seconds is None:
        return call()
    result: list[T] = []
    error: list[BaseException] = []

    def work() -> None:
        try:
            result.append(call())
        except BaseException as raised:
            error.append(raised)

    thread = threading.Thread(target=work, daemon=True, name="model")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise Hangs(f"The model hangs: it gave no answer within the time limit of {seconds:g} s.")
    if error:
        raise error[0]
    return result[0]


def model_scores(model: Any, rows: Any, output: str, time_limit: float | None = None, at_once: int | None = None) -> np.ndarray:
    """Scores ``(n, outputs)`` of canonical rows on the scale ``output``; NaN is passed on. Raises what the model raises."""
    scores = np.asarray(model.rescale(np.asarray(within(time_limit, lambda: model.raw(rows, at_once)), dtype=np.float64), output))
    if scores.shape != (len(rows), len(model.class_names)):
        raise InvalidInput(
            f"The model gave scores of shape {scores.shape} for {len(rows)} inputs and {len(model.class_names)} named "
            f"outputs ({', '.join(model.class_names[:6])}); check class_names and what the model returns."
        )
    return scores


def score_each(
    model: Any, rows: Any, output: str, time_limit: float | None = None, halted: Callable[[], bool] = lambda: False
) -> tuple[np.ndarray, dict[int, str]]:
    """Scores of every row that can be scored, NaN for the others, and per row of those the reason in words.

    A batch that fails is cut in two until the rows at fault stand alone, so the others are kept. Where it hangs, a few of its rows
    are tried alone first: a model that answers none of them would only be waited for again and again. ``halted`` ends the search;
    the rows it did not come to have no reason.
    """
    try:
        return _scored(model, rows, output, time_limit)
    except (Cancelled, Unreachable):
        raise
    except Exception as error:
        if len(rows) == 1:
            return _nothing(model, 1), {0: reason(error)}
        if isinstance(error, Hangs):
            hung = _hanging(model, rows, output, time_limit, halted)
            if hung:
                return _nothing(model, len(rows)), dict.fromkeys(range(len(rows)), hung)
    half = len(rows) // 2
    scores, faults = _nothing(model, len(rows)), {}
    for part in (slice(0, half), slice(half, len(rows))):
        if halted():
            break
        scores[part], found = score_each(model, take(rows, part), output, time_limit, halted)
        faults.update({part.start + row: why for row, why in found.items()})
    return scores, faults


def _scored(model: Any, rows: Any, output: str, time_limit: float | None) -> tuple[np.ndarray, dict[int, str]]:
    scores = model_scores(model, rows, output, time_limit)
    lost = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    return scores, {int(row): model.unscorable(rows, int(row)) for row in lost}


def _nothing(model: Any, n: int) -> np.ndarray:
    return np.full((n, len(model.class_names)), np.nan)


def _hanging(model: Any, rows: Any, output: str, time_limit: float | None, halted: Callable[[], bool]) -> str:
    """Why a model counts as hanging that answered none of a few of ``rows`` alone; "" where it answers one of them."""
    tried, why = sorted({0, len(rows) // 2, len(rows) - 1}), ""
    for row in tried:
        if halted():
            break
        try:
            _scored(model, take(rows, slice(row, row + 1)), output, time_limit)
        except Hangs as error:
            why = str(error)
        except Exception:  # an answer of a kind: it is looked at when the row's turn comes
            return ""
        else:
            return ""
    return "" if halted() else f"{why} So it was for {len(rows)} rows, and for {len(tried)} of them alone."


def reason(error: BaseException) -> str:
    """An error in one sentence; an error made for people speaks for itself."""
    text = str(error).strip()
    return text if isinstance(error, InvalidInput) else f"The model raised {type(error).__name__}: {text or 'without a message'}"
