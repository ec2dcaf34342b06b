"""How well the model does on labelled data: metrics with bootstrap intervals, calibration, confusion.

Every metric is a function of row weights, so that one draw of multinomial counts gives all metrics of one bootstrap sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Metric = Callable[[np.ndarray], float]
LEVEL = 0.95
_Z = 1.959963984540054
CALIBRATION_TOLERANCE = 0.05
ECE_BINS = 15
_TITLES = {
    "accuracy": ("Accuracy", "higher"),
    "balanced_accuracy": ("Balanced accuracy (mean recall of the classes)", "higher"),
    "macro_f1": ("Macro F1", "higher"),
    "roc_auc": ("ROC AUC", "higher"),
    "log_loss": ("Log loss", "lower"),
    "brier": ("Brier score (sum over classes)", "lower"),
    "ece": ("Expected calibration error", "lower"),
    "r2": ("R² (share of variance explained)", "higher"),
    "mae": ("Mean absolute error", "lower"),
    "rmse": ("Root mean squared error", "lower"),
}


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927); (nan, nan) without rows."""
    if n <= 0:
        return float("nan"), float("nan")
    p, z2 = successes / n, _Z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * np.sqrt(p * (1 - p) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    return float(max(0.0, centre - half)), float(min(1.0, centre + half))


def draws_for(n: int) -> int:
    """Bootstrap samples drawn for ``n`` rows: fewer where each is long and the interval is narrow anyway."""
    return 1000 if n <= 20_000 else 200


def intervals(metrics: Mapping[str, Metric], n: int, seed: int, draws: int | None = None) -> dict[str, tuple[float, float, float]]:
    """Value and percentile bootstrap interval (Efron 1979) per metric: ``name -> (value, low, high)``.

    ``metrics`` maps weights ``(n,)``, counts of each row in the sample, to a number; NaN samples (a class not drawn) are left out.
    """
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {name: [] for name in metrics}
    for _ in range(draws or draws_for(n)):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(float)
        for name, metric in metrics.items():
            found[name].append(metric(weights))
    result = {}
    for name, metric in metrics.items():
        sample = np.asarray(found[name])
        sample = sample[np.isfinite(sample)]
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(sample, [tail, 1 - tail]) if len(sample) else (np.nan, np.nan)
        result[name] = (float(metric(np.ones(n))), float(low), float(high))
    return result


def classification(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int) -> dict[str, Any]:
    """Metrics, calibration and confusion of ``probabilities (n, classes)`` against ``labels (n,)`` of class indices."""
    n, k = probabilities.shape
    predicted = probabilities.argmax(1)
    own = probabilities[np.arange(n), labels]
    cell = labels * k + predicted
    one_hot = np.eye(k)[labels]
    log_losses = -np.log(np.clip(own, 1e-15, 1))
    briers = ((probabilities - one_hot) ** 2).sum(1)
    confidence, correct = probabilities.max(1), (predicted == labels).astype(float)
    bins = bin_index(confidence, ECE_BINS)

    def confusion(weights: np.ndarray) -> np.ndarray:
        return np.bincount(cell, weights=weights, minlength=k * k).reshape(k, k)

    metrics: dict[str, Metric] = {
        "accuracy": lambda w: float(np.average(predicted == labels, weights=w)),
        "balanced_accuracy": lambda w: _recalls(confusion(w)),
        "macro_f1": lambda w: _macro_f1(confusion(w)),
        "log_loss": lambda w: float(np.average(log_losses, weights=w)),
        "brier": lambda w: float(np.average(briers, weights=w)),
        "ece": lambda w: _ece(confidence, correct, bins, w),
    }
    if len(np.unique(labels)) > 1 and k <= 30:
        areas = [_auc(one_hot[:, c], probabilities[:, c]) for c in ([1] if k == 2 else range(k))]
        metrics["roc_auc"] = lambda w: float(np.nanmean([area(w) for area in areas]))
    counts = np.bincount(labels, minlength=k)
    return {
        "rows": n,
        "errors": int((predicted != labels).sum()),
        "metrics": _listed(intervals(metrics, n, seed)),
        "draws": draws_for(n),
        "majority": {"class": class_names[int(counts.argmax())], "share": float(counts.max() / n)},
        "calibration": calibration(labels, probabilities, class_names, seed),
        "confusion": confusion(np.ones(n)).astype(int).tolist(),
        "class_names": list(class_names),
    }


def regression(labels: np.ndarray, predictions: np.ndarray, seed: int) -> dict[str, Any]:
    """Metrics and residuals of ``predictions (n,)`` against ``labels (n,)``."""
    n = len(labels)
    residuals = predictions - labels

    def r2(weights: np.ndarray) -> float:
        spread = np.average((labels - np.average(labels, weights=weights)) ** 2, weights=weights)
        return float(1 - np.average(residuals**2, weights=weights) / spread) if spread > 0 else float("nan")

    metrics: dict[str, Metric] = {
        "r2": r2,
        "mae": lambda w: float(np.average(np.abs(residuals), weights=w)),
        "rmse": lambda w: float(np.sqrt(np.average(residuals**2, weights=w))),
    }
    return {
        "rows": n,
        "metrics": _listed(intervals(metrics, n, seed)),
        "draws": draws_for(n),
        "residual_quantiles": {f"{q:g}": float(v) for q in (0.05, 0.25, 0.5, 0.75, 0.95) for v in [np.quantile(residuals, q)]},
        "bins": _residual_bins(predictions, residuals),
    }


def calibration(labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int) -> dict[str, Any]:
    """Reliability in ten equal bins of the stated probability; the ECE, and how large an ECE chance alone would give.

    The ECE is that of Guo et al. (2017): 15 equal bins of the predicted class's probability. The chance level is its 95 % quantile
    when outcomes are drawn from the stated probabilities themselves (Broecker and Smith 2007, Vaicenavicius et al. 2019): a
    perfectly calibrated model stays below it 19 times in 20.
    """
    top, right = probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)
    which, ones = bin_index(top, ECE_BINS), np.ones(len(labels))
    rng = np.random.default_rng(seed + 1)
    chance = [_ece(top, (rng.random(len(labels)) < top).astype(float), which, ones) for _ in range(500)]
    stated, observed = reliability_axes(labels, probabilities)
    bins = bin_index(stated, 10)
    rows = []
    for b in range(10):
        inside = bins == b
        n = int(inside.sum())
        if n:
            low, high = wilson(float(observed[inside].sum()), n)
            means = {"stated": float(stated[inside].mean()), "observed": float(observed[inside].mean())}
            rows.append({"from": b / 10, "to": (b + 1) / 10, "n": n, **means, "low": low, "high": high})
    binary = probabilities.shape[1] == 2
    return {
        "of": f"probability of {class_names[1]!r}" if binary else "probability of the predicted class",
        "observed": f"share that is {class_names[1]!r}" if binary else "share that is right",
        "bins": rows,
        "ece": _ece(top, right, which, ones),
        "chance": float(np.quantile(chance, LEVEL)),
    }


