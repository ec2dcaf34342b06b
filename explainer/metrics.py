"""How good predictions are, and how sure one can be of it: every figure is a function of row weights, so that many resamples are one call.

Labels of int are classes and predictions are probabilities ``(n, classes)``; labels of float are numbers and predictions are estimates
``(n, 1)``; without labels there is but the mean of what came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MANY = 100  # classes: above, the right one among the best five is what counts, and areas and tables say little
LOWER = ("log_loss", "brier", "ece", "mae", "rmse", "mean")  # better when lower
SHARES = ("accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1", "roc_auc")  # 1 when nothing is wrong
LEVEL = 0.95
Z = 1.959963984540054  # of the normal distribution at that level
RESAMPLES = 1000
FEW = 30  # units
ECE_BINS = 15
_CELLS = 2**21  # of resampling weights held at once: 16 MB

Figures = dict[str, np.ndarray]
Interval = tuple[float, float, float]


def wilson(hits: Any, n: Any) -> tuple[Any, Any]:
    """95 % score interval of a share, (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n); Wilson 1927.

    Numbers or arrays; 0 to 1 where ``n`` is 0.
    """
    hits, n = np.asarray(hits, dtype=float), np.asarray(n, dtype=float)
    known = np.where(n > 0, n, 1.0)
    p = hits / known
    centre, half = p + Z**2 / (2 * known), Z * np.sqrt(p * (1 - p) / known + Z**2 / (4 * known**2))
    low, high = (np.clip((centre + side) / (1 + Z**2 / known), 0.0, 1.0) for side in (-half, half))
    low, high = np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def standard_error(values: np.ndarray, units: Any = None) -> float:
    """Of the mean of ``values`` ``(n,)``, sqrt(u / (u - 1) sum_u (sum_{i in u} v_i - mean v)^2) / n, rows of one of the u ``units``
    being alike (Liang and Zeger 1986); of rows of their own sd / sqrt(n). NaN where there is but one.
    """
    unit = _numbered(units, len(values))
    sums = np.bincount(unit, values - values.mean())
    return float(np.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values)) if len(sums) > 1 else float("nan")


def worth(hits: np.ndarray, units: Any = None) -> float:
    """How many independent rows the share of ``hits`` ``(n,)`` is worth, where rows of one of the u ``units`` are alike.

    n p (1 - p) / ((n - 1) se^2), times (t_{n-1} / t_{u-1})^2 for what few units say of se (Rao and Scott 1992; Korn and Graubard 1998);
    at most n, and u where no row differs.
    """
    n, p = len(hits), float(np.mean(hits)) if len(hits) else 0.0
    if units is None or n < 2:
        return float(n)
    count = int(_numbered(units, n).max()) + 1
    if count == 1 or p in (0.0, 1.0):
        return float(count)
    from scipy.stats import t

    error = standard_error(np.asarray(hits, dtype=float), units)
    few = (t.ppf((1 + LEVEL) / 2, n - 1) / t.ppf((1 + LEVEL) / 2, count - 1)) ** 2
    return float(min(n, few * n / (n - 1) * p * (1 - p) / error**2)) if error > 0 else float(n)


def bounds(hits: np.ndarray, units: Any = None) -> tuple[float, float]:
    """Wilson's interval of the share of ``hits`` ``(n,)``, of as many rows as they are :func:`worth`; 0 to 1 where there are none."""
    n = worth(hits, units)
    return wilson(float(np.mean(hits)) * n if n else 0.0, n)


def measure(labels: np.ndarray | None, predictions: np.ndarray, weights: np.ndarray | None = None) -> Figures:
    """Each metric ``(B,)`` for weights ``(B, n)`` (how often each row counts); one row of ones when None.

    roc_auc: the second class against the first when there are two, else the mean over the classes of one against the rest; ties count
    half (Mann and Whitney 1947). brier: the squared distance to the true class, summed over the classes. ece: expected calibration
    error over 15 bins of equal width (Guo et al. 2017). top5_accuracy stands in the place of the means over classes where there are
    more than ``MANY`` of them; of classes that tie, each is as likely among the five. NaN where a resample does not hold what a metric
    needs.
    """
    return measurer(labels, predictions)(np.ones((1, len(predictions))) if weights is None else weights.astype(float))


