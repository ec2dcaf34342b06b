"""Time segments x channels: the parts of a series; an absent one is flat at the channel's reference value."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.features.base import Features

PLAYERS = 60  # segments x channels aimed at: more would dilute the budget
MOST_SEGMENTS = 10


def baseline_of(series: list[np.ndarray], baseline: Any = "auto", background: list[np.ndarray] | None = None) -> np.ndarray:
    """Reference value per channel ``(channels,)``; "auto" is the mean over the background, or zeros without one."""
    channels = series[0].shape[1]
    if isinstance(baseline, str):
        if baseline not in ("auto", "zeros", "mean"):
            raise unknown("series baseline", baseline, ("auto", "zeros", "mean"))
        if baseline == "zeros" or (baseline == "auto" and not background):
            return np.zeros(channels, dtype=np.float32)
        return np.concatenate(background or series).mean(axis=0, dtype=np.float64).astype(np.float32)
    array = np.asarray(baseline, dtype=np.float32)
    if array.shape not in ((), (channels,)):
        raise InvalidInput(f"The baseline has shape {array.shape}; one number per channel ({channels}) is needed.")
    return np.broadcast_to(array, (channels,)).copy()


class Segments(Features):
    """One player per time segment and channel; segments are equal in length, at most ten, each at least one step."""

    axes = ("segment", "channel")

    def __init__(
        self, series: list[np.ndarray], channel_names: tuple[str, ...], baseline: Any = "auto", background: list[np.ndarray] | None = None
    ) -> None:
        self.series = series
        channels = series[0].shape[1]
        self.channels = channel_names or tuple(f"channel {c}" for c in range(channels))
        self.baseline = baseline_of(series, baseline, background)
        most = int(np.clip(PLAYERS // channels, 2, MOST_SEGMENTS))
        self.segments = [np.arange(len(one)) * min(most, len(one)) // len(one) for one in series]
        self.absence = "segment flat at the channel's reference value"

    def names(self, i: int) -> tuple[str, ...]:
        labels = self.segments[i]
        spans = [np.flatnonzero(labels == s) for s in range(labels[-1] + 1)]
        steps = [f"t{s[0]}-{s[-1]}" if len(s) > 1 else f"t{s[0]}" for s in spans]
        return tuple(f"{channel} {step}" for step in steps for channel in self.channels)

    def shape(self, i: int) -> tuple[int, ...]:
        return (int(self.segments[i][-1]) + 1, len(self.channels))

    def rows(self, i: int, masks: np.ndarray) -> list[np.ndarray]:
        shown = masks.reshape(len(masks), *self.shape(i))[:, self.segments[i]]  # (m, T, C)
        return list(np.where(shown, self.series[i], self.baseline))

    def idle(self, i: int) -> np.ndarray:
        same = np.ones(self.shape(i), dtype=bool)
        np.logical_and.at(same, self.segments[i], self.series[i] == self.baseline)
        return same.reshape(-1)

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if axes == self.axes:
            return values.reshape(-1)
        pooled = np.zeros(self.shape(i))
        np.add.at(pooled, self.segments[i], values)
        return pooled.reshape(-1)

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"segments": self.segments[i]}
