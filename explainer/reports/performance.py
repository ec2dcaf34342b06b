"""How well the model does on labelled data: metrics with bootstrap intervals, calibration, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from explainer.metrics import ECE_BINS, LEVEL, LOWER, RESAMPLES, Z, bin_index, bounds, intervals, standard_error

CALIBRATION_TOLERANCE = 0.05
FEWEST_UNITS = 6  # whose signs fall alike by chance once in 32 times
TITLES = {
    "accuracy": "Accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy (mean recall of the classes)",
    "macro_f1": "Macro F1",
    "roc_auc": "ROC AUC",
    "log_loss": "Log loss",
    "brier": "Brier score (sum over classes)",
    "ece": "Expected calibration error of the predicted class",
    "r2": "R² (share of variance explained)",
    "mae": "Mean absolute error",
    "rmse": "Root mean squared error",
}


def draws_for(n: int) -> int:
    """Bootstrap samples drawn for ``n`` rows: fewer where each is long and the interval is narrow anyway."""
    return RESAMPLES if n <= 20_000 else 200


def classification(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int, units: np.ndarray | None = None
) -> dict[str, Any]:
    """Metrics, calibration and confusion of ``probabilities (n, classes)`` against ``labels (n,)`` of class indices; ``units`` (n,):
    whom each row is of, where rows of one are alike.
    """
    n, k = probabilities.shape
    predicted = probabilities.argmax(1)
    counts = np.bincount(labels, minlength=k)
    confusion = np.bincount(labels * k + predicted, minlength=k * k).reshape(k, k)
    return {
        "rows": n,
        "errors": int((predicted != labels).sum()),
        "metrics": _listed(labels, probabilities, seed, units),
        "draws": draws_for(n),
        "majority": {"class": class_names[int(counts.argmax())], "share": float(counts.max() / n)},
        "calibration": calibration(labels, probabilities, class_names, seed, units),
        "confusion": confusion.tolist(),
        "decision": _decision(class_names),
        "by_class": by_class(labels, predicted, class_names, units),
        "class_names": list(class_names),
    }


def _decision(class_names: Sequence[str]) -> str:
    threshold = f", which is a threshold of 0.5 on the probability of {class_names[1]!r}" if len(class_names) == 2 else ""
    return f"Decision rule: the class of highest probability is predicted{threshold}. Other thresholds are not tried."


def by_class(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], units: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Sensitivity, specificity and predictive values of each class against the rest, with Wilson's intervals and what they are of."""
    rows = []
    for k, name in enumerate(class_names):
        true, given = labels == k, predicted == k
        shares = {"sensitivity": (given, true), "specificity": (~given, ~true), "ppv": (true, given), "npv": (~true, ~given)}
        rows.append({"class": name} | {key: v for kind, (hits, of) in shares.items() for key, v in _share(kind, hits, of, units).items()})
    return rows


def _share(name: str, hits: np.ndarray, of: np.ndarray, units: np.ndarray | None) -> dict[str, Any]:
    low, high = bounds(hits[of], None if units is None else units[of])
    return {name: float(hits[of].mean()) if of.any() else None, f"{name}_low": low, f"{name}_high": high, f"{name}_n": int(of.sum())}