def reliability_axes(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability and 0/1 outcome: of the second class when there are two, of the predicted class otherwise."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (labels == 1).astype(float)
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)


def bin_index(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Which of ``bins`` equal bins of [0, 1] each probability falls in; 1 belongs to the last."""
    return np.clip((confidence * bins).astype(int), 0, bins - 1)


def _ece(confidence: np.ndarray, correct: np.ndarray, bins: np.ndarray, weights: np.ndarray) -> float:
    """Expected calibration error: sum over bins of ``n_b / n * |observed_b - stated_b|`` (Naeini et al. 2015)."""
    gaps = np.bincount(bins, weights=weights * (correct - confidence), minlength=1)
    return float(np.abs(gaps).sum() / weights.sum())


def _auc(positive: np.ndarray, score: np.ndarray) -> Metric:
    """Weighted area under the ROC curve, ties counted half (Mann and Whitney 1947)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])
    sorted_positive = positive[order]

    def area(weights: np.ndarray) -> float:
        w = weights[order]
        up = np.add.reduceat(w * sorted_positive, starts)
        down = np.add.reduceat(w * (1 - sorted_positive), starts)
        total = up.sum() * down.sum()
        return float((up * (np.cumsum(down) - down / 2)).sum() / total) if total > 0 else float("nan")

    return area


def _recalls(confusion: np.ndarray) -> float:
    rows = confusion.sum(1)
    present = rows > 0
    return float((np.diag(confusion)[present] / rows[present]).mean())


def _macro_f1(confusion: np.ndarray) -> float:
    seen = confusion.sum(0) + confusion.sum(1)
    present = seen > 0
    return float((2 * np.diag(confusion)[present] / seen[present]).mean())


def _listed(found: Mapping[str, tuple[float, float, float]]) -> list[dict[str, Any]]:
    return [
        {"name": name, "title": title, "better": better, "value": found[name][0], "low": found[name][1], "high": found[name][2]}
        for name, (title, better) in _TITLES.items()
        if name in found
    ]


def _residual_bins(predictions: np.ndarray, residuals: np.ndarray) -> list[dict[str, float]]:
    """Mean residual with its 95 % interval in up to ten bins of equal count, ordered by prediction."""
    order = np.argsort(predictions, kind="stable")
    rows = []
    for part in np.array_split(order, max(1, min(10, len(order) // 5))):
        sd = residuals[part].std(ddof=1) if len(part) > 1 else float("nan")
        mean, half = residuals[part].mean(), _Z * sd / np.sqrt(len(part))
        bounds = {"low": float(mean - half), "high": float(mean + half)}
        rows.append({"predicted": float(predictions[part].mean()), "mean": float(mean), **bounds, "n": len(part)})
    return rows
