"""How many rows a torch module takes best at once: measured, and remembered on this machine.

A small convolution can be twice as fast at 64 rows as at 256, a wide linear layer the other way round. Texts and series of unequal
length go in the smallest batches that are as fast, for these pad least. The figure is kept in the user's cache folder, so that the
same call scores the same batches, hence gives the same bits, in the next process too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explainer.explanation import write_atomic
from explainer.inputs import take

FEWEST, MOST = 16, 4096
_FEWEST_UNEQUAL = 64  # padding is small from there on, and a trial disturbed by other work decides little
_LONGEST = 0.25  # seconds a trial may take; a slower model gains nothing from larger batches
_EQUAL = 1.15  # ratios below it count as noise
_KNOWN: dict[str, int] = {}
_READ: list[Path] = []


def rows_at_once(describe: str, score: Callable[[Any], Any], inputs: Any, usual: int, most: int) -> int:
    """The measured figure for the module and kind of input that ``describe`` names; ``usual`` where nothing clearly beats it."""
    facts = (describe, torch.__version__, torch.get_num_threads(), usual, most, FEWEST, _EQUAL)
    key = hashlib.sha256("|".join(map(str, facts)).encode()).hexdigest()[:32]
    known = _known()
    if key not in known:
        known[key] = _measure(score, inputs, usual, most)
        _write(known)
    return known[key]


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
