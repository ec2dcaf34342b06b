"""What drives a model over many rows: the mean size of contributions, with bootstrap intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explainer.explanation import Explanation

RESAMPLES = 1000
FEWEST = 3  # rows a word must stand in to be shown


@dataclass(frozen=True)
class Importance:
    """Mean absolute contributions per named part with a 95 % interval over rows; for images a picture ``(H, W)`` instead."""

    names: tuple[str, ...]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rows: int
    picture: np.ndarray | None = None


def summarised(ex: Explanation, channels: Sequence[str] = ()) -> Importance:
    """Sum up a batch of explanations over its rows."""
    nothing = np.empty(0)
    if ex.modality == "image":
        return Importance((), nothing, nothing, nothing, len(ex), np.mean([_painted(one) for one in ex], axis=0))
    if ex.modality == "text":
        return _words(ex)
    parts = [np.abs(one.values[0]) for one in ex]
    if ex.modality == "series":
        parts = [part.sum(0) for part in parts]
    names = tuple(channels) if len(channels) == len(parts[0]) else ex.feature_names[0]
    if len(names) != len(parts[0]):
        names = tuple(f"channel {c}" for c in range(len(parts[0])))
    return Importance(names, *_interval(np.stack(parts)), rows=len(ex))


def _painted(one: Explanation) -> np.ndarray:
    values = np.abs(one.values[0])
    if one.axes[1:] == ("superpixel",):
        labels = np.asarray(one.extras["segments"][0])
        # A superpixel's value belongs to it as a whole: spread over its pixels, so that large ones do not look strong.
        return (values / np.bincount(labels.ravel(), minlength=len(values)))[labels]
    return values if values.ndim == 2 else values.sum(-1)


def _words(ex: Explanation) -> Importance:
    found: dict[str, list[float]] = defaultdict(list)
    for one in ex:
        within: dict[str, float] = defaultdict(float)
        for name, value in zip(one.feature_names[0], np.abs(one.values[0].ravel()), strict=True):
            within[name.lower().strip(".,;:()\"'")] += float(value)
        for word, value in within.items():
            found[word].append(value)
    kept = sorted(((w, v) for w, v in found.items() if len(v) >= FEWEST and w), key=lambda item: -np.mean(item[1]))[:40]
    if not kept:
        kept = sorted(found.items(), key=lambda item: -np.mean(item[1]))[:20]
    bounds = [_interval(np.array(values)[:, None]) for _, values in kept]
    mean, low, high = (np.array([b[k][0] for b in bounds]) for k in range(3))
    return Importance(tuple(w for w, _ in kept), mean, low, high, rows=len(ex))


def _interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over rows and its 95 % percentile bootstrap interval (Efron 1979)."""
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, len(values), (RESAMPLES, len(values)))
    means = values[drawn].mean(1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return values.mean(0), low, high
