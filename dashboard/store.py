"""The only cache of the dashboard: what was computed once, by a key that says everything it depends on."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import numpy as np

Key = tuple[Hashable, ...]


class Store:
    """A thread-safe map, least recently used out first, bounded in entries and in bytes.

    It holds results only, never anything about the person who asked: a key is made of content (model, method,
    parameters, target, input hash, seed), so that two people who ask the same thing share the answer and nothing else.
    """

    def __init__(self, entries: int = 1024, megabytes: int = 512) -> None:
        self._entries = entries
        self._bytes = megabytes * 2**20
        self._held: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: Key) -> Any | None:
        """The value under ``key``, or None; a value that was asked for is kept longer."""
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def put(self, key: Key, value: Any) -> None:
        """Keep ``value``; older entries leave when there are too many or they weigh too much. The newest always stays."""
        weight = weigh(value)
        with self._lock:
            self._size -= self._held.pop(key, (None, 0))[1]
            self._held[key] = (value, weight)
            self._size += weight
            while len(self._held) > 1 and (len(self._held) > self._entries or self._size > self._bytes):
                _, (_, gone) = self._held.popitem(last=False)
                self._size -= gone

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: Key) -> bool:
        return key in self._held


def weigh(value: Any, depth: int = 4) -> int:
    """A rough size in bytes: arrays, frames, bytes and text counted, containers and dataclasses followed a few levels."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if hasattr(value, "memory_usage"):
        usage = value.memory_usage(deep=False)
        return int(np.sum(usage))
    if isinstance(value, (bytes, str)):
        return len(value)
    if depth == 0:
        return 64
    if isinstance(value, dict):
        return 64 + sum(weigh(v, depth - 1) for v in value.values())
    if isinstance(value, (list, tuple)):
        return 64 + sum(weigh(v, depth - 1) for v in value)
    return 64 + sum(weigh(v, depth - 1) for v in getattr(value, "__dict__", {}).values())
