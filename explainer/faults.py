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
        raise Hangs(f"The model gave no answer within the time limit of {seconds:g} s.")
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


def score_each(model: Any, rows: Any, output: str, time_limit: float | None = None) -> tuple[np.ndarray, dict[int, str]]:
    """Scores of every row that can be scored, NaN for the others, and per row of those the reason in words.

    A batch that fails is cut in two until the rows at fault stand alone, so the others are kept.
    """
    try:
        scores = model_scores(model, rows, output, time_limit)
        lost = np.flatnonzero(~np.isfinite(scores).all(axis=1))
        return scores, {int(row): model.unscorable(rows, int(row)) for row in lost}
    except (Cancelled, Unreachable):
        raise
    except Exception as error:
        if len(rows) == 1:
            return np.full((1, len(model.class_names)), np.nan), {0: reason(error)}
    half = len(rows) // 2
    first, faults = score_each(model, take(rows, slice(0, half)), output, time_limit)
    second, later = score_each(model, take(rows, slice(half, None)), output, time_limit)
    return np.concatenate([first, second]), {**faults, **{row + half: why for row, why in later.items()}}


def reason(error: BaseException) -> str:
    """An error in one sentence; an error made for people speaks for itself."""
    text = str(error).strip()
    return text if isinstance(error, InvalidInput) else f"The model raised {type(error).__name__}: {text or 'without a message'}"
