"""Numbers as people write them."""

from __future__ import annotations

import math


def rounded(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, thousands separated, an exponent only for what is tiny or huge: 0.0123, 12,300, 6e-09."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else str(value)
    near = float(f"{value:.{digits}g}")
    return f"{near:,.0f}" if near.is_integer() and abs(near) < 1e15 else f"{near:.{digits}g}"
