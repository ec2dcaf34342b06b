"""Figures as training records hold them: a value with its interval, to five decimals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from explainer import metrics
from explainer.metrics import LEVEL, drawn, ends, flawless, measurer

DECIMALS = 5


def intervals(labels: np.ndarray | None, predictions: np.ndarray, seed: int = 0, units: Any = None) -> dict[str, dict[str, float]]:
    """Per metric its value on all rows and its 95 % interval; ``units`` are resampled whole."""
    return {name: _told(*found) for name, found in metrics.intervals(labels, predictions, seed, units=units).items()}


def difference(
    labels: np.ndarray, probabilities: np.ndarray, other: np.ndarray, metric: str, seed: int = 0, units: Any = None
) -> dict[str, float]:
    """``metric`` of the one minus that of the other on the same rows, with its paired bootstrap interval; ``units`` are resampled whole."""
    ours, theirs = measurer(labels, probabilities), measurer(labels, other)

    def gap(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {metric: ours(weights)[metric] - theirs(weights)[metric]}

    return interval(float(gap(np.ones((1, len(labels))))[metric][0]), drawn(gap, len(labels), seed, units=units)[metric])


def resampled(values: np.ndarray, seed: int = 0, units: Any = None) -> np.ndarray:
    """The mean of ``values`` in each bootstrap resample; ``units`` are resampled whole."""
    return drawn(lambda weights: {"mean": weights @ values / weights.sum(1)}, len(values), seed, units=units)["mean"]


def mean(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The mean of ``values`` ``(n,)`` with its interval."""
    return interval(float(values.mean()), resampled(values, seed))


def student(values: np.ndarray) -> dict[str, float]:
    """The mean of a few ``values``, such as of some seeds, with Student's interval."""
    from scipy.stats import t

    middle, half = values.mean(), t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return _told(float(middle), float(middle - half), float(middle + half))


def separation(high: np.ndarray, low: np.ndarray, seed: int = 0) -> dict[str, float]:
    """ROC AUC of the scores ``high`` against the scores ``low``: how often one of the first is the greater, with its interval."""
    scores = np.concatenate([high, low])
    positive = np.arange(len(scores)) < len(high)

    area = metrics.area(positive, scores)
    value = float(area(np.ones((1, len(scores))))[0])
    found = interval(value, drawn(lambda weights: {"area": area(weights)}, len(scores), seed)["area"])
    return found if value < 1 else {**found, "low": round(flawless(min(len(high), len(low))), DECIMALS)}


def standing(gap: Mapping[str, float]) -> str:
    """How a model stands to its baseline by the interval of the difference: "beats", "ties" or "falls short of"."""
    return "beats" if gap["low"] > 0 else "falls short of" if gap["high"] < 0 else "ties with"


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Counts, rows the true class, columns the predicted one."""
    table = np.zeros((classes, classes), dtype=int)
    np.add.at(table, (labels, predicted), 1)
    return table.tolist()


def interval(value: float, draws: np.ndarray) -> dict[str, float]:
    """A value with the 2.5 % and 97.5 % quantiles of its draws."""
    return _told(value, *ends(draws))


def _told(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, DECIMALS), "low": round(low, DECIMALS), "high": round(high, DECIMALS)}
