"""The checks that only series need."""

from __future__ import annotations

import numpy as np

from explainer.checks.context import FIX_CODE, Check, Context, count, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.recordings import SeriesView

USUALLY_VARIES = 0.95  # a channel that varies in this share of series and lies flat in another was not recording there


def _series(context: Context) -> SeriesView:
    assert isinstance(context.view, SeriesView)
    return context.view


def missing_steps(context: Context) -> Finding:
    view = _series(context)
    holes = [~np.isfinite(s) for s in view.series]
    bad = np.array([h.any() for h in holes], dtype=bool)
    if bad.any():
        channels = [c for c in range(view.channels) if any(h.shape[1] > c and h[:, c].any() for h in holes)]
        steps = sum(int(h.any(axis=1).sum()) for h in holes)
        message = (
            f"{share(int(bad.sum()), view.n)} series lack values, at {count(steps, 'time step')} in all, in channels {listed(channels)}."
        )
        return failed(message, value=bad.mean(), threshold=0, rows=view.at(bad), columns=[f"channel {c}" for c in channels])
    return passed("No series lacks a value.", value=0, threshold=0)


def flat_series(context: Context) -> Finding:
    """Series that never move, and channels that lie flat in a few series though they move in nearly all others."""
    view = _series(context)
    whole = view.blank
    moving = 1 - view.flat[~whole].mean(axis=0) if (~whole).any() else np.zeros(view.channels)
    dead = view.flat & (moving >= USUALLY_VARIES)
    rows = whole | dead.any(axis=1)
    channels = [f"channel {c}" for c in np.flatnonzero((dead & ~whole[:, None]).any(axis=0))]
    if rows.any():
        message = f"{share(int(rows.sum()), view.n)} series are flat lines: {whole.sum():,} in every channel"
        message += f", the others in {listed(channels)}, which otherwise moves." if channels else "."
        return failed(message, value=rows.mean(), threshold=0, rows=view.at(rows), columns=channels)
    return passed("No series is a flat line.", value=0, threshold=0)


def constant_channels(context: Context) -> Finding:
    view = _series(context)
    context.need_rows(2)
    known = [s for s in view.series if s.shape[1] == view.channels]
    low = np.fmin.reduce([np.fmin.reduce(s, axis=0) for s in known])
    high = np.fmax.reduce([np.fmax.reduce(s, axis=0) for s in known])
    flat = np.flatnonzero(~(high > low))
    if len(flat):
        names = [f"channel {c}" for c in flat]
        message = f"{share(len(flat), view.channels)} channels hold one value in all series: {listed(names)}."
        return failed(message, value=len(flat), threshold=0, count=len(flat), columns=names)
    return passed(f"All {view.channels} channels vary.", value=0, threshold=0)


def series_shapes(context: Context) -> Finding:
    view = _series(context)
    odd = np.array([s.shape[1] != view.channels for s in view.series], dtype=bool)
    short = np.array([len(s) < 2 for s in view.series], dtype=bool)
    lengths = [len(s) for s in view.series]
    evidence = {"channels": view.channels, "shortest": min(lengths), "longest": max(lengths)}
    if odd.any() or short.any():
        message = f"{odd.sum():,} series have other than {count(view.channels, 'channel')}, {short.sum():,} have a single time step."
        return failed(message, value=(odd | short).mean(), threshold=0, rows=view.at(odd | short), evidence=evidence)
    return passed(
        f"All series have {count(view.channels, 'channel')}; lengths run from {min(lengths)} to {max(lengths)}.",
        value=0,
        threshold=0,
        evidence=evidence,
    )


CHECKS: tuple[Check, ...] = (
    Check(
        "missing values",
        ("series",),
        missing_steps,
        "A gap filled with zeros looks like a signal.",
        "Interpolate short gaps, cut at long ones, and keep a mask.",
    ),
    Check(
        "flat series",
        ("series",),
        flat_series,
        "A flat line is a sensor that did not record.",
        "Check the sensor at those times; drop or mask them.",
        FIX_CODE,
    ),
    Check(
        "constant channels",
        ("series",),
        constant_channels,
        "A channel that never changes tells nothing and hides a lost sensor.",
        "Leave it out, after finding out whether it should vary.",
    ),
    Check(
        "series shapes",
        ("series",),
        series_shapes,
        "Channels that do not line up are read as one another.",
        "Bring all series to the same channels in the same order.",
    ),
)