def measurer(labels: np.ndarray | None, predictions: np.ndarray) -> Callable[[np.ndarray], Figures]:
    """``measure`` of these rows as a function of the weights alone: what no weight changes is worked out once."""
    if labels is None:
        return _means({"mean": predictions[:, 0]})
    if labels.dtype.kind == "f":
        return _numbers(labels, predictions[:, 0])
    classes = predictions.shape[1]
    truth, predicted = labels[:, None] == np.arange(classes), predictions.argmax(1)
    own, correct = predictions[np.arange(len(labels)), labels], predicted == labels
    rows = {
        "accuracy": correct.astype(float),
        "log_loss": -np.log(np.clip(own, 1e-15, 1)),
        "brier": ((predictions - truth) ** 2).sum(1),
    }
    if classes > MANY:
        ahead, alike = (predictions > own[:, None]).sum(1), (predictions == own[:, None]).sum(1)
        return _means(rows | {"top5_accuracy": np.clip((5 - ahead) / alike, 0, 1)})
    means, areas = _means(rows), [area(truth[:, k], predictions[:, k]) for k in ([1] if classes == 2 else np.flatnonzero(truth.any(0)))]
    guess, off = predicted[:, None] == np.arange(classes), (correct - predictions.max(1))[:, None]
    sums = np.hstack([truth & guess, truth, guess, off * (bin_index(predictions.max(1), ECE_BINS)[:, None] == np.arange(ECE_BINS))])

    def figures(weights: np.ndarray) -> Figures:
        hits, positives, guesses, gaps = np.split(weights @ sums, [classes, 2 * classes, 3 * classes], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / positives  # NaN for a class that a resample does not hold: left out of the means
            f1 = np.where(positives + guesses > 0, 2 * hits / (positives + guesses), np.nan)
        return means(weights) | {
            "balanced_accuracy": _known_mean(recall),
            "macro_f1": _known_mean(f1),
            "roc_auc": _known_mean(np.stack([one(weights) for one in areas], axis=1)),
            "ece": np.abs(gaps).sum(1) / weights.sum(1),
        }

    return figures


def _means(rows: dict[str, np.ndarray]) -> Callable[[np.ndarray], Figures]:
    stacked = np.stack(list(rows.values()), axis=1)
    return lambda weights: dict(zip(rows, ((weights @ stacked) / weights.sum(1)[:, None]).T, strict=True))


def _known_mean(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(1) / known.sum(1)


def _numbers(labels: np.ndarray, estimates: np.ndarray) -> Callable[[np.ndarray], Figures]:
    """R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2, mean absolute and root mean squared error."""
    centred = labels - labels.mean()  # large numbers of little spread lose no digits
    means = _means({"mse": (labels - estimates) ** 2, "mae": np.abs(labels - estimates), "mean": centred, "square": centred**2})

    def figures(weights: np.ndarray) -> Figures:
        found = means(weights)
        spread = found["square"] - found["mean"] ** 2
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread > 0, 1 - found["mse"] / spread, np.nan)
        return {"r2": r2, "mae": found["mae"], "rmse": np.sqrt(found["mse"])}

    return figures


def area(positive: np.ndarray, scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Weights ``(B, n)`` -> the chance ``(B,)`` that a positive row is scored above a negative one, ties counting half; NaN without one
    of either.
    """
    up, down = (rows[np.argsort(scores[rows], kind="stable")] for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)))
    below, upto = (np.searchsorted(scores[down], scores[up], side) for side in ("left", "right"))
    tied = bool((below != upto).any())

    def chance(weights: np.ndarray) -> np.ndarray:
        ones, zeros = weights[:, up], np.zeros((len(weights), len(down) + 1))
        np.cumsum(weights[:, down], axis=1, out=zeros[:, 1:])
        lower = (zeros[:, below] + zeros[:, upto]) / 2 if tied else zeros[:, below]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.einsum("bi,bi->b", ones, lower) / (ones.sum(1) * zeros[:, -1])

    return chance


def bin_index(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Which of ``bins`` equal bins of [0, 1] each probability falls in; 1 belongs to the last."""
    return np.clip((confidence * bins).astype(int), 0, bins - 1)


def drawn(values: Callable[[np.ndarray], Figures], n: int, seed: int = 0, resamples: int = RESAMPLES, units: Any = None) -> Figures:
    """``values`` for every bootstrap resample of ``n`` rows, a part of them at a time, so that large sets fit into memory.

    ``units`` ``(n,)``: whom or what each row is of. Rows of one unit are alike, so whole units are drawn with replacement, all rows of
    each together (the cluster bootstrap; Field and Welsh 2007); of fewer than ``FEW`` the interval tends to be too narrow (Cameron,
    Gelbach and Miller 2008). None: each row is one of its own.
    """
    generator = np.random.default_rng(seed)
    part = max(1, _CELLS // n)
    unit = _numbered(units, n)
    size = unit.max() + 1
    found: list[Figures] = []
    for first in range(0, resamples, part):
        draws = (generator.integers(0, size, size) for _ in range(min(part, resamples - first)))
        found.append(values(np.stack([np.bincount(one, minlength=size)[unit] for one in draws]).astype(float)))
    return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def _numbered(units: Any, n: int) -> np.ndarray:
    """The number ``(n,)`` of each row's unit, from 0; that of the row itself where there are none."""
    return np.arange(n) if units is None else np.unique(np.asarray(units), return_inverse=True)[1]


def ends(draws: np.ndarray) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of the draws that are numbers (Efron 1979); NaN where none is."""
    known = draws[np.isfinite(draws)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def intervals(
    labels: np.ndarray | None, predictions: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, units: Any = None
) -> dict[str, Interval]:
    """Per metric its value on all rows and the ends of its 95 % percentile bootstrap interval (Efron 1979), of whole ``units`` where
    they are given.

    No resample of rows without an error holds one, and yet the next row may be wrong: where a share is 1, its lower end is Wilson's.
    """
    figures = measurer(labels, predictions)
    draws = drawn(figures, len(predictions), seed, resamples, units)
    unit = _numbered(units, len(predictions))
    found: dict[str, Interval] = {}
    for name, (value,) in figures(np.ones((1, len(predictions)))).items():
        low, high = ends(draws[name])
        if name in SHARES and value == 1 and labels is not None:
            low = min(low, flawless(_at_stake(name, labels, unit, predictions.shape[1])))
        found[name] = (float(value), low, high)
    return found


def flawless(n: float) -> float:
    """The lower end of Wilson's interval of ``n`` rows without an error, n / (n + z^2)."""
    return float(wilson(n, n)[0])


def _at_stake(name: str, labels: np.ndarray, unit: np.ndarray, classes: int) -> float:
    """How many units a share rests on: all of them, or, in a mean over the classes, the rarest one's for each."""
    if name in ("accuracy", "top5_accuracy"):
        return len(np.unique(unit))
    sizes = np.bincount(np.unique(np.stack([labels, unit]), axis=1)[0], minlength=classes)
    present = sizes[sizes > 0]
    return int(present.min()) * (1 if name == "roc_auc" and classes == 2 else len(present))
