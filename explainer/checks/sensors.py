"""What a sensor does wrong within a series: it stops, sticks, hits its rail, jumps, or runs at another clock."""

from __future__ import annotations

from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.recordings import SeriesView

GAP = 3  # missing steps in a row that are no longer bridged by a straight line
REGULAR = 0.9  # share of equal steps that makes a clock
STEP_WIDTH = 0.01  # and this share of the usual step is still equal to it
MISSED = 1.5  # times the usual step
STUCK = 10  # equal values in a row
STUCK_SHARE = 0.1  # of the series
BEYOND = 3.0  # times what nine series in ten stay below
RAIL, RAIL_SHORT = 8, 5  # samples at the extreme; of a short series, a quarter of it
RAIL_RUN = 4  # of them in a row
RAIL_TIMES = 5  # as many as at the value next to it
RAIL_LEVELS = 20  # distinct values (or half the steps) below which a series is a code, and sits at its extremes by nature
LARGE, LARGE_NORMAL = 0.9, 1.645  # the series' larger steps are its measure (much of speech is silence), as standard deviations
PEAK = 4.0  # times the steps on either side: a peak of a signal rises over several steps
SPIKE = 8.0  # of those
SPIKE_USUAL = 4.0  # times what three series in four stay below
SERIES_LEAST = 20  # before one can be odd among them
RATE = 1.7  # times as rough, or as smooth
SMOOTH_LEAST = 6  # steps
RATE_BOTH = 0.7  # of these bounds, where both measures of smoothness are off the same way
RATE_SPREAD = 6.0  # and this many robust standard deviations off


def view_of(context: Context) -> SeriesView:
    assert isinstance(context.view, SeriesView)
    return context.view


def runs(marks: np.ndarray) -> np.ndarray:
    """``(k, C)``: the longest run of True along the steps of ``(k, T, C)``."""
    step = np.arange(1, marks.shape[1] + 1, dtype=np.int32)[None, :, None]
    broken = np.maximum.accumulate(np.where(marks, np.int32(0), step), axis=1)
    return np.asarray((step - broken).max(axis=1, initial=0))


def quantile(values: np.ndarray, share: Any) -> np.ndarray:
    """Along the steps, leaving out what is missing; much faster where nothing is."""
    return np.asarray((np.nanquantile if np.isnan(values).any() else np.quantile)(values, share, axis=1))


def per_series(view: SeriesView, measure: Any, fill: float = np.nan) -> np.ndarray:
    """``(n, channels)`` of a measure ``(k, T, C) -> (k, C)``; ``fill`` for series with other channels."""
    result = np.full((view.n, view.channels), fill)
    for places, values in view.stacks:
        result[places] = measure(values)
    return result


def stamp_channel(view: SeriesView) -> int | None:
    """The channel that holds time stamps: never falling, and by equal steps for the most part, in nearly all series."""
    if view.n < 2:
        return None

    def clock(values: np.ndarray) -> np.ndarray:
        steps = np.diff(values, axis=1)
        if steps.shape[1] < 4:
            return np.zeros(values.shape[::2])
        usual = np.median(steps, axis=1, keepdims=True)
        equal = (np.abs(steps - usual) <= STEP_WIDTH * np.abs(usual)).mean(axis=1)
        return (steps >= 0).all(axis=1) & (usual[:, 0] > 0) & (equal >= 0.7)

    ticking = np.nanmean(per_series(view, clock), axis=0)
    return int(np.argmax(ticking)) if ticking.size and ticking.max() >= REGULAR else None


def names(channels: Any) -> list[str]:
    return [f"channel {c}" for c in np.unique(channels)]


