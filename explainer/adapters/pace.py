"""How many rows a model takes best at once: measured, and remembered on this machine.

A small convolution can be twice as fast at 64 rows as at 256, a wide linear layer the other way round. Texts and series of unequal
length go in the smallest batches that are as fast, for these pad least. A model seen from outside is never tried out: what it is asked
anyway is timed, and how many rows follow is remembered step by step. The figures are kept in the user's cache folder, so that the
same call scores the same batches, hence gives the same bits, in the next process too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from explainer.explanation import write_atomic
from explainer.inputs import take

FEWEST, MOST = 16, 4096
_FEWEST_UNEQUAL = 64  # padding is small from there on, and a trial disturbed by other work decides little
_LONGEST = 0.25  # seconds a trial may take; a slower model gains nothing from larger batches
_EQUAL = 1.15  # ratios below it count as noise
_FIRST = 64  # rows of a model seen from outside, before anything is known of it
_STALE = 4.0  # a call that would take so many times as long as it should, or could be twice that larger: the memory is of another model
_KNOWN: dict[str, int] = {}
_READ: list[Path] = []
_CLIMBED: weakref.WeakKeyDictionary[Any, dict[str, list[int]]] = weakref.WeakKeyDictionary()  # the steps of each model


def rows_at_once(describe: str, score: Callable[[Any], Any], inputs: Any, usual: int, most: int) -> int:
    """The measured figure for the module and kind of input that ``describe`` names; ``usual`` where nothing clearly beats it."""
    known, key = _known(), _key(describe, usual, most, FEWEST, _EQUAL)
    if key not in known:
        known[key] = _measure(score, inputs, usual, most)
        _write(known)
    return known[key]


class Ladder:
    """How many rows a model seen from outside is asked for in one call: 64, then as many as take ``patience`` seconds by the call before.

    Each step is decided once, by the clock, and remembered for the model; from then on it follows from the number of calls,
    and so do the batches and the bits. Where a call would be far from ``patience`` the step is decided anew.
    """

    def __init__(self, model: Any, inputs: Any, patience: float, most: int = MOST) -> None:
        self._model, self._kind, self._patience, self._most = model, f"{kind_of(inputs)} {patience:g}", patience, most
        self._steps: list[int] = []
        self._step = 0
        self.rows = _FIRST

    def climb(self, rows: int, seconds: float) -> None:
        """Told that a call of so many rows took so long; one of less than half the rows it might have had says nothing."""
        if 2 * rows < self.rows:
            return
        steps = self._steps = self._steps or self._recalled()
        following = steps[min(self._step + 1, len(steps) - 1)]
        allowed = self._patience * rows / seconds
        new = self._step + 1 >= len(steps) and not self._settled
        if new or following > _STALE * allowed or (2 * _STALE * following < allowed and following < self._most):
            del steps[self._step + 1 :]
            steps.append(min(self._most, 1 << max(0, int(allowed).bit_length() - 1)))
            self._remember()
        self._step = min(self._step + 1, len(steps) - 1)
        self.rows = steps[self._step]

    @property
    def _settled(self) -> bool:
        """Whether the last step was no step up, or cannot be followed by one."""
        return self._steps[-1] >= self._most or (len(self._steps) > 1 and self._steps[-1] <= self._steps[-2])

    def _recalled(self) -> list[int]:
        own = _CLIMBED.setdefault(self._model, {})
        if self._kind not in own:
            steps, known = [_FIRST], _known()
            while (key := self._key_of(len(steps))) in known:
                steps.append(known[key])
            own[self._kind] = steps
        return own[self._kind]

    def _remember(self) -> None:
        known, at = _known(), len(self._steps)
        known[self._key_of(at - 1)] = self._steps[-1]
        while known.pop(self._key_of(at), None) is not None:
            at += 1
        _write(known)

    def _key_of(self, step: int) -> str:
        return _key("ladder", self._print, self._kind, self._most, step)

    @cached_property
    def _print(self) -> str:
        return str(self._model.fingerprint())


def _key(*facts: Any) -> str:
    return hashlib.sha256("|".join(map(str, facts)).encode()).hexdigest()[:32]


def kind_of(inputs: Any) -> str:
    """What decides the cost of a row: the shape of arrays and tables, the length of texts and series to the next power of two."""
    if not isinstance(inputs, list):
        return f"{type(inputs).__name__}{inputs.shape[1:]}"
    longest = max(len(one) for one in inputs)
    width = inputs[0].shape[1:] if isinstance(inputs[0], np.ndarray) else ""
    return f"list{width} up to {1 << (longest - 1).bit_length()}"


def _measure(score: Callable[[Any], Any], inputs: Any, usual: int, most: int) -> int:
    pace: dict[int, float] = {}
    rows, worse = FEWEST, 0
    # Two sizes in a row must be worse: one may have met what else the machine was doing, and the figure is kept for long.
    while rows <= most and worse < 2:
        pace[rows] = _pace(score, inputs, rows)
        if pace[rows] * rows > _LONGEST:
            break
        worse = worse + 1 if pace[rows] > 1.5 * min(pace.values()) else 0
        rows *= 2
    best = min(pace.values())
    equal = [rows for rows, cost in pace.items() if cost <= _EQUAL * best]
    if isinstance(inputs, list):
        return min(max(min(equal), _FEWEST_UNEQUAL), most)
    found = max(equal)
    if usual in equal or usual > most:
        return usual if usual in equal else found
    if usual * best > _LONGEST or _pace(score, inputs, found) * _EQUAL < _pace(score, inputs, usual):
        return found
    return usual


def _pace(score: Callable[[Any], Any], inputs: Any, rows: int) -> float:
    """Seconds a row at ``rows`` at once, the best of three."""
    sample = take(inputs, np.arange(rows) % len(inputs))
    return min(_timed(score, sample) for _ in range(3)) / rows


def _timed(score: Callable[[Any], Any], sample: Any) -> float:
    start = time.perf_counter()
    score(sample)
    return time.perf_counter() - start


def _path() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("explainer-toolkit") / "rows-at-once.json"


def _known() -> dict[str, int]:
    if not _READ:
        _READ.append(_path())
        with contextlib.suppress(OSError, ValueError):  # absent at first; a damaged one is measured anew
            stored = json.loads(_READ[0].read_text())
            _KNOWN.update({str(key): int(rows) for key, rows in stored.items() if 1 <= int(rows) <= MOST})
    return _KNOWN


def _write(known: dict[str, int]) -> None:
    with contextlib.suppress(OSError):  # a home that cannot be written to costs a measurement in every process
        _READ[0].parent.mkdir(parents=True, exist_ok=True)
        write_atomic(_READ[0], lambda handle: handle.write(json.dumps(known, indent=0).encode()))
