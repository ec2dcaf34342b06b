"""Values and items far beyond what the rest of their own kind makes plausible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, plural, share
from explainer.checks.finding import Finding
from explainer.inputs import MODALITIES

LEAST = 50  # values needed before a tail can be judged
DISTINCT_LEAST = 11  # a column of fewer values is a code, and a rare code is no outlier
ALPHA = 1e-3  # a value so far out is met once in a thousand clean sets of this size (were the tail exponential or Pareto)
ROBUST_LEAST = 5.0  # and it is at least this many robust standard deviations from the median
MODE_SHARE = 0.5  # where one value fills half a column (often 0), the tail of the others is judged
MEASURED_ITEMS = 1_000  # each item's distance is measured to its neighbours among so many
NEIGHBOUR = 5  # the fifth nearest: a clump of four copies of one error still stands out
HEAVY = 0.05  # a tail of this shape or more is judged on logarithms of the distance to the median as well
NORMAL_WIDTH = 2.93  # q05 to q90 of a normal, in standard deviations
ALONE = 3.0  # times the distance its own neighbours have to theirs
GAP_SHAPES = (0.1, 0.3)  # tail shapes of that figure on clean data (normal, t, lognormal, clustered, with many zeros)
LEAST_DIRECTION = 1e-3  # of the widest direction's variance: a narrower one is rounding
CLIP = 6.0  # in distances one column counts at most so much; lone columns are judged by the other check
COMBINED_LEAST = 2  # columns needed for a combination to be odd


def tail_limits(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper limits beyond which a value is implausible given the rest; infinite where that cannot be judged.

    The upper tail beyond q90 is taken as generalised Pareto; its shape comes from quantiles (Pickands, Annals of Statistics 3,
    1975), which the outliers themselves (under 2.5 % of values) do not move: xi = log4((q97.5 - q90) / (q90 - q60)), not below 0.
    The limit is that distribution's quantile exceeded once in 1 / ``ALPHA`` samples of n values. A tail that is heavy is judged
    by the logarithm of the distance to the median too. The lower tail likewise, mirrored.
    """
    values = values[np.isfinite(values)]
    if len(values) < LEAST:
        return -np.inf, np.inf
    levels, sizes = np.unique(values, return_counts=True)
    if sizes.max() >= MODE_SHARE * len(values):
        values = values[values != levels[sizes.argmax()]]
        if len(values) < LEAST:
            return -np.inf, np.inf
    if len(levels) < DISTINCT_LEAST:
        return -np.inf, np.inf
    return -_upper(-values), _upper(values)


def _upper(values: np.ndarray) -> float:
    middle, low, q60, q90, q97 = np.quantile(values, [0.5, 0.05, 0.6, 0.9, 0.975])
    inner, outer = q90 - q60, q97 - q90
    if outer <= 0:
        inner = outer = q97 - middle
        if outer <= 0:
            return np.inf
    shape = max(0.0, float(np.log(outer / inner) / np.log(4))) if inner > 0 else 2.0
    limit = max(q90 + _reach(outer, shape, len(values)), middle + ROBUST_LEAST * (q90 - low) / NORMAL_WIDTH)
    if shape > HEAVY and q60 > middle:
        inner, outer = np.log((q90 - middle) / (q60 - middle)), np.log((q97 - middle) / (q90 - middle))
        shape = max(0.0, float(np.log(outer / inner) / np.log(4)))
        limit = max(limit, middle + (q90 - middle) * np.exp(min(_reach(outer, shape, len(values)), 600.0)))
    return float(limit)


def _reach(outer: float, shape: float, n: int) -> float:
    """How far beyond q90 that quantile lies, of a generalised Pareto tail whose q97.5 lies ``outer`` beyond it."""
    odds = 0.1 * n / ALPHA
    return outer * np.log(odds) / np.log(4) if shape < 1e-3 else outer * (odds**shape - 1) / (4**shape - 1)


def outlying_values(context: Context) -> Finding:
    """Single figures (a column's values; an image's brightness; a text's length) beyond their tail's limits."""
    context.need_rows(LEAST)
    frame = _numbers(context)
    rows = np.zeros(context.view.n, dtype=bool)
    evidence: dict[str, dict[str, Any]] = {}
    for name in frame.columns:
        values = frame[name].to_numpy(dtype=float)
        low, high = tail_limits(values)
        with np.errstate(invalid="ignore"):
            out = ((values < low) | (values > high)) & np.isfinite(values)
        if out.any():
            rows |= out
            far = values[out][np.argsort(-np.abs(values[out] - np.nanmedian(values)), kind="stable")]
            evidence[str(name)] = {
                "count": int(out.sum()),
                "plausible from": low,
                "to": high,
                "median": float(np.nanmedian(values)),
                "found": far[:5],
            }
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    if rows.any():
        worst = sorted(evidence, key=lambda name: -evidence[name]["count"])
        shown = listed(f"{name!r} {evidence[name]['found'][0]:.4g} (median {evidence[name]['median']:.4g})" for name in worst)
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        where = count(len(worst), "column" if context.view.modality == "tabular" else "figure")
        message = f"{things} with a value far beyond the rest, in {where}: {shown}."
        kept = {name: evidence[name] for name in worst[:EVIDENCE_SHOWN]}
        return failed(message, rows=context.view.at(rows), columns=worst, evidence=kept, **details)
    return passed(f"No value of {count(frame.shape[1], 'figure')} lies far beyond the rest.", **details)


