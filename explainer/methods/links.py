"""What stands between a sum that a model makes of its columns, the margin, and its scores; and whether the scores are linear in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def _logistic(margins: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(margins, -700, 700)))


def _softmax(margins: np.ndarray) -> np.ndarray:
    shifted = np.exp(margins - margins.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _both(share: np.ndarray) -> np.ndarray:
    return np.concatenate([1 - share, share], axis=1)


# What may stand between the margins and the model's own output; the first that reproduces the output is the right one.
_LINKS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda m: m,
    _both,
    lambda m: _both(_logistic(m)),
    _softmax,
    lambda m: np.exp(np.minimum(m, 700)),
    lambda m: _both(_logistic(2 * m)),  # boosting with the exponential loss
    _logistic,
)


def link_of(
    model: Any, tables: Iterable[Any], margins: Callable[[Any], np.ndarray], exact: float
) -> Callable[[np.ndarray], np.ndarray] | None:
    """The link under which ``margins(table)`` reproduce the model's output on all ``tables``, but for ``exact`` of their size, or None."""
    found = list(_LINKS)
    for table in tables:
        own, sums = np.asarray(model.raw(table), dtype=np.float64), margins(table)
        bound = exact * max(1.0, float(np.abs(sums).max()))
        linked = [link(sums) for link in found]
        found = [link for link, m in zip(found, linked, strict=True) if m.shape == own.shape and np.abs(m - own).max() <= bound]
    return found[0] if found else None


def probes(margins: int) -> np.ndarray:
    """Points at which a function of so many margins is held to be affine."""
    return np.random.default_rng(0).normal(size=(2 * margins + 6, margins))


def affine(function: Callable[[np.ndarray], np.ndarray], probes: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Slope (margins, k) and intercept (k,) where ``function`` is affine at the ``probes`` (m, margins), else None twice."""
    with np.errstate(all="ignore"):
        values, centre = np.asarray(function(probes), dtype=np.float64), probes.mean(axis=0)
        design = np.column_stack([probes - centre, np.ones(len(probes))])
        if not np.isfinite(values).all():
            return None, None
    fitted = np.linalg.lstsq(design, values, rcond=None)[0]
    if np.abs(design @ fitted - values).max() > 1e-9 * max(1.0, np.abs(values).max()):
        return None, None
    slope = np.round(fitted[:-1], 9)
    return slope, (values - probes @ slope).mean(axis=0)
