"""How good predictions are, one number from labels and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from explainer.errors import InvalidInput, Unsupported, unknown
from explainer.model import Model


@dataclass(frozen=True)
class Metric:
    """``score(labels, scores)``, of which more is better; ``sign`` is -1 where the metric people name is a loss."""

    name: str
    task: str
    score: Callable[[np.ndarray, np.ndarray], float]
    sign: int = 1


def _accuracy(y: np.ndarray, p: np.ndarray) -> float:
    return float(np.mean(p.argmax(axis=1) == y))


def _balanced(y: np.ndarray, p: np.ndarray) -> float:
    right = p.argmax(axis=1) == y
    return float(np.mean([right[y == c].mean() for c in np.unique(y)]))


def _log_loss(y: np.ndarray, p: np.ndarray) -> float:
    own = p[np.arange(len(y)), y] / p.sum(axis=1)
    return float(np.mean(np.log(np.clip(own, np.finfo(float).eps, 1))))


def _brier(y: np.ndarray, p: np.ndarray) -> float:
    if p.shape[1] == 2:
        return -float(np.mean((p[:, 1] - y) ** 2))
    return -float(np.mean(((p - np.eye(p.shape[1])[y]) ** 2).sum(axis=1)))


def _area(y: np.ndarray, p: np.ndarray) -> float:
    """Area under the ROC curve, over several classes the mean of each against the rest; NaN where only one class is there."""
    from scipy.stats import rankdata

    areas = []
    for c in [1] if p.shape[1] == 2 else range(p.shape[1]):
        inside = y == c
        of, others = int(inside.sum()), int((~inside).sum())
        if of and others:
            areas.append((rankdata(p[:, c])[inside].sum() - of * (of + 1) / 2) / (of * others))
    return float(np.mean(areas)) if areas else float("nan")


def _r2(y: np.ndarray, p: np.ndarray) -> float:
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.mean(1 - ((y - p) ** 2).sum(axis=0) / np.where(total > 0, total, np.nan)))


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "classification", _accuracy),
        Metric("balanced_accuracy", "classification", _balanced),
        Metric("log_loss", "classification", _log_loss, -1),
        Metric("brier", "classification", _brier, -1),
        Metric("roc_auc", "classification", _area),
        Metric("r2", "regression", _r2),
        Metric("squared_error", "regression", lambda y, p: -float(np.mean((y - p) ** 2)), -1),
        Metric("absolute_error", "regression", lambda y, p: -float(np.mean(np.abs(y - p))), -1),
    )
}


def metric_of(model: Model, metric: Any) -> Metric:
    """The metric asked for; "auto" is accuracy or R2, a function ``(labels, scores) -> number`` is taken as more is better."""
    if callable(metric):
        return Metric(getattr(metric, "__name__", type(metric).__name__), model.task, metric)
    if metric == "auto":
        metric = "accuracy" if model.task == "classification" else "r2"
    if metric not in METRICS:
        raise unknown("metric", metric, ("auto", *METRICS))
    if METRICS[metric].task != model.task:
        fitting = ", ".join(name for name, one in METRICS.items() if one.task == model.task)
        raise Unsupported(f"{metric} is for {METRICS[metric].task}; {model.name} does {model.task}. Use {fitting}.")
    return METRICS[metric]


def labels_of(model: Model, labels: Any, rows: int) -> np.ndarray:
    """Labels as class numbers ``(n,)``, or as numbers ``(n, outputs)`` for a regression. Raises InvalidInput, UnknownName."""
    if labels is None:
        raise InvalidInput("What is right must be known: pass labels, one per row.")
    given = np.asarray(labels)
    if len(given) != rows:
        raise InvalidInput(f"{rows} rows came with {len(given)} labels; one label per row is needed.")
    if model.task == "regression":
        try:
            numbers = given.astype(float).reshape(rows, -1)
        except (TypeError, ValueError):
            raise InvalidInput(f"{model.name} predicts numbers, and the labels are not all numbers ({given.ravel()[0]!r}).") from None
        if numbers.shape[1] != len(model.class_names) or not np.isfinite(numbers).all():
            raise InvalidInput(f"Finite labels of shape ({rows}, {len(model.class_names)}) are needed; {given.shape} came.")
        return numbers
    flat = given.reshape(-1)
    place = {name: k for k, name in enumerate(model.class_names)}
    if all(str(label) in place for label in flat):
        return np.array([place[str(label)] for label in flat], dtype=np.int64)
    whole = flat.dtype.kind in "iub" or (flat.dtype.kind == "f" and bool((flat == np.rint(flat)).all()))
    if whole and flat.min() >= 0 and flat.max() < len(place):
        return flat.astype(np.int64)
    strange = next(label for label in flat if str(label) not in place)
    raise unknown("label", strange, model.class_names)
