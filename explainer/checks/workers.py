"""Work spread over the cores, where there is enough of it; the results are the same as without."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")

WORTH = 50_000  # items each piece of work looks at, below which starting threads costs more than it saves


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_tick: ContextVar[Callable[[], None] | None] = ContextVar("tick", default=None)


@contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call ``tick`` between the pieces of long work; it may raise to stop it."""
    token = _tick.set(tick)
    try:
        yield
    finally:
        _tick.reset(token)


def each(function: Callable[[Any], T], items: Sequence[Any], size: int) -> list[T]:
    """``[function(i) for i in items]``, where each looks at ``size`` rows; numpy, pandas and arrow let threads run side by side."""
    if size < WORTH or len(items) < 2 or cores() < 2:
        return [function(item) for item in items]
    from concurrent.futures import ThreadPoolExecutor

    tick, found = _tick.get(), []
    with ThreadPoolExecutor(min(cores(), 4)) as pool:
        try:
            for one in pool.map(function, items):
                found.append(one)
                if tick is not None:
                    tick()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _give_back()
    return found


def _give_back() -> None:
    """What threads have freed, to the system: arrow and glibc keep it, a quarter of a gigabyte on a million rows."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
