"""Whether each series' channels are those of the rest, in the same order and the same unit, and as long."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.recordings import SeriesView
from explainer.checks.sensors import SERIES_LEAST, names, quantile, view_of

CAP = 8.0  # robust standard deviations one statistic of a channel counts at most
APART = 5.5  # so far apart two channels' statistics must lie for an exchange to gain 60
ORDINARY = 0.95  # put right, a series must fit as well as this share of the others
ODD = 0.90  # of the series are taken to be in order
WORSE = 3.0  # times what another order gains in this share of the series
GAIN = 60.0  # and squared deviations in all: two channels each off by four in two figures
FACTOR = 5.0  # a spread and a step so many times that of the rest
UNIT_LEAST = 5.0  # and both so many robust standard deviations off
SPREAD_LEAST = 8.0  # robust standard deviations from zero at which a channel has a level to go by
NEAR = 3.0  # robust standard deviations within which a level, its sign changed, is the usual one
TURNED = 0.8  # correlation with the usual course, which turned around has the other sign
LENGTH = 1.5  # times as long or as short
LENGTH_REACH = 3.0  # quartile ranges beyond the quartiles: Tukey's far out
SAME_LENGTH = 0.9  # where this many have one length, every other is odd


def _figures(view: SeriesView) -> np.ndarray:
    """``(n, channels, 3)``: median, log of the spread (q90 - q10), log of the median step; NaN where there is none."""
    result = np.full((view.n, view.channels, 3), np.nan)
    for places, values in view.stacks:
        if values.shape[1] < 4:
            continue
        low, middle, high = quantile(values, [0.1, 0.5, 0.9])
        step = np.nanmean(np.abs(np.diff(values, axis=1)), axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[places] = np.stack([middle, np.log(high - low), np.log(step)], axis=2)
    return np.where(np.isfinite(result), result, np.nan)


def _usual(figures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and robust spread over the series, of each channel's figures."""
    middle = np.nanmedian(figures, axis=0)
    spread = 1.4826 * np.nanmedian(np.abs(figures - middle), axis=0)
    return middle, np.maximum(spread, 1e-9 * np.maximum(np.abs(middle), 1))


def swapped_channels(context: Context) -> Finding:
    """Series whose channels fit the rest's better in another order.

    Each channel's median, log spread and log step are held against each channel's usual ones over all series, in robust standard
    deviations capped at 8; the order of least summed squares is the assignment problem (Kuhn 1955). A series is named where another order
    gains 60 and three times what nine series in ten would gain, and then fits as well as the others do as they stand.
    """
    view = view_of(context)
    context.need_rows(SERIES_LEAST)
    if view.channels < 2:
        raise NotRun("There is only one channel.")
    figures = _figures(view)
    middle, spread = _usual(figures)
    between = np.abs(middle[:, None] - middle[None]) / np.maximum(spread[:, None], spread[None])
    told = np.nanmax(between, axis=2) >= APART
    if not told.any():
        raise NotRun("The channels are so alike that an exchange would not show.")
    # cost[i, a, b]: how badly what stands in channel a fits channel b
    apart = np.abs(figures[:, :, None] - middle[None, None]) / spread[None, None]
    cost = np.nansum(np.minimum(np.nan_to_num(apart, nan=0.0), CAP) ** 2, axis=3)
    from scipy.optimize import linear_sum_assignment

    own, here = np.trace(cost, axis1=1, axis2=2), np.arange(view.channels)
    orders = np.array([linear_sum_assignment(one)[1] for one in cost])
    best = np.take_along_axis(cost, orders[:, :, None], axis=2)[:, :, 0].sum(axis=1)
    gain = own - best
    moved = orders != here
    shows = (told[here, orders] & moved).any(axis=1)
    bad = shows & (gain > max(GAIN, WORSE * float(np.quantile(gain, ODD)))) & (best <= np.quantile(own, ORDINARY))
    details: dict[str, Any] = {"value": bad.mean(), "threshold": 0.0}
    if bad.any():
        shown = [{"row": view.at([i])[0], "channels hold": orders[i]} for i in np.flatnonzero(bad)[:EVIDENCE_SHOWN]]
        channels = names(np.flatnonzero(moved[bad].any(axis=0)))
        message = f"{share(int(bad.sum()), view.n)} series fit the rest only with their channels in another order: {listed(channels)}."
        return failed(message, rows=view.at(bad), columns=channels, evidence={"series": shown}, **details)
    pairs = int(np.triu(told, 1).sum())
    return passed(
        f"No series has its channels in another order ({pairs} of {view.channels * (view.channels - 1) // 2} pairs would show).", **details
    )


