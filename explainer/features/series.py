"""Time segments x channels: the parts of a series; an absent one is flat, a line between its neighbours, or another series' course."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.errors import InvalidInput, unknown
from explainer.features.base import Features, word_and_number

PLAYERS = 60  # segments x channels aimed at: more would dilute the budget
MOST_SEGMENTS = 10
BASELINES = ("auto", "zeros", "mean", "interpolate", "background")
KINDS = ("auto", "segments")


def baseline_of(series: list[np.ndarray], baseline: Any = "auto", background: list[np.ndarray] | None = None) -> np.ndarray:
    """Reference value per channel ``(channels,)``; "auto" is the mean over the background, or zeros without one.

    Raises UnknownName, and InvalidInput for "interpolate" and "background", which are no one value per channel.
    """
    channels = series[0].shape[1]
    if isinstance(baseline, str):
        if baseline in ("interpolate", "background"):
            raise InvalidInput(
                f"baseline={baseline!r} puts other values at each step, and this method needs one reference value per channel; "
                "use 'zeros', 'mean' or one number per channel here."
            )
        if baseline not in BASELINES:
            raise unknown("series baseline", baseline, BASELINES)
        if baseline == "zeros" or (baseline == "auto" and not background):
            return np.zeros(channels, dtype=np.float32)
        return np.concatenate(background or series).mean(axis=0, dtype=np.float64).astype(np.float32)
    array = np.asarray(baseline, dtype=np.float32)
    if array.shape not in ((), (channels,)):
        raise InvalidInput(f"The baseline has shape {array.shape}; one number per channel ({channels}) is needed.")
    return np.broadcast_to(array, (channels,)).copy()


class Segments(Features):
    """One player per time segment and channel; segments are equal in length, each at least one step.

    ``features``: "auto" (at most ten segments), a number of them as in ``("segments", 20)``, or one label per time step.
    ``baseline``: flat at the channel's reference value (see :func:`baseline_of`); "interpolate", the line between the nearest
    present steps of the channel; or "background", the same steps of each background series, stretched to the length.
    """

    axes = ("segment", "channel")

    def __init__(
        self,
        series: list[np.ndarray],
        channel_names: tuple[str, ...],
        baseline: Any = "auto",
        background: list[np.ndarray] | None = None,
        features: Any = "auto",
    ) -> None:
        self.series = series
        channels = series[0].shape[1]
        self.channels = channel_names or tuple(f"channel {c}" for c in range(channels))
        self._draws: list[np.ndarray] = []
        self.conditional = isinstance(baseline, str) and baseline == "interpolate"
        self.absence = "segment flat at the channel's reference value"
        if self.conditional:
            self.absence = "line between the nearest present steps of the channel (with none present: flat at its reference value)"
        elif isinstance(baseline, str) and baseline == "background":
            if not background:
                raise InvalidInput("baseline='background' needs background series; pass background= to wrap() or explain().")
            self._draws, self.repeats = list(background), len(background)
            self.absence = f"mean over the same steps of {len(background)} background series"
        self.baseline = baseline_of(series, "auto" if self.conditional or self._draws else baseline, background)
        self.segments = [_labels(len(one), features, channels) for one in series]

    def names(self, i: int) -> tuple[str, ...]:
        labels = self.segments[i]
        spans = [np.flatnonzero(labels == s) for s in range(labels[-1] + 1)]
        steps = [f"t{s[0]}-{s[-1]}" if len(s) > 1 else f"t{s[0]}" for s in spans]
        return tuple(f"{channel} {step}" for step in steps for channel in self.channels)

    def shape(self, i: int) -> tuple[int, ...]:
        return (int(self.segments[i][-1]) + 1, len(self.channels))

    def row_bytes(self, i: int) -> int:
        return (5 if self.conditional else 1) * 8 * self.series[i].size

    def rows(self, i: int, masks: np.ndarray) -> list[np.ndarray]:
        shown = masks.reshape(len(masks), *self.shape(i))[:, self.segments[i]]  # (m, T, C)
        if self.conditional:
            return list(_bridged(self.series[i], shown, self.baseline))
        if self._draws:
            every = np.where(shown[:, None], self.series[i], self._stretched(len(self.series[i])))
            return list(every.reshape(-1, *self.series[i].shape))
        return list(np.where(shown, self.series[i], self.baseline))

    def _stretched(self, steps: int) -> np.ndarray:
        """The background series ``(repeats, steps, channels)`` at that length."""
        return np.stack([_resampled(one, steps) for one in self._draws])

    def idle(self, i: int) -> np.ndarray:
        if self.conditional:
            return super().idle(i)
        stand_ins = self._stretched(len(self.series[i])) if self._draws else self.baseline
        alike = np.broadcast_to(self.series[i] == stand_ins, (self.repeats, *self.series[i].shape)).all(axis=0)
        same = np.ones(self.shape(i), dtype=bool)
        np.logical_and.at(same, self.segments[i], alike)
        return same.reshape(-1)

    def pool(self, i: int, values: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
        if axes == self.axes:
            return values.reshape(-1)
        pooled = np.zeros(self.shape(i))
        np.add.at(pooled, self.segments[i], values)
        return pooled.reshape(-1)

    def extras(self, i: int) -> dict[str, np.ndarray]:
        return {"segments": self.segments[i]}


def _labels(steps: int, features: Any, channels: int) -> np.ndarray:
    """The segment ``(steps,)`` of each time step, from 0 upwards."""
    if isinstance(features, str) or (isinstance(features, tuple) and features and isinstance(features[0], str)):
        number = word_and_number("series features", features, KINDS, KINDS[1:])[1]
        count = int(np.clip(PLAYERS // channels, 2, MOST_SEGMENTS)) if number is None else max(1, round(number))
        return np.arange(steps) * min(count, steps) // steps
    labels = np.asarray(features)
    if labels.shape != (steps,) or labels.dtype.kind not in "iu" or (np.diff(labels) < 0).any():
        raise InvalidInput(
            f"features= has shape {labels.shape}; a series of {steps} steps takes ('segments', number), or one whole number per step "
            "that never falls."
        )
    return np.unique(labels, return_inverse=True)[1].reshape(steps)


def _resampled(one: np.ndarray, steps: int) -> np.ndarray:
    if len(one) == steps:
        return one
    place = np.linspace(0, len(one) - 1, steps)
    return np.stack([np.interp(place, np.arange(len(one)), channel) for channel in one.T], axis=1).astype(one.dtype)


def _bridged(one: np.ndarray, shown: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Series ``(m, T, C)``: present steps as they are, absent ones on the line between the present steps on both sides."""
    steps = np.arange(len(one))[None, :, None]
    before = np.maximum.accumulate(np.where(shown, steps, -1), axis=1)
    after = np.minimum.accumulate(np.where(shown, steps, len(one))[:, ::-1], axis=1)[:, ::-1]
    before, after = np.where(before < 0, after, before), np.where(after >= len(one), before, after)
    low, high = np.clip(before, 0, len(one) - 1), np.clip(after, 0, len(one) - 1)
    channel = np.arange(one.shape[1])
    start, end = one[low, channel], one[high, channel]
    share = ((steps - low) / np.maximum(high - low, 1)).astype(one.dtype)
    lines = np.where(shown.any(axis=1, keepdims=True), start + (end - start) * share, reference)
    return np.where(shown, one, lines.astype(one.dtype))