def regression(labels: np.ndarray, predictions: np.ndarray, seed: int, units: np.ndarray | None = None) -> dict[str, Any]:
    """Metrics and residuals of ``predictions (n,)`` against ``labels (n,)``."""
    n = len(labels)
    residuals = predictions - labels
    return {
        "rows": n,
        "metrics": _listed(labels.astype(float), predictions[:, None], seed, units),
        "draws": draws_for(n),
        "residual_quantiles": {f"{q:g}": float(v) for q in (0.05, 0.25, 0.5, 0.75, 0.95) for v in [np.quantile(residuals, q)]},
        "bins": _residual_bins(predictions, residuals, units),
    }


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int, units: np.ndarray | None = None
) -> dict[str, Any]:
    """Reliability in ten equal bins of the stated probability; the ECE, and how large an ECE chance alone would give.

    The ECE is that of Guo et al. (2017), over 15 equal bins of the probability that ``reliability_axes`` names. The chance level is its
    95 % quantile when outcomes are drawn from the stated probabilities themselves (Broecker and Smith 2007, Vaicenavicius et al. 2019):
    a perfectly calibrated model stays below it 19 times in 20. ``z`` is how many standard errors, of outcomes so drawn, the share that
    came true lies from the mean stated probability (calibration in the large; Spiegelhalter 1986 gives the variance). Where rows of one
    unit are alike, all its residuals change sign together in place of drawing outcomes (the wild cluster bootstrap; Cameron, Gelbach
    and Miller 2008), and ``z`` rests on its sums; where rows drawn alone give more, they count. ``told``: whether there are units enough
    for signs to tell chance from error.
    """
    stated, observed = reliability_axes(labels, probabilities)
    which, n = bin_index(stated, ECE_BINS), len(labels)
    residuals = observed - stated

    def ece(gaps: np.ndarray) -> float:
        return float(np.abs(np.bincount(which, gaps)).sum() / n)

    rng = np.random.default_rng(seed + 1)
    chance = np.quantile([ece((rng.random(n) < stated) - stated) for _ in range(500)], LEVEL)
    spread = np.sqrt((stated * (1 - stated)).sum())
    if units is not None:
        signs = (rng.choice((-1.0, 1.0), int(units.max()) + 1) for _ in range(500))
        chance = max(chance, np.quantile([ece(residuals * sign[units]) for sign in signs], LEVEL))
        spread = max(spread, np.sqrt((np.bincount(units, residuals) ** 2).sum()))
    tenths = bin_index(stated, 10)
    rows = []
    for b in np.unique(tenths):
        inside = tenths == b
        low, high = bounds(observed[inside], None if units is None else units[inside])
        means = {"stated": float(stated[inside].mean()), "observed": float(observed[inside].mean())}
        rows.append({"from": float(b / 10), "to": float((b + 1) / 10), "n": int(inside.sum()), **means, "low": low, "high": high})
    binary = probabilities.shape[1] == 2
    return {
        "of": f"probability of {class_names[1]!r}" if binary else "probability of the predicted class",
        "observed": f"share that is {class_names[1]!r}" if binary else "share that is right",
        "bins": rows,
        "ece": ece(residuals),
        "chance": float(chance),
        "told": units is None or int(units.max()) + 1 >= FEWEST_UNITS,
        "mean_stated": float(stated.mean()),
        "mean_observed": float(observed.mean()),
        "z": float(residuals.sum() / spread) if spread > 0 else None,
    }


def reliability_axes(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability and 0/1 outcome: of the second class when there are two, of the predicted class otherwise."""
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], (labels == 1).astype(float)
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)


def _listed(labels: np.ndarray, predictions: np.ndarray, seed: int, units: np.ndarray | None) -> list[dict[str, Any]]:
    """The metrics that these rows allow, in the order of their titles."""
    found = intervals(labels, predictions, seed, draws_for(len(labels)), units)
    titles = TITLES | ({"roc_auc": "ROC AUC (unweighted one-vs-rest mean)"} if predictions.shape[1] > 2 else {})
    return [
        {"name": name, "title": title, "better": "lower" if name in LOWER else "higher", "value": value, "low": low, "high": high}
        for name, title in titles.items()
        if name in found
        for value, low, high in [found[name]]
        if np.isfinite(value)
    ]


def _residual_bins(predictions: np.ndarray, residuals: np.ndarray, units: np.ndarray | None) -> list[dict[str, float]]:
    """Mean residual with its 95 % interval in up to ten bins of equal count, ordered by prediction."""
    order = np.argsort(predictions, kind="stable")
    rows = []
    for part in np.array_split(order, max(1, min(10, len(order) // 5))):
        mean, half = residuals[part].mean(), Z * standard_error(residuals[part], None if units is None else units[part])
        ends = {"low": float(mean - half), "high": float(mean + half)}
        rows.append({"predicted": float(predictions[part].mean()), "mean": float(mean), **ends, "n": len(part)})
    return rows
