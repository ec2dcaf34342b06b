"""Figures of a model with bootstrap intervals: every metric is a function of row weights, so that 1,000 resamples are one call."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

CLASSES = ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "log_loss", "ece")
MANY = 100  # classes: above, the right one among the best five is what counts, and areas and tables say little
NUMBERS = ("r2", "mae", "rmse")
LOWER = ("log_loss", "ece", "mae", "rmse", "mean")  # better when lower
PARTS = 2**24  # cells of resampling weights held at once: 128 MB
RESAMPLES = 1000
LEVEL = 0.95


def measure(labels: np.ndarray | None, probabilities: np.ndarray, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Each metric ``(B,)`` for weights ``(B, n)`` (how often each row counts); one row of ones when None.

    Labels of int are classes and ``probabilities`` is ``(n, classes)``; labels of float are numbers and it holds ``(n, 1)`` estimates;
    without labels there is but the mean of what it holds.
    roc_auc: the second class against the first when there are two, else the mean over the classes of one against the rest.
    ece: expected calibration error over 15 bins of equal width (Guo et al. 2017). top5_accuracy stands in the place of the means
    over classes where there are more than ``MANY`` of them.
    """
    n, classes = probabilities.shape
    weights = np.ones((1, n)) if weights is None else weights.astype(float)
    if labels is None:
        return {"mean": weights @ probabilities[:, 0] / weights.sum(1)}
    if labels.dtype.kind == "f":
        return _numbers(labels, probabilities[:, 0], weights)
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
    log_loss = weights @ -np.log(true_probability) / total
    if classes > MANY:
        ahead = (probabilities > true_probability[:, None]).sum(1) + (probabilities == true_probability[:, None]).sum(1) / 2
        return {"accuracy": weights @ correct / total, "top5_accuracy": weights @ (ahead <= 5) / total, "log_loss": log_loss}
    return {
        "accuracy": weights @ correct / total,
        "balanced_accuracy": np.nanmean(recall, axis=1),
        "macro_f1": np.nanmean(f1, axis=1),
        "roc_auc": _roc_auc(truth, probabilities, weights),
        "log_loss": log_loss,
        "ece": _calibration_error(correct, probabilities.max(1), weights) / total,
    }


def _numbers(labels: np.ndarray, estimates: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2, mean absolute and root mean squared error."""
    total = weights.sum(1)
    error = weights @ (labels - estimates) ** 2
    spread = weights @ labels**2 - (weights @ labels) ** 2 / total
    return {"r2": 1 - error / spread, "mae": weights @ np.abs(labels - estimates) / total, "rmse": np.sqrt(error / total)}


def drawn(values: Callable[[np.ndarray], dict[str, np.ndarray]], n: int, seed: int) -> dict[str, np.ndarray]:
    """``values`` for every resample, a part of them at a time, so that large sets fit into memory."""
    part = max(1, PARTS // n)
    generator = np.random.default_rng(seed)
    found: list[dict[str, np.ndarray]] = []
    for first in range(0, RESAMPLES, part):
        found.append(values(generator.multinomial(n, np.full(n, 1 / n), size=min(part, RESAMPLES - first)).astype(float)))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def intervals(labels: np.ndarray, probabilities: np.ndarray, seed: int = 0) -> dict[str, dict[str, float]]:
    """Per metric its value on all rows and the 95 % percentile bootstrap interval (Efron 1979)."""
    values = measure(labels, probabilities)
    draws = drawn(lambda weights: measure(labels, probabilities, weights), len(labels), seed)
    return {name: interval(float(values[name][0]), draws[name]) for name in values}


def difference(labels: np.ndarray, probabilities: np.ndarray, other: np.ndarray, metric: str, seed: int = 0) -> dict[str, float]:
    """``metric`` of the one minus that of the other on the same rows, with its paired bootstrap interval."""

    def gap(weights: np.ndarray | None) -> dict[str, np.ndarray]:
        return {metric: measure(labels, probabilities, weights)[metric] - measure(labels, other, weights)[metric]}

    return interval(float(gap(None)[metric][0]), drawn(gap, len(labels), seed)[metric])


def resampled(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """The mean of ``values`` in each bootstrap resample."""
    return drawn(lambda weights: {"mean": weights @ values / weights.sum(1)}, len(values), seed)["mean"]


def mean(values: np.ndarray, seed: int = 0) -> dict[str, float]:
    """The mean of ``values`` ``(n,)`` with its interval."""
    return interval(float(values.mean()), resampled(values, seed))


def separation(high: np.ndarray, low: np.ndarray, seed: int = 0) -> dict[str, float]:
    """ROC AUC of the scores ``high`` against the scores ``low``: how often one of the first is the greater, with its interval."""
    scores = np.concatenate([high, low])
    positive = np.arange(len(scores)) < len(high)

    def area(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"area": _area(positive, scores, weights)}

    return interval(float(area(np.ones((1, len(scores))))["area"][0]), drawn(area, len(scores), seed)["area"])


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
    low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"value": round(value, 5), "low": round(float(low), 5), "high": round(float(high), 5)}


def _roc_auc(truth: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    chosen = [1] if truth.shape[1] == 2 else range(truth.shape[1])
    areas = np.stack([_area(truth[:, k], probabilities[:, k], weights) for k in chosen])
    return areas[0] if len(areas) == 1 else np.nanmean(areas, axis=0)  # NaN for a resample of one class only


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
