"""Values and items far beyond what the rest of their own kind makes plausible."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Context, NotRun, count, failed, listed, passed, plural, share
from explainer.checks.finding import Finding

LEAST = 50  # values needed before a tail can be judged
DISTINCT_LEAST = 11  # a column of fewer values is a code, and a rare code is no outlier
ALPHA = 1e-3  # a value so far out is met once in a thousand clean sets of this size (were the tail exponential or Pareto)
ROBUST_LEAST = 5.0  # and it is at least this many robust standard deviations from the median
MODE_SHARE = 0.5  # where one value fills half a column (often 0), the tail of the others is judged
MEASURED_ITEMS = 1_000  # each item's distance is measured to its neighbours among so many
NEIGHBOUR = 5  # the fifth nearest: a clump of four copies of one error still stands out
CLIP = 6.0  # in distances one column counts at most so much; lone columns are judged by the other check
ENTROPY_LEAST = 2  # columns needed for a combination to be odd


def tail_limits(values: np.ndarray) -> tuple[float, float]:
    """Lower and upper limits beyond which a value is implausible given the rest; infinite where that cannot be judged.

    The upper tail beyond q90 is taken as generalised Pareto; its shape comes from quantiles (Pickands, Annals of Statistics 3,
    1975), which the outliers themselves (under 2.5 % of values) do not move: xi = log4((q97.5 - q90) / (q90 - q60)), not below 0.
    The limit is that distribution's quantile exceeded once in 1 / ``ALPHA`` samples of n values. A tail that is heavy is judged
    on the logarithm too. The lower tail likewise, mirrored.
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


def _upper(values: np.ndarray, logarithm: bool = True) -> float:
    n = len(values)
    middle, q60, q90, q97 = np.quantile(values, [0.5, 0.6, 0.9, 0.975])
    inner, outer = q90 - q60, q97 - q90
    if outer <= 0:
        inner, outer = q97 - middle, q97 - middle
        if outer <= 0:
            return np.inf
    shape = max(0.0, float(np.log(outer / inner) / np.log(4))) if inner > 0 else 2.0
    odds = 0.1 * n / ALPHA
    reach = outer / np.log(4) * np.log(odds) if shape < 1e-3 else outer / (4**shape - 1) * (odds**shape - 1)
    low = np.quantile(values, 0.05)
    limit = max(float(q90 + reach), float(middle + ROBUST_LEAST * (q90 - low) / 2.9))  # 2.9: q05 to q90 of a normal, in deviations
    if logarithm and shape > 0.1 and values.min() > 0:
        limit = max(limit, float(np.exp(min(_upper(np.log(values), logarithm=False), 700.0))))
    return limit


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
    """Items whose distance to their fifth neighbour is beyond the tail of all such distances.

    Distances over all figures, each about its median in units of its spread and clipped at six, to the fifth nearest of up to
    1,000 sampled items (Ramaswamy et al., SIGMOD 2000), judged by :func:`tail_limits`.
    """
    context.need_rows(LEAST * 2)
    frame = _numbers(context)
    points = _scaled(frame.to_numpy(dtype=float))
    if points.shape[1] < ENTROPY_LEAST:
        raise NotRun("A combination of figures needs at least two that vary.")
    gaps = _fifth(points)
    limit = tail_limits(gaps)[1]
    rows = gaps > limit
    details: dict[str, Any] = {"value": gaps.max(), "threshold": limit if np.isfinite(limit) else None}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-gaps[rows], kind="stable")]
        strange = {str(context.view.at([i])[0]): _strangest(frame, points, i) for i in order[:EVIDENCE_SHOWN]}
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        message = f"{things} far from every other (distance up to {gaps.max():.3g}, usually {np.median(gaps):.3g})."
        return failed(message, rows=context.view.at(order), evidence={"strangest figures": strange}, **details)
    return passed(f"No {context.view.noun} is far from all others.", **details)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Columns about their median in units of spread, clipped; those that hardly vary are left out."""
    kept = []
    for column in values.T:
        known = column[np.isfinite(column)]
        if len(known) < LEAST or known.min() == known.max():
            continue
        low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
        spread = (high - low) / 2.56 or known.std()
        if spread > 0 and np.isfinite(spread):
            kept.append(np.clip(np.nan_to_num((column - middle) / spread, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP))
    return np.column_stack(kept).astype(np.float32) if kept else np.zeros((len(values), 0), dtype=np.float32)


def _fifth(points: np.ndarray) -> np.ndarray:
    chosen = np.random.default_rng(0).permutation(len(points))[:MEASURED_ITEMS]
    sample = points[chosen]
    squares = (sample**2).sum(axis=1)
    gaps = np.zeros(len(points))
    for start in range(0, len(points), 4_096):
        block = points[start : start + 4_096]
        square = (block**2).sum(axis=1)[:, None] + squares - 2 * block @ sample.T
        same = np.arange(start, start + len(block))[:, None] == chosen
        square[same] = np.inf
        gaps[start : start + len(block)] = np.sqrt(np.maximum(np.partition(square, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1], 0))
    return gaps


def _strangest(frame: pd.DataFrame, points: np.ndarray, row: int) -> list[str]:
    values = frame.iloc[row]
    middle, spread = frame.median(), frame.std()
    with np.errstate(invalid="ignore", divide="ignore"):
        order = ((values - middle).abs() / spread).replace(np.inf, np.nan).sort_values(ascending=False).index[:3]
    return [f"{name} = {values[name]:.4g}" for name in order]
