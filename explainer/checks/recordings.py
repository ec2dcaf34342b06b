"""Series as the checks see them: ``(time steps, channels)`` arrays of equal or unequal length."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import NotRun
from explainer.checks.neighbours import close_vectors, distances
from explainer.checks.view import View, digest

STEPS = 32  # near copies are told on series brought to this many steps
LENGTH_RATIO = 0.9  # and only among series whose lengths differ by less than a tenth
STACKED = 2_000_000  # numbers of one stack
FLAT_SPREAD = 1e-9  # of the channel's own size: what rounding leaves of a constant


class SeriesView(View):
    """Series, each a float ``(T, C)`` array; channels beyond the commonest number are not compared."""

    modality = "series"
    noun = "series"

    def __init__(self, series: list[np.ndarray], positions: np.ndarray) -> None:
        self.series = series
        self.n = len(series)
        self.positions = positions
        widths = [s.shape[1] for s in series]
        self.channels = max(set(widths), key=widths.count) if widths else 0

    @cached_property
    def stacks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The series of the usual number of channels, those of one length together: their places ``(k,)``, ``(k, T, channels)``."""
        lengths: dict[int, list[int]] = {}
        for i, one in enumerate(self.series):
            if one.shape[1] == self.channels:
                lengths.setdefault(len(one), []).append(i)
        return [
            (np.array(places[s : s + size]), np.stack([self.series[i] for i in places[s : s + size]]))
            for steps, places in sorted(lengths.items())
            for size in [max(1, STACKED // (steps * max(1, self.channels)))]
            for s in range(0, len(places), size)
        ]

    @cached_property
    def keys(self) -> np.ndarray:
        return np.array(
            [digest(f"{s.shape}".encode() + (s.astype(np.float32) + np.float32(0)).tobytes()) for s in self.series], dtype=np.uint64
        )

    @cached_property
    def flat(self) -> np.ndarray:
        """``(n, channels)`` bool: the channel never moves in that series (one step cannot move; nor a channel without a number)."""
        result = np.zeros((self.n, self.channels), dtype=bool)
        for i, one in enumerate(self.series):
            if one.shape[1] == self.channels and len(one) > 1:
                known = np.where(np.isfinite(one), one, np.nan)
                low, high = np.fmin.reduce(known, axis=0), np.fmax.reduce(known, axis=0)
                size = np.fmax(np.abs(low), np.abs(high))
                result[i] = ~(high - low > FLAT_SPREAD * size)
        return result

    @cached_property
    def blank(self) -> np.ndarray:
        return np.asarray(self.flat.all(axis=1)) if self.channels else np.ones(self.n, dtype=bool)

    def take(self, index: np.ndarray) -> list[np.ndarray]:
        return [self.series[i] for i in index]

    def whole(self, names: Sequence[str] = ()) -> np.ndarray:
        return np.array([s.shape[1] == self.channels and bool(np.isfinite(s).all()) for s in self.series], dtype=bool)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Length, and mean, spread, lowest, highest and roughness (mean step) of each channel."""
        figures = np.full((self.n, 5, self.channels), np.nan)
        for i, one in enumerate(self.series):
            if one.shape[1] != self.channels:
                continue
            known = np.nan_to_num(one, nan=np.nan, posinf=np.nan, neginf=np.nan)
            some = np.isfinite(known).sum(axis=0)
            total = np.maximum(some, 1)
            mean = np.nansum(known, axis=0) / total
            spread = np.sqrt(np.nansum((known - mean) ** 2, axis=0) / total)
            step = np.nansum(np.abs(np.diff(known, axis=0)), axis=0) / max(1, len(one) - 1)
            figures[i] = [mean, spread, np.fmin.reduce(known, axis=0), np.fmax.reduce(known, axis=0), step]
            figures[i][:, some == 0] = np.nan
        names = ("mean", "spread", "lowest", "highest", "roughness")
        data = {f"{name} of channel {c}": figures[:, k, c] for c in range(self.channels) for k, name in enumerate(names)}
        return pd.DataFrame({"length": [float(len(s)) for s in self.series], **data}, index=range(self.n))

    @cached_property
    def signals(self) -> pd.DataFrame:
        """The summary, and each channel's first and last value."""
        ends = {
            f"{name} value of channel {c}": [s[k, c] if s.shape[1] == self.channels else np.nan for s in self.series]
            for c in range(self.channels) for name, k in (("first", 0), ("last", -1))
        }  # fmt: skip
        return pd.concat([self.summary, pd.DataFrame(ends, index=range(self.n), dtype=float)], axis=1)

    @cached_property
    def resampled(self) -> np.ndarray:
        """``(n, 32 * channels)``: each channel at 32 equally spaced times; other widths are zero."""
        result = np.zeros((self.n, STEPS, self.channels), dtype=np.float32)
        for i, one in enumerate(self.series):
            if one.shape[1] == self.channels:
                place = np.linspace(0, len(one) - 1, STEPS)
                low = np.floor(place).astype(int)
                high = np.minimum(low + 1, len(one) - 1)
                known = np.nan_to_num(one, posinf=0, neginf=0)
                result[i] = known[low] + (known[high] - known[low]) * (place - low)[:, None]
        return result.reshape(self.n, -1)

    def near(self, other: View | None = None) -> tuple[list[tuple[int, int, float]], float]:
        views: list[SeriesView] = [self] if not isinstance(other, SeriesView) else [self, other]
        if len({v.channels for v in views}) > 1:
            raise NotRun(f"The series have {self.channels} channels, the reference {views[1].channels}.")
        values = np.concatenate([v.resampled for v in views])
        blank = np.concatenate([v.blank for v in views])
        # where all series share a shape, it is the deviation from it that tells one from another
        centre, spread = np.median(values, axis=0), values.std(axis=0)
        vectors = (values - centre) / np.where(spread > 0, spread, 1)
        vectors[blank] = 0
        length = np.linalg.norm(vectors, axis=1)
        unit = vectors / np.maximum(length, 1e-12)[:, None]
        steps = np.array([len(s) for v in views for s in v.series], dtype=float)
        apart = distances(unit)

        def confirm(i: np.ndarray, j: np.ndarray) -> np.ndarray:
            sizes = np.minimum(steps[i], steps[j]) / np.maximum(steps[i], steps[j])
            lengths = np.minimum(length[i], length[j]) / np.maximum(length[i], length[j])
            return np.where(sizes >= LENGTH_RATIO, np.maximum(apart(i, j), np.log(1 / np.maximum(lengths, 1e-12))), 2.0)

        return close_vectors(vectors, np.concatenate([v.keys for v in views]), confirm, None if other is None else self.n), 0.0

    def part(self, rows: np.ndarray) -> SeriesView:
        return SeriesView([self.series[r] for r in rows], self.positions[rows])

    def chance(self) -> float:
        return 0.0


def series_of(items: Any) -> tuple[list[np.ndarray], list[int], list[tuple[int, str]]]:
    """Float ``(T, C)`` arrays, their places, and what is no series; ``(T,)`` is one channel; never raises."""
    series, places, bad = [], [], []
    for i, item in enumerate(items):
        try:
            values = item.detach().cpu() if hasattr(item, "detach") else item
            array = np.asarray(values, dtype=np.float64)
        except Exception:
            bad.append((i, f"not made of numbers ({type(item).__name__})"))
            continue
        array = array[:, None] if array.ndim == 1 else array
        if array.ndim != 2 or 0 in array.shape:
            bad.append((i, f"shape {array.shape} is no series; (time steps, channels) is"))
            continue
        series.append(array)
        places.append(i)
    return series, places, bad
