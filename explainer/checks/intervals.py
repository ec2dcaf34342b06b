"""How sure a share is at a given number of items."""

from __future__ import annotations

from math import ceil

from explainer.metrics import wilson


def half_width(share: float, n: float) -> float:
    low, high = wilson(share * n, n)
    return (high - low) / 2


def needed(share: float, most: float) -> int:
    """The least n at which the interval of ``share`` is no wider than ``most`` to either side."""
    low, high = 1, ceil(4 / most**2)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if half_width(share, middle) <= most else (middle + 1, high)
    return low
