"""How sure a share is at a given number of items."""

from __future__ import annotations

from math import ceil

import numpy as np

Z = 1.959963985  # 95 %


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % score interval of a share, (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n); Wilson 1927."""
    if n <= 0:
        return 0.0, 1.0
    p, zz = hits / n, Z * Z / n
    middle, half = (p + zz / 2) / (1 + zz), Z * np.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


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
