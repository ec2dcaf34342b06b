"""How times are compared: in turn, in one process, on one thread, by the median of the ratios of single rounds."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ROUNDS = 5
SHORTEST = 0.1  # seconds: a shorter call is repeated within a round
CAP = 4096  # repeats of a call within a round, at most


def one_thread() -> None:
    """Hold numpy, torch and what they load to one thread; called before anything is measured."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)


@dataclass(frozen=True)
class Spread:
    """The median over rounds, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: np.ndarray) -> Spread:
        return Spread(float(np.median(values)), float(np.min(values)), float(np.max(values)))

    @property
    def noisy(self) -> bool:
        """Whether the rounds differ by more than 15 % from their median, so that a rerun on a quiet machine is due."""
        return self.low > 0 and max(self.high / self.median, self.median / self.low) > 1.15


class Times:
    """Seconds per call ``{name: (rounds,)}``, measured by :func:`in_turn`."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = {name: np.array(taken) for name, taken in seconds.items()}

    def of(self, name: str) -> float:
        """Median seconds of one call."""
        return float(np.median(self.seconds[name]))

    def ratio(self, numerator: str, denominator: str, scale: float = 1.0) -> Spread:
        """``numerator / denominator * scale`` round by round: what disturbs a round disturbs both."""
        return Spread.of(scale * self.seconds[numerator] / self.seconds[denominator])


def in_turn(calls: Mapping[str, Callable[[], Any]], rounds: int = ROUNDS, shortest: float = SHORTEST) -> Times:
    """Time ``calls`` one after the other, ``rounds`` times, in the opposite order every other round, after a warm-up of each."""
    repeats = {name: _repeats(call, shortest) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            gc.collect()
            started = time.perf_counter()
            for _ in range(repeats[name]):
                calls[name]()
            seconds[name].append((time.perf_counter() - started) / repeats[name])
    return Times(seconds)


def _repeats(call: Callable[[], Any], shortest: float) -> int:
    call()  # compiles, allocates and fills caches
    started = time.perf_counter()
    call()
    return int(np.clip(shortest / max(time.perf_counter() - started, 1e-9), 1, CAP))


def best_batch(call: Callable[[int], Any], sizes: tuple[int, ...], rounds: int = 3) -> int:
    """The batch size of ``sizes`` with which ``call(size)`` is fastest."""
    times = in_turn({str(size): lambda size=size: call(size) for size in sizes}, rounds, shortest=0.0)  # type: ignore[misc]
    return min(sizes, key=lambda size: times.of(str(size)))


def rows_seen(module: Any, call: Callable[[], Any]) -> int:
    """How many rows a torch module is asked for while ``call`` runs."""
    seen = 0

    def count(_: Any, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        seen += len(arguments[0])

    handle = module.register_forward_pre_hook(count)
    try:
        call()
    finally:
        handle.remove()
    return seen