def gaps(context: Context) -> Finding:
    """Runs of three or more missing steps; and, where there are time stamps, steps that are missing or there twice."""
    view = view_of(context)
    longest = per_series(view, lambda values: runs(~np.isfinite(values)), 0)
    holes = (longest >= GAP).any(axis=1)
    problems = (
        [f"{share(int(holes.sum()), view.n)} series have {GAP} or more missing steps in a row (up to {longest.max():.0f})"]
        if holes.any()
        else []
    )
    rows = holes.copy()
    channels = names(np.flatnonzero((longest >= GAP).any(axis=0)))
    stamps, twice, missed = stamp_channel(view), np.zeros(view.n, dtype=bool), np.zeros(view.n, dtype=bool)
    if stamps is not None:
        for places, values in view.stacks:
            steps = np.diff(values[:, :, stamps], axis=1)
            usual = np.median(steps, axis=1, keepdims=True)
            twice[places], missed[places] = (steps == 0).any(axis=1), (steps > MISSED * usual).any(axis=1)
    if context.time is not None:
        again, lost = _between_items(context)
        twice |= again
        missed |= lost
    problems += [f"{count(int(twice.sum()), 'series')} have a time stamp that was there before"] if twice.any() else []
    problems += [f"before or in {count(int(missed.sum()), 'series')} steps are missing by their time stamps"] if missed.any() else []
    rows |= twice | missed
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    if rows.any():
        evidence = {"gaps": int(holes.sum()), "stamps repeated": int(twice.sum()), "steps missing": int(missed.sum())}
        return failed(f"{'; '.join(problems)}.".capitalize(), rows=view.at(rows), columns=channels, evidence=evidence, **details)
    clock = f" by the stamps in channel {stamps}" if stamps is not None else " by time" if context.time is not None else ""
    return passed(f"No series has a gap{clock}.", **details)


