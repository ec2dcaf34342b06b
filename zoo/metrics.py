"""Figures of a classifier with bootstrap intervals: every metric is a function of row weights, so that 1,000 resamples are one call."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "ece")
RESAMPLES = 1000
LEVEL = 0.95


def measure(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Each metric ``(B,)`` for weights ``(B, n)`` (how often each row counts); one row of ones when None.

    roc_auc: the second class against the first when there are two, else the mean over the classes of one against the rest.
    ece: expected calibration error over 15 bins of equal width (Guo et al. 2017).
    """
    n, classes = probabilities.shape
    weights = np.ones((1, n)) if weights is None else weights.astype(float)
    total = weights.sum(1)
    truth = labels[:, None] == np.arange(classes)
    predicted = probabilities.argmax(1)
    guess = predicted[:, None] == np.arange(classes)
    correct = predicted == labels
    hits, positives, guesses = weights @ (truth & guess), weights @ truth, weights @ guess
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits / positives  # NaN for a class that a resample does not hold: left out of the means
        f1 = np.where(positives + guesses > 0, 2 * hits / (positives + guesses), np.nan)
    true_probability = np.clip(probabilities[np.arange(n), labels], 1e-15, 1)
    return {
        "accuracy": weights @ correct / total,
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "macro_f1": np.nanmean(f1, axis=1),
        "roc_auc": _roc_auc(truth, probabilities, weights),
        "log_loss": weights @ -np.log(true_probability) / total,
        "ece": _calibration_error(correct, probabilities.max(1), weights) / total,
    }


def resamples(n: int, seed: int = 0, count: int = RESAMPLES) -> np.ndarray:
    """How often each of ``n`` rows is drawn in each of ``count`` bootstrap resamples, ``(count, n)``."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=count).astype(float)


def intervals(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> dict[str, dict[str, float]]:
    """Per metric its value on all rows and the 95 % percentile bootstrap interval (Efron 1979)."""
    values, draws = measure(labels, probabilities), measure(labels, probabilities, resamples(len(labels), seed))
    return {name: _interval(float(values[name][0]), draws[name]) for name in NAMES}


def difference(labels: np.ndarray, probabilities: np.ndarray, other: np.ndarray, metric: str, seed: int = 0) -> dict[str, float]:
    """``metric`` of the one minus that of the other on the same rows, with its paired bootstrap interval."""
    weights = resamples(len(labels), seed)
    value = measure(labels, probabilities)[metric][0] - measure(labels, other)[metric][0]
    draws = measure(labels, probabilities, weights)[metric] - measure(labels, other, weights)[metric]
    return _interval(float(value), draws)


def standing(gap: Mapping[str, float]) -> str:
    """How a model stands to its baseline by the interval of the difference: "beats", "ties" or "falls short of"."""
    return "beats" if gap["low"] > 0 else "falls short of" if gap["high"] < 0 else "ties with"


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[list[int]]:
    """Counts, rows the true class, columns the predicted one."""
    table = np.zeros((classes, classes), dtype=int)
    np.add.at(table, (labels, predicted), 1)
    return table.tolist()


def _interval(value: float, draws: np.ndarray) -> dict[str, float]:
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": round(value, 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def _roc_auc(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    chosen = [1] if truth.shape[1] == 2 else range(truth.shape[1])
    areas = np.stack([_area(truth[:, k], probabilities[:, k], weights) for k in chosen])
    return np.nanmean(areas, axis=0)


def _area(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chance that a positive row is scored above a negative one, ties counting half."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ones = np.add.reduceat(weights[:, order] * positive[order], starts, axis=1)
    zeros = np.add.reduceat(weights[:, order] * ~positive[order], starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ones * (below + zeros / 2)).sum(1) / (ones.sum(1) * zeros.sum(1))


def _calibration_error(correct: np.ndarray, confidence: np.ndarray, weights: np.ndarray, bins: int = 15) -> np.ndarray:
    which = np.minimum((confidence * bins).astype(int), bins - 1)[:, None] == np.arange(bins)
    return np.abs(weights @ (which * (correct - confidence)[:, None])).sum(1)
