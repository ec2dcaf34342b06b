"""Ablation and occlusion: how much of the score goes when one part, or what lies under a sliding window, is hidden."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from explainer.coalitions import Coalitions, rounds
from explainer.errors import InvalidInput
from explainer.features import image, series
from explainer.methods.attribution import Attribution

_BYTES_AT_ONCE = 2**25  # of masks or of windows built at once
_SHARE = 7  # a window is this part of a side long, unless told otherwise


def ablation(model: Any, inputs: Any, target: Any, *, coalitions: Coalitions) -> Attribution:
    r"""The score minus the score without the part, :math:`f(x) - f(x_{-j})`, one part at a time; exact.

    Leave-one-out, or feature ablation (captum); values ``(*feature axes, k)`` in the unit of the score. The parts of a pair
    that stand in for each other get 0 each, so the values need not add up. A part whose absence changes nothing gets 0.
    """
    features, n = coalitions.features, len(inputs)
    live = [np.flatnonzero(~features.idle(i)) for i in range(n)]
    coalitions.plan(sum(len(one) + 1 for one in live))
    values = []
    for group in _in_groups([len(one) * features.players(i) for i, one in enumerate(live)]):
        scores = coalitions.gather([(i, _all_but(features.players(i), live[i])) for i in group])
        for i, v in zip(group, scores, strict=True):
            lost = np.zeros((features.players(i), v.shape[1]))
            lost[live[i]] = v[0] - v[1:]
            if np.isnan(v[0]).any():
                lost[:] = np.nan
            values.append(lost.reshape(*features.shape(i), -1))
            coalitions.forget(i)
    return Attribution(
        values, features.axes, [features.names(i) for i in range(n)], evaluations=coalitions.evaluations,
        parameters={"absence": features.absence},
    )  # fmt: skip


def occlusion(
    model: Any, inputs: Any, target: Any, *, coalitions: Coalitions, baseline: Any, background: Any,
    window: int | Sequence[int] | None = None, stride: int | Sequence[int] | None = None,
) -> Attribution:  # fmt: skip
    r"""The score lost under a sliding window, per pixel the mean over the windows that cover it.

    .. math:: \phi_p = \frac{1}{|W_p|} \sum_{w \in W_p} f(x) - f(x \text{ with } w \text{ hidden}), \quad W_p = \{w \ni p\}

    Zeiler & Fergus (2014). Images: ``window`` (rows, columns), values ``(row, column, k)``, all colours hidden at once. Series:
    ``window`` (steps, channels), values ``(time, channel, k)``. Texts: ``window`` words in a row, values ``(word, k)``. An int
    for images means a square, for series steps of one channel. The last window is cut at the edge. ``stride`` is by default a
    quarter of the window, and larger where the budget does not allow as many windows. Windows side by side come first, then those
    between them, for all inputs in turn: work that is stopped has hidden every part at least once, or says where not.

    Raises InvalidInput.
    """
    views: dict[str, type[_Texts] | type[_Pictures]] = {"image": _Pictures, "text": _Texts, "series": _Courses}
    view = views[model.modality](inputs, coalitions, baseline, background)
    everyone = range(len(inputs))
    plans = [_plan(view, i, window, stride, coalitions.budget.evaluations) for i in everyone]
    windows = [_windows(view.shape(i), *plan) for i, plan in enumerate(plans)]
    coalitions.plan(sum(len(one) + 1 for one in windows))
    lost = _in_turn(view, windows, [len(_windows(view.shape(i), size, _beside(size, step))) for i, (size, step) in enumerate(plans)])
    values = [_averaged(view.shape(i), windows[i], lost[i]) for i in everyone]
    bare = {i: float(np.isnan(values[i]).any(axis=-1).mean()) for i in everyone if np.isnan(values[i]).any() and i not in coalitions.failed}
    done = [int(np.isfinite(one).all(axis=1).sum()) for one in lost]
    total = sum(map(len, windows))
    return Attribution(
        values, view.axes, [view.names(i) for i in everyone], evaluations=coalitions.evaluations,
        parameters={"window": plans[0][0], "stride": plans[0][1], "absence": view.absence},
        notes=(f"Of {total:,} windows, {sum(done):,} were scored, spread over the inputs.",) if coalitions.stopped else (),
        faults={i: f"{coalitions.stopped} {share:.0%} of the parts had not been under a window by then." for i, share in bare.items()},
    )  # fmt: skip


def _in_turn(view: Any, windows: list[list[Window]], first: list[int]) -> list[np.ndarray]:
    """What each window loses, scored in rounds over all inputs: those ``first`` ones that cover an input, then twice as many each time."""
    lost: list[np.ndarray] = []
    for turn in itertools.zip_longest(*(list(rounds(len(one), least)) for one, least in zip(windows, first, strict=True))):
        for i, part in enumerate(turn):
            if part is not None:
                found = view.lost(i, windows[i][part])
                if part.start == 0:
                    lost.append(np.full((len(windows[i]), found.shape[1]), np.nan))
                lost[i][part] = found
    return lost


Window = tuple[slice, ...]


def _plan(view: Any, i: int, window: Any, stride: Any, most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Window and stride per axis; a window is never larger than the input."""
    shape = view.shape(i)
    wanted = view.window(i) if window is None else _per_axis("window", window, view.axes)
    size = tuple(min(w, s) for w, s in zip(wanted, shape, strict=True))
    if stride is not None:
        step = _per_axis("stride", stride, view.axes)
        if any(t > w and w < s for t, w, s in zip(step, size, shape, strict=True)):
            raise InvalidInput(f"stride={stride!r} is larger than the window {size}: what lies between two windows would never be hidden.")
        return size, step
    step = tuple(max(1, w // 4) for w in size)
    while len(_windows(shape, size, step)) >= most and step != size:
        step = tuple(min(w, t + 1) for t, w in zip(step, size, strict=True))
    return size, step


def _per_axis(name: str, given: Any, axes: tuple[str, ...]) -> tuple[int, ...]:
    if isinstance(given, (tuple, list)):
        sizes = tuple(given)
    else:
        sizes = (given, 1) if axes == ("time", "channel") else (given,) * len(axes)
    if len(sizes) != len(axes) or not all(isinstance(s, (int, np.integer)) and not isinstance(s, bool) and s > 0 for s in sizes):
        raise InvalidInput(f"{name}={given!r} is not understood; pass a whole number above 0, or one for each of {', '.join(axes)}.")
    return tuple(int(s) for s in sizes)


def _beside(size: tuple[int, ...], step: tuple[int, ...]) -> tuple[int, ...]:
    """The longest multiple of the stride at which windows still touch."""
    return tuple(t * max(1, w // t) for w, t in zip(size, step, strict=True))


@lru_cache(maxsize=16)
def _windows(shape: tuple[int, ...], size: tuple[int, ...], step: tuple[int, ...]) -> list[Window]:
    """The places of the window along every axis, the last one cut at the edge; first such as cover all, then those between them."""
    starts = [np.arange(-(-(s - w) // t) + 1) * t for s, w, t in zip(shape, size, step, strict=True)]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(shape))
    apart = _beside(size, step)
    finer = np.zeros(len(corners), dtype=np.int64)
    for axis, (begin, wide) in enumerate(zip(starts, apart, strict=True)):
        first = (corners[:, axis] % wide == 0) | ((corners[:, axis] == begin[-1]) & (begin[-1] % wide != 0))
        finer = np.maximum(finer, ~first)
    corners = corners[np.lexsort((np.random.default_rng(0).permutation(len(corners)), finer))]
    return [tuple(slice(int(a), int(a) + w) for a, w in zip(corner, size, strict=True)) for corner in corners]


def _averaged(shape: tuple[int, ...], windows: list[Window], lost: np.ndarray) -> np.ndarray:
    """What each cell lost ``(*shape, k)``: the mean over the windows on it that were scored."""
    total, count = np.zeros((*shape, lost.shape[1])), np.zeros((*shape, 1))
    for window, value in zip(windows, lost, strict=True):
        if np.isfinite(value).all():
            total[window] += value
            count[window] += 1
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


class _Texts:
    axes: tuple[str, ...] = ("word",)

    def __init__(self, inputs: Any, coalitions: Coalitions, baseline: Any, background: Any) -> None:
        self._engine = coalitions
        self.axes = coalitions.features.axes
        self.names = coalitions.features.names
        self.absence = coalitions.features.absence

    def shape(self, i: int) -> tuple[int, ...]:
        return (len(self.names(i)),)

    def window(self, i: int) -> tuple[int, ...]:
        return (2,)

    def lost(self, i: int, windows: list[Window]) -> np.ndarray:
        masks = np.ones((len(windows) + 1, *self.shape(i)), dtype=bool)
        for mask, window in zip(masks[1:], windows, strict=True):
            mask[window] = False
        v = self._engine(i, masks)
        return v[0] - v[1:]


class _Pictures:
    axes: tuple[str, ...] = ("row", "column")
    absence = "window painted with the baseline"

    def __init__(self, inputs: Any, coalitions: Coalitions, baseline: Any, background: Any) -> None:
        self._engine, self._inputs = coalitions, inputs
        self._channels = coalitions.model.feature_names
        self._hidden = self._baseline(inputs, baseline, background)
        self._at_input: dict[int, np.ndarray] = {}

    def _baseline(self, inputs: Any, baseline: Any, background: Any) -> Any:
        return image.baseline_of(inputs, baseline)

    def names(self, i: int) -> tuple[str, ...]:
        return ()  # pixels have no names, only positions

    def shape(self, i: int) -> tuple[int, ...]:
        return tuple(self._inputs[i].shape[:2])

    def window(self, i: int) -> tuple[int, ...]:
        return tuple(max(1, round(side / _SHARE)) for side in self.shape(i))

    def lost(self, i: int, windows: list[Window]) -> np.ndarray:
        own = self._inputs[i]
        hidden = np.broadcast_to(self._hidden[i], own.shape)
        # What a window leaves as it is loses nothing, and costs nothing.
        live = [j for j, window in enumerate(windows) if (own[window] != hidden[window]).any()]
        if i not in self._at_input or np.isnan(self._at_input[i]).any():
            self._at_input[i] = self._engine.score_rows(i, self._inputs[i : i + 1])[0]
        at_input = self._at_input[i]
        lost = np.zeros((len(windows), len(at_input)))
        at_once = max(1, _BYTES_AT_ONCE // own.nbytes)
        for start in range(0, len(live), at_once):
            chosen = live[start : start + at_once]
            rows = np.repeat(own[None], len(chosen), axis=0)
            for row, j in zip(rows, chosen, strict=True):
                row[windows[j]] = hidden[windows[j]]
            lost[chosen] = at_input - self._engine.score_rows(i, self._canonical(rows))
        return lost if np.isfinite(at_input).all() else np.full_like(lost, np.nan)

    def _canonical(self, rows: np.ndarray) -> Any:
        return rows


class _Courses(_Pictures):
    axes = ("time", "channel")
    absence = "window flat at the channel's reference value"

    def _baseline(self, inputs: Any, baseline: Any, background: Any) -> Any:
        return [series.baseline_of(inputs, baseline, background)] * len(inputs)

    def names(self, i: int) -> tuple[str, ...]:
        steps, channels = self._inputs[i].shape
        return tuple(f"{c} at step {t}" for t in range(steps) for c in self._channels or [f"channel {c}" for c in range(channels)])

    def window(self, i: int) -> tuple[int, ...]:
        return max(1, round(len(self._inputs[i]) / _SHARE)), 1

    def _canonical(self, rows: np.ndarray) -> Any:
        return list(rows)


def _all_but(players: int, live: np.ndarray) -> np.ndarray:
    """Masks: all parts, then all but each of ``live``."""
    masks = np.ones((len(live) + 1, players), dtype=bool)
    masks[np.arange(len(live)) + 1, live] = False
    return masks


def _in_groups(sizes: list[int]) -> Iterator[list[int]]:
    """Instances whose masks are made together, without filling the memory with them."""
    group: list[int] = []
    total = 0
    for i, size in enumerate(sizes):
        if group and total + size > _BYTES_AT_ONCE:
            yield group
            group, total = [], 0
        group.append(i)
        total += size
    if group:
        yield group