def _numbers(context: Context) -> pd.DataFrame:
    frame = context.view.summary
    frame = frame.loc[:, [dtype.kind == "f" for dtype in frame.dtypes]]
    if context.view.modality == "tabular":
        dates = [c.name for c in context.view.columns if c.kind == "date" or context.view.identifier(c)]  # type: ignore[attr-defined]
        frame = frame.drop(columns=[d for d in dates if d in frame.columns])
    if not frame.shape[1]:
        raise NotRun("There are no columns of numbers.")
    return frame.mask(np.repeat(context.view.blank[:, None], frame.shape[1], axis=1))


def outlying_items(context: Context) -> Finding:
    """Items much further from their neighbours than these are from theirs.

    All figures, each about its median in units of its spread and clipped at six, are made uncorrelated, so that what breaks a
    pattern counts as much as what lies far along it. An item's figure is its distance to the fifth nearest of up to 1,000
    sampled items (Ramaswamy et al., SIGMOD 2000), over the least such distance among those five (after Breunig et al., LOF,
    SIGMOD 2000). It is odd beyond ``ALONE`` and beyond the tail of all such figures.
    """
    context.need_rows(LEAST * 2)
    frame = _numbers(context)
    points = _scaled(frame.to_numpy(dtype=float))
    if points.shape[1] < COMBINED_LEAST:
        raise NotRun("A combination of figures needs at least two that vary.")
    gaps = isolation(uncorrelated(points))
    q60, q90, q97 = np.quantile(gaps, [0.6, 0.9, 0.975])
    shape = np.log((q97 - q90) / (q90 - q60)) / np.log(4) if q97 > q90 > q60 else 0.0
    limit = max(ALONE, float(q90 + _reach(q97 - q90, float(np.clip(shape, *GAP_SHAPES)), len(gaps))))
    rows = gaps > limit
    details: dict[str, Any] = {"value": gaps.max(), "threshold": limit}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-gaps[rows], kind="stable")]
        strange = {str(context.view.at([i])[0]): _strangest(frame, points, i) for i in order[:EVIDENCE_SHOWN]}
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        message = f"{things} far from all others: up to {gaps.max():.3g} times as far as their neighbours are from theirs."
        return failed(message, rows=context.view.at(order), evidence={"strangest figures": strange}, **details)
    return passed(f"No {context.view.noun} is far from all others.", **details)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Columns about their median in units of spread, clipped; those that are one value in eight rows of ten are left out."""
    kept = []
    for column in values.T:
        known = column[np.isfinite(column)]
        if len(known) < LEAST or known.min() == known.max():
            continue
        low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
        spread = (high - low) / 2.56  # q10 to q90 of a normal, in standard deviations
        if spread > 0 and np.isfinite(spread):
            kept.append(np.clip(np.nan_to_num((column - middle) / spread, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP))
    return np.column_stack(kept).astype(np.float32) if kept else np.zeros((len(values), 0), dtype=np.float32)


def uncorrelated(points: np.ndarray) -> np.ndarray:
    """Points turned and scaled to unit covariance; with few points the covariance is drawn towards a round one."""
    centred = (points - points.mean(axis=0)).astype(np.float64)
    n, d = centred.shape
    covariance = centred.T @ centred / n
    trust = 1 - min(1.0, d / n)
    covariance = trust * covariance + (1 - trust) * np.eye(d) * np.trace(covariance) / d
    variances, directions = np.linalg.eigh(covariance)
    return (centred @ directions / np.sqrt(np.maximum(variances, LEAST_DIRECTION * variances.max()))).astype(np.float32)


def isolation(points: np.ndarray) -> np.ndarray:
    """Each point's distance to its fifth neighbour, over the least such distance among its five neighbours (or half the usual)."""
    chosen = np.random.default_rng(0).permutation(len(points))[:MEASURED_ITEMS]
    sample = points[chosen]
    squares = (sample**2).sum(axis=1)
    gaps = np.zeros(len(points))
    neighbours = np.zeros((len(points), NEIGHBOUR), dtype=int)
    for start in range(0, len(points), 4_096):
        block = points[start : start + 4_096]
        square = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ sample.T
        square[np.arange(start, start + len(block))[:, None] == chosen] = np.inf
        nearest = np.argpartition(square, NEIGHBOUR - 1, axis=1)[:, :NEIGHBOUR]
        neighbours[start : start + len(block)] = nearest
        gaps[start : start + len(block)] = np.sqrt(np.maximum(np.take_along_axis(square, nearest, axis=1).max(axis=1), 0))
    usual = float(np.median(gaps)) or 1.0
    return gaps / np.maximum(gaps[chosen][neighbours].min(axis=1), usual / 2)


def _strangest(frame: pd.DataFrame, points: np.ndarray, row: int) -> list[str]:
    values = frame.iloc[row]
    middle, spread = frame.median(), frame.std()
    with np.errstate(invalid="ignore", divide="ignore"):
        order = ((values - middle).abs() / spread).replace(np.inf, np.nan).sort_values(ascending=False).index[:3]
    return [f"{name} = {values[name]:.4g}" for name in order]


CHECKS: tuple[Check, ...] = (
    Check(
        "outlying values",
        MODALITIES,
        outlying_values,
        "One value of another order of magnitude pulls scaling, means and gradients to itself.",
        "Check unit and typing at the source; correct, cap or leave out.",
    ),
    Check(
        "outlying items",
        MODALITIES,
        outlying_items,
        "An item unlike all others is an error or a case the model has not learnt.",
        "Look at them one by one; correct, or say that the model is not for such cases.",
    ),
)