def _between_items(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Items whose time was there before, and items before which some are missing; of each group apart, and only where a clock ticks."""
    assert context.time is not None
    groups = next(iter((context.groups or {}).values()), np.zeros(context.view.n))
    twice, missed = np.zeros(context.view.n, dtype=bool), np.zeros(context.view.n, dtype=bool)
    written = np.array([str(g) for g in groups])
    for one in np.unique(written):
        members = np.flatnonzero((written == one) & np.isfinite(context.time))
        order = members[np.argsort(context.time[members], kind="stable")]
        steps = np.diff(context.time[order])
        if len(steps) < SERIES_LEAST or not (steps > 0).any():
            continue
        usual = np.median(steps[steps > 0])
        if (np.abs(steps - usual) <= STEP_WIDTH * usual).mean() >= REGULAR:
            twice[order[1:][steps == 0]] = True
            missed[order[1:][steps > MISSED * usual]] = True
    return twice, missed


def flat_stretches(context: Context) -> Finding:
    """Equal values in a row, at least ten and a tenth of the series and three times as many as nine series in ten have."""
    view = view_of(context)
    context.need_rows(2)

    def held(values: np.ndarray) -> np.ndarray:
        return runs(np.diff(values, axis=1) == 0) + 1

    longest = np.where(view.flat, np.nan, per_series(view, held))
    steps = np.array([len(s) for s in view.series])[:, None]
    usual = np.nanquantile(longest, 0.9, axis=0) if view.n >= SERIES_LEAST else np.ones(view.channels)
    limit = np.maximum(np.maximum(STUCK, STUCK_SHARE * steps), BEYOND * np.nan_to_num(usual, nan=1.0))
    return _told(view, longest, limit, "stick to one value for a while", "No channel sticks to one value for long")


def saturation(context: Context) -> Finding:
    """Eight or more samples (of a short series five) at its exact extreme, four in a row, and five times as many as at the next value."""
    view = view_of(context)

    def clipped(values: np.ndarray) -> np.ndarray:
        least = np.clip(values.shape[1] // 4, RAIL_SHORT, RAIL)
        ordered = np.sort(values, axis=1)
        levels = (np.diff(ordered, axis=1) > 0).sum(axis=1) + 1
        result = np.zeros(values.shape[::2])
        for at in (values, -values):
            top = np.nanmax(at, axis=1, keepdims=True)
            there = at == top
            hits = there.sum(axis=1)
            following = np.nanmax(np.where(there, -np.inf, at), axis=1, keepdims=True)
            next_ = (at == following).sum(axis=1)
            bad = (hits >= least) & (runs(there) >= RAIL_RUN) & (hits >= RAIL_TIMES * next_)
            result = np.maximum(result, np.where(bad & (levels >= min(RAIL_LEVELS, values.shape[1] // 2)), hits, 0))
        return result

    hits = np.where(view.flat, np.nan, per_series(view, clipped))
    return _told(
        view,
        hits,
        np.full_like(hits, RAIL_SHORT - 1),
        "are cut off at their highest or lowest value",
        "No series is cut off at a highest or lowest value",
    )


def _told(view: SeriesView, found: np.ndarray, limit: np.ndarray, what: str, otherwise: str) -> Finding:
    """The finding of a figure ``(n, channels)`` in steps that must not be above a limit."""
    bad = found > limit
    rows = bad.any(axis=1)
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-np.nan_to_num(found[rows]).max(axis=1), kind="stable")]
        channels = names(np.flatnonzero(bad.any(axis=0)))
        worst = [
            {"row": view.at([i])[0], "channel": int(np.nanargmax(found[i])), "steps": float(np.nanmax(found[i]))}
            for i in order[:EVIDENCE_SHOWN]
        ]
        message = f"{share(int(rows.sum()), view.n)} series {what}, up to {worst[0]['steps']:.0f} steps, in {listed(channels)}."
        return failed(message, rows=view.at(order), columns=channels, evidence={"series": worst}, **details)
    return passed(f"{otherwise}.", **details)


def spikes(context: Context) -> Finding:
    """Single steps that leave their neighbours on both sides far more than the series otherwise moves.

    A step's height is the smaller of its distances to the step before and after, where both go the same way and are four times
    the steps further out (a Hampel filter of three steps that leaves peaks alone); it is held against 8 times the series' larger
    steps (q90, as a standard deviation) and against 4 times what three series in four reach.
    """
    view = view_of(context)

    def height(values: np.ndarray) -> np.ndarray:
        steps = np.diff(values, axis=1)
        if steps.shape[1] < 4:
            return np.zeros(values.shape[::2])
        lone = _lone(values)
        usual = quantile(np.abs(steps), LARGE) / LARGE_NORMAL
        # where nearly all steps are none at all, a quarter of the spread stands in
        low, high = quantile(values, [0.05, 0.95])
        return np.nanmax(lone, axis=1) / np.maximum(np.where(usual > 0, usual, (high - low) / 4), 1e-300)

    found = np.where(view.flat, np.nan, per_series(view, height))
    usual = np.nanquantile(found, 0.75, axis=0) if view.n >= SERIES_LEAST else np.zeros(view.channels)
    limit = np.maximum(SPIKE, SPIKE_USUAL * np.nan_to_num(usual))
    bad = found > limit
    rows = bad.any(axis=1)
    details: dict[str, Any] = {"value": np.nan_to_num(found).max(initial=0), "threshold": SPIKE}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-np.nan_to_num(found[rows]).max(axis=1), kind="stable")]
        shown = []
        for i in order[:EVIDENCE_SHOWN]:
            channel = int(np.nanargmax(found[i] / limit))
            values = view.series[i][:, channel]
            at = int(np.nanargmax(_lone(values[None, :, None]))) + 1
            shown.append(
                {"row": view.at([i])[0], "channel": channel, "step": at, "value": float(values[at]), "times": float(found[i, channel])}
            )
        channels = names(np.flatnonzero(bad.any(axis=0)))
        message = (
            f"{share(int(rows.sum()), view.n)} series have a single step far off its neighbours, by up to {shown[0]['times']:.3g} times"
        )
        return failed(
            f"{message} its larger steps, in {listed(channels)}.",
            rows=view.at(order),
            columns=channels,
            evidence={"spikes": shown},
            **details,
        )
    return passed("No single step is far off its neighbours.", **details)


def _lone(values: np.ndarray) -> np.ndarray:
    """``(k, T - 2, C)``: how far each step leaves both its neighbours the same way, where these hardly leave theirs; else 0."""
    steps = np.abs(np.diff(values, axis=1))
    turns = np.diff(values[:, :-1], axis=1) * np.diff(values[:, 1:], axis=1) < 0
    lone = np.where(turns, np.minimum(steps[:, :-1], steps[:, 1:]), 0)
    outer = np.pad(steps, ((0, 0), (1, 1), (0, 0)))
    return np.asarray(np.where(lone > PEAK * np.maximum(outer[:, :-3], outer[:, 3:]), lone, 0))


def sampling_rate(context: Context) -> Finding:
    """Series that are sampled at another rate than the rest, by their time stamps or by how smooth they are.

    Smoothness is the spread of steps over the spread of values, and the spread of second differences over that of steps (log,
    mean of channels): a series read twice as often has half the first and a smaller second. A series is odd where one of them is
    off by a factor of 1.7 and by 6 robust standard deviations, or both the same way by seven tenths of that.
    """
    view = view_of(context)
    context.need_rows(SERIES_LEAST)
    stamps = stamp_channel(view)
    details: dict[str, Any] = {"threshold": RATE}
    if stamps is not None:
        steps = np.array([np.median(np.diff(s[:, stamps])) if s.shape[1] == view.channels and len(s) > 1 else np.nan for s in view.series])
        ratio = np.abs(np.log(steps / np.nanmedian(steps)))
        bad = ratio > np.log(1.1)
        details["value"] = float(np.exp(np.nanmax(ratio)))
        how, threshold = f"by the time stamps in channel {stamps}", 1.1
        details["threshold"] = threshold
    else:
        figures = [_mean(np.log(per_series(view, measure))) for measure in (_rough, _curved)]
        known = np.isfinite(figures[0]) & np.isfinite(figures[1])
        if known.sum() < SERIES_LEAST:
            raise NotRun("Too few series are long enough to tell how smooth they are.")
        off = np.where(known, [figure - np.median(figure[known]) for figure in figures], 0.0)
        spread = 1.4826 * np.median(np.abs(off[:, known]), axis=1)[:, None]
        far = np.abs(off) / np.maximum(np.log(RATE), RATE_SPREAD * spread)
        bad = (far > 1).any(axis=0) | ((far > RATE_BOTH).all(axis=0) & (off[0] * off[1] > 0) & (np.abs(off).max(axis=0) > np.log(RATE)))
        off = np.abs(off).max(axis=0)
        details["value"] = float(np.exp(off.max()))
        how = "by how smooth they are"
    if bad.any():
        message = f"{share(int(bad.sum()), view.n)} series seem to be sampled at another rate than the rest, {how}: up to"
        message += f" {details['value']:.2g} times."
        return failed(message, rows=view.at(bad), columns=[f"channel {stamps}"] if stamps is not None else (), **details)
    return passed(f"No series seems to be sampled at another rate than the rest, {how}.", **details)


def _rough(values: np.ndarray) -> np.ndarray:
    if values.shape[1] < SMOOTH_LEAST:
        return np.full(values.shape[::2], np.nan)
    step = np.linspace(-1, 1, values.shape[1])[None, :, None]  # a drift of the whole is no matter of the rate
    slope = (values * step).sum(axis=1, keepdims=True) / (step**2).sum()
    return np.asarray(np.diff(values, axis=1).std(axis=1) / (values - slope * step).std(axis=1))


def _curved(values: np.ndarray) -> np.ndarray:
    return np.where(
        values.shape[1] >= 6, np.nanstd(np.diff(values, n=2, axis=1), axis=1) / np.nanstd(np.diff(values, axis=1), axis=1), np.nan
    )


def _mean(figures: np.ndarray) -> np.ndarray:
    known = np.isfinite(figures)
    return np.where(known.any(axis=1), np.where(known, figures, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


CHECKS: tuple[Check, ...] = (
    Check(
        "gaps",
        ("series",),
        gaps,
        "Across a gap two moments stand side by side that are far apart in time.",
        "Cut the series at long gaps; put the missing steps in, with a mask.",
    ),
    Check(
        "flat stretches",
        ("series",),
        flat_stretches,
        "A sensor that sticks looks calm.",
        "Mask these stretches; check the sensor at those times.",
    ),
    Check(
        "saturation",
        ("series",),
        saturation,
        "Beyond its rail a sensor tells nothing of how high a signal went.",
        "Record with a wider range; mask what is cut off.",
    ),
    Check(
        "sampling rate",
        ("series",),
        sampling_rate,
        "At another rate every frequency and every duration is another.",
        "Find the true rate and resample to one.",
    ),
    Check(
        "spikes",
        ("series",),
        spikes,
        "One wrong step moves every mean and every filter after it.",
        "Look at them; take out those that are faults of recording (a median filter of three steps does).",
        "from scipy.signal import medfilt\n\nseries = [medfilt(one, (3, 1)) for one in series]",
    ),
)