def scaled_channels(context: Context) -> Finding:
    """Series with a channel that is off by a constant factor: by 10 or 1,000, or turned around.

    By a factor: its spread and its steps are five times those of the rest (or a fifth) and five robust standard deviations (of their
    log) off; of a channel that lies far from zero, its level is. Turned around: its course goes against the usual one, or its level
    has the other sign.
    """
    view = view_of(context)
    context.need_rows(SERIES_LEAST)
    figures = _figures(view)
    middle, spread = _usual(figures)
    factor = np.exp(figures[..., 1] - middle[:, 1])
    off = figures[..., 1:] - middle[:, 1:]
    scaled = ((np.abs(off) > np.log(FACTOR)) & (np.abs(off) > UNIT_LEAST * spread[:, 1:])).all(axis=2) & (off[..., 0] * off[..., 1] > 0)
    level = np.abs(middle[:, 0]) > SPREAD_LEAST * spread[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = figures[..., 0] / middle[:, 0]
        far = np.abs(np.log(np.abs(ratio)))
    # a course that keeps its level and only moves more is livelier, not in another unit
    scaled = np.where(level, np.isfinite(far) & (far > np.log(FACTOR)), scaled)
    turned = (level & (np.abs(figures[..., 0] + middle[:, 0]) < NEAR * spread[:, 0])) | _against(view)
    bad = np.nan_to_num(scaled | turned).astype(bool)
    rows = bad.any(axis=1)
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    if rows.any():
        shown = []
        for i in np.flatnonzero(rows)[:EVIDENCE_SHOWN]:
            for c in np.flatnonzero(bad[i]):
                shown.append({"row": view.at([i])[0], "channel": int(c), "factor": -1.0 if turned[i, c] else float(factor[i, c])})
        channels = names(np.flatnonzero(bad.any(axis=0)))
        first = listed(f"{s['row']} (channel {s['channel']}: {s['factor']:.3g} times)" for s in shown)
        message = f"{share(int(rows.sum()), view.n)} series have a channel in another unit or turned around: series {first}."
        return failed(message, rows=view.at(rows), columns=channels, evidence={"series": shown[:EVIDENCE_SHOWN]}, **details)
    return passed("No channel of a series is in another unit than in the rest, or turned around.", **details)


def _against(view: SeriesView) -> np.ndarray:
    """``(n, channels)`` bool: the course runs against the median course of a channel whose series nearly all follow it."""
    courses = view.resampled.reshape(view.n, -1, view.channels).astype(float)
    courses = courses - courses.mean(axis=1, keepdims=True)
    usual = np.median(courses, axis=0)
    length = np.linalg.norm(courses, axis=1) * np.linalg.norm(usual, axis=0)
    likeness = np.einsum("itc,tc->ic", courses, usual) / np.maximum(length, 1e-300)
    followed = np.quantile(likeness, 1 - ODD, axis=0) > TURNED
    return np.asarray(followed & (likeness < -TURNED))


def series_lengths(context: Context) -> Finding:
    """Series far longer or shorter than the rest.

    Of another length, where nine in ten share one; else by 1.5 times and beyond Tukey's far fences of the logarithm.
    """
    view = view_of(context)
    context.need_rows(SERIES_LEAST)
    steps = np.array([len(s) for s in view.series], dtype=float)
    lengths, sizes = np.unique(steps, return_counts=True)
    usual = float(np.median(steps))
    if sizes.max() >= SAME_LENGTH * view.n:
        usual = float(lengths[sizes.argmax()])
        bad = steps != usual
    else:
        low, high = np.quantile(np.log(steps), [0.25, 0.75])
        reach = LENGTH_REACH * (high - low)
        bad = (np.log(steps) < low - max(reach, np.log(LENGTH))) | (np.log(steps) > high + max(reach, np.log(LENGTH)))
    details: dict[str, Any] = {
        "value": bad.mean(),
        "threshold": 0.0,
        "evidence": {"usual": usual, "shortest": steps.min(), "longest": steps.max()},
    }
    if bad.any():
        odd = listed(f"{int(v):,}" for v in np.unique(steps[bad]))
        message = f"{share(int(bad.sum()), view.n)} series are of an odd length: {odd} steps, where the usual is {usual:,.0f}."
        return failed(message, rows=view.at(bad), **details)
    return passed(f"No series is far longer or shorter than the rest ({steps.min():,.0f} to {steps.max():,.0f} steps).", **details)


CHECKS: tuple[Check, ...] = (
    Check(
        "swapped channels",
        ("series",),
        swapped_channels,
        "A model reads a channel by its place.",
        "Check the cabling or the columns of these recordings; put the channels back in order.",
    ),
    Check(
        "scaled channels",
        ("series",),
        scaled_channels,
        "Volts read as millivolts are another signal to a model.",
        "Find the unit of these recordings and convert; turn polarity back.",
    ),
    Check(
        "series lengths",
        ("series",),
        series_lengths,
        "What is cut short or runs on is padded or cut by the model, and may be told apart by that alone.",
        "Check where they start and end; cut or leave out.",
    ),
)
