"""Values and items far beyond what the rest of their own kind makes plausible."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, plural, share
from explainer.checks.finding import Finding
from explainer.checks.workers import each
from explainer.inputs import MODALITIES

LEAST = 50  # values needed before a tail can be judged
DISTINCT_LEAST = 11  # a column of fewer values is a code, and a rare code is no outlier
ALPHA = 1e-3  # a value so far out is met once in a thousand clean sets of this size (were the tail exponential or Pareto)
ROBUST_LEAST = 5.0  # and it is at least this many robust standard deviations from the median
MODE_SHARE = 0.5  # where one value fills half a column (often 0), the tail of the others is judged
MEASURED_ITEMS = 1_000  # each item's distance is measured to its neighbours among so many
GAUGED = 50_000  # items by which the usual is told
SCREEN = 128  # sampled items near which most others are found to be nothing odd
NEIGHBOUR = 5  # the fifth nearest: a clump of four copies of one error still stands out
HEAVY = 0.05  # a tail of this shape or more is judged on logarithms of the distance to the median as well
GAP_TAIL, GAP_LEAST = 0.05, 20  # share, and least number, of values beside which a gap is judged
GAP_ALPHA = 0.005  # in a Pareto tail, once in so many sets; in a lighter one far less often
GAP_MOST = 8  # values beyond a gap
GAP_TIMES = 5.0  # and they are so many times as far from the median as the next
NORMAL_WIDTH = 2.93  # q05 to q90 of a normal, in standard deviations
ALONE = 3.0  # times the distance its own neighbours have to theirs
ITEMS_ALPHA = 1e-2  # of that figure, of which there is one for a set and not one for each column
GAP_SHAPES = (0.1, 0.3)  # tail shapes of that figure on clean data (normal, t, lognormal, clustered, with many zeros)
LEAST_DIRECTION = 1e-3  # of the widest direction's variance: a narrower one is rounding
CLIP = 6.0  # in distances one column counts at most so much; lone columns are judged by the other check
COMBINED_LEAST = 2  # columns needed for a combination to be odd


def tail_limits(values: np.ndarray, figures: int = 1) -> tuple[float, float]:
    """Lower and upper limits beyond which a value is implausible given the rest; infinite where that cannot be judged.

    The upper tail beyond q90 is taken as generalised Pareto; its shape comes from quantiles (Pickands, Annals of Statistics 3,
    1975), which the outliers themselves (under 2.5 % of values) do not move: xi = log4((q97.5 - q90) / (q90 - q60)), not below 0.
    The limit is that distribution's quantile exceeded once in 1 / ``ALPHA`` samples of n values, of each of so many ``figures``
    (Bonferroni). A tail that is heavy is judged by the logarithm of the distance to the median too. The lower tail likewise, mirrored.
    However heavy a tail seems, a gap in it may be too wide for the values below the gap (:func:`_below_gap`).
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
    return -_upper(-values, figures), _upper(values, figures)


def _upper(values: np.ndarray, figures: int) -> float:
    middle, low, q60, q90, q97 = np.quantile(values, [0.5, 0.05, 0.6, 0.9, 0.975])
    inner, outer = q90 - q60, q97 - q90
    if outer <= 0:
        inner = outer = q97 - middle
        if outer <= 0:
            return np.inf
    shape = max(0.0, float(np.log(outer / inner) / np.log(4))) if inner > 0 else 2.0
    limit = max(q90 + _reach(outer, shape, figures * len(values)), middle + ROBUST_LEAST * (q90 - low) / NORMAL_WIDTH)
    if shape > HEAVY and q60 > middle:
        inner, outer = np.log((q90 - middle) / (q60 - middle)), np.log((q97 - middle) / (q90 - middle))
        shape = max(0.0, float(np.log(outer / inner) / np.log(4)))
        limit = max(limit, middle + (q90 - middle) * np.exp(min(_reach(outer, shape, figures * len(values)), 600.0)))
    return min(float(limit), _below_gap(values - middle) + middle)


def _below_gap(distances: np.ndarray) -> float:
    """The limit beyond which a few values stand apart: infinite where none do.

    In a Pareto tail m log(d_m / d_(m+1)), d_m the mth furthest, is exponential of mean xi for each m, independently (Renyi), and in a
    lighter tail less. Over the mean of those of larger m, up to the kth, that is F of 2 and 2 (k - m) degrees of freedom: a gap
    is too wide where chance gives it with less than ``GAP_ALPHA`` / 2^m, and over ``GAP_TIMES``. Only a Pareto tail
    reaches that level, so it is not shared among the figures of a set.
    """
    from scipy.special import fdtri

    side = np.sort(distances[distances > 0])[::-1][: max(GAP_LEAST, int(GAP_TAIL * len(distances))) + 1].astype(float)
    if len(side) <= GAP_LEAST:
        return np.inf
    order = np.arange(1, len(side))
    steps = order * np.log(side[:-1] / side[1:])
    means = (np.cumsum(steps[::-1])[::-1] - steps)[:-1] / order[:-1][::-1]
    for m in range(min(len(side) // 4, GAP_MOST), 0, -1):
        widest = means[m - 1] * fdtri(2, 2 * (len(steps) - m), 1 - GAP_ALPHA / 2**m)
        if steps[m - 1] > max(widest, m * np.log(GAP_TIMES)):
            return float(side[m] * np.exp(max(widest / m, np.log(GAP_TIMES))))
    return np.inf


def _reach(outer: float, shape: float, n: int, alpha: float = ALPHA) -> float:
    """How far beyond q90 that quantile lies, of a generalised Pareto tail whose q97.5 lies ``outer`` beyond it."""
    odds = 0.1 * n / alpha
    return outer * np.log(odds) / np.log(4) if shape < 1e-3 else outer * (odds**shape - 1) / (4**shape - 1)


def outlying_values(context: Context) -> Finding:
    """Single figures (a column's values; an image's brightness; a text's length) beyond their tail's limits."""
    context.need_rows(LEAST)
    figures = _numbers(context)
    rows = np.zeros(context.view.n, dtype=bool)
    evidence: dict[str, dict[str, Any]] = {}
    limits = each(partial(tail_limits, figures=len(figures)), list(figures.values()), context.view.n)
    for (name, values), (low, high) in zip(figures.items(), limits, strict=True):
        with np.errstate(invalid="ignore"):
            out = ((values < low) | (values > high)) & np.isfinite(values)
        if out.any():
            rows |= out
            middle = float(np.nanmedian(values))
            far = values[out][np.argsort(-np.abs(values[out] - middle), kind="stable")]
            evidence[name] = {"count": int(out.sum()), "plausible from": low, "to": high, "median": middle, "found": far[:5]}
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    if rows.any():
        worst = sorted(evidence, key=lambda name: -evidence[name]["count"])
        shown = listed(f"{name!r} {evidence[name]['found'][0]:.4g} (median {evidence[name]['median']:.4g})" for name in worst)
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        where = count(len(worst), "column" if context.view.modality == "tabular" else "figure")
        message = f"{things} with a value far beyond the rest, in {where}: {shown}."
        kept = {name: evidence[name] for name in worst[:EVIDENCE_SHOWN]}
        return failed(message, rows=context.view.at(rows), columns=worst, evidence=kept, **details)
    return passed(f"No value of {count(len(figures), 'figure')} lies far beyond the rest.", **details)


def _numbers(context: Context) -> dict[str, np.ndarray]:
    """The figures of all items, one array for each name; of blank items none are known."""
    frame = context.view.summary
    left_out: set[str] = set()
    if context.view.modality == "tabular":
        left_out = {c.name for c in context.view.columns if c.kind == "date" or context.view.identifier(c)}  # type: ignore[attr-defined]
    places = [k for k, dtype in enumerate(frame.dtypes) if dtype.kind == "f" and frame.columns[k] not in left_out]
    if not places:
        raise NotRun("There are no columns of numbers.")
    figures = {str(frame.columns[k]): frame.iloc[:, k].to_numpy(dtype=float) for k in places}
    blank = context.view.blank if context.view.modality != "tabular" else np.zeros(0, dtype=bool)  # a table's are not known as it is
    return {name: np.where(blank, np.nan, values) for name, values in figures.items()} if blank.any() else figures


def outlying_items(context: Context) -> Finding:
    """Items much further from their neighbours than these are from theirs.

    All figures, each about its median in units of its spread and clipped at six, are made uncorrelated, so that what breaks a
    pattern counts as much as what lies far along it. An item's figure is its distance to the fifth nearest of up to 1,000
    sampled items (Ramaswamy et al., SIGMOD 2000), over the least such distance among those five (after Breunig et al., LOF,
    SIGMOD 2000). It is odd beyond ``ALONE`` and beyond the tail of all such figures.
    """
    context.need_rows(LEAST * 2)
    figures = _numbers(context)
    points = _scaled(list(figures.values()))
    if points.shape[1] < COMBINED_LEAST:
        raise NotRun("A combination of figures needs at least two that vary.")
    points = uncorrelated(points)
    gaps = isolation(points)
    q60, q90, q97 = np.quantile(gaps[_gauged(len(gaps))], [0.6, 0.9, 0.975])
    shape = np.log((q97 - q90) / (q90 - q60)) / np.log(4) if q97 > q90 > q60 else 0.0
    limit = max(ALONE, float(q90 + _reach(q97 - q90, float(np.clip(shape, *GAP_SHAPES)), len(gaps), ITEMS_ALPHA)))
    rows = gaps > limit
    details: dict[str, Any] = {"value": gaps.max(), "threshold": limit}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-gaps[rows], kind="stable")]
        strange = _strangest(figures, order[:EVIDENCE_SHOWN])
        evidence = {str(context.view.at([i])[0]): words for i, words in zip(order, strange, strict=False)}
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        message = f"{things} far from all others: up to {gaps.max():.3g} times as far as their neighbours are from theirs."
        return failed(message, rows=context.view.at(order), evidence={"strangest figures": evidence}, **details)
    return passed(f"No {context.view.noun} is far from all others.", **details)


def _scaled(figures: list[np.ndarray]) -> np.ndarray:
    """Columns about their median in units of spread, clipped; those that are one value in eight rows of ten are left out."""
    places = [_place(values) for values in figures]
    kept = [(values, *place) for values, place in zip(figures, places, strict=True) if place is not None]
    points = np.empty((len(figures[0]), len(kept)), dtype=np.float32)
    for k, (values, middle, spread) in enumerate(kept):
        scaled = np.nan_to_num((values - middle) / spread, nan=0, posinf=CLIP, neginf=-CLIP)
        points[:, k] = np.clip(scaled, -CLIP, CLIP)
    return points


def _place(values: np.ndarray) -> tuple[float, float] | None:
    """Median and spread of what is known, or None where these figures tell nothing apart."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST or known.min() == known.max():
        return None
    low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
    spread = (high - low) / 2.56  # q10 to q90 of a normal, in standard deviations
    return (float(middle), float(spread)) if spread > 0 and np.isfinite(spread) else None


def uncorrelated(points: np.ndarray) -> np.ndarray:
    """Points turned and scaled to unit covariance; with few points the covariance is drawn towards a round one."""
    n, d = points.shape
    middle = points.mean(axis=0, dtype=np.float64)
    if d >= n:  # so few that it is round
        return ((points - middle) / np.sqrt(max(float(points.var(axis=0, dtype=np.float64).mean()), 1e-300))).astype(np.float32)
    covariance = np.zeros((d, d))
    for block in _blocks(n, 65_536):
        centred = points[block] - middle
        covariance += centred.T @ centred / n
    trust = 1 - min(1.0, d / n)
    covariance = trust * covariance + (1 - trust) * np.eye(d) * np.trace(covariance) / d
    variances, directions = np.linalg.eigh(covariance)
    scale = directions / np.sqrt(np.maximum(variances, LEAST_DIRECTION * variances.max()))
    turned = np.empty((n, d), dtype=np.float32)
    for block in _blocks(n, 65_536):
        turned[block] = (points[block] - middle) @ scale
    return turned


def _blocks(n: int, size: int = 1_024) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def isolation(points: np.ndarray) -> np.ndarray:
    """Each point's distance to its fifth neighbour, over the least such distance among its five neighbours (or half the usual).

    Among very many points, ``GAUGED`` tell what is usual; of the others, those with five sampled points (of ``SCREEN``, then of all)
    within a distance at which the figure stays below ``ALONE`` are let off with 0.
    """
    sample, gauged = _sample(len(points)), _gauged(len(points))
    gaps, neighbours = _fifth(points, gauged, sample)
    usual = float(np.median(gaps)) or 1.0
    own = gaps[np.searchsorted(gauged, sample)]
    result = np.zeros(len(points))
    result[gauged] = gaps / np.maximum(own[neighbours].min(axis=1), usual / 2)
    if len(gauged) < len(points):
        rest = np.setdiff1d(np.arange(len(points)), gauged, assume_unique=True)
        for size in (SCREEN, MEASURED_ITEMS):
            rest = rest[_alone(points, rest, points[sample[:size]], ALONE * usual / 2)]
        gaps, neighbours = _fifth(points, rest, sample)
        result[rest] = gaps / np.maximum(own[neighbours].min(axis=1), usual / 2)
    return result


def _sample(n: int) -> np.ndarray:
    """The items to which distances are measured."""
    return np.random.default_rng(0).permutation(n)[:MEASURED_ITEMS]


def _gauged(n: int) -> np.ndarray:
    """The items that tell what is usual, those among them: all, or ``GAUGED`` of them, in order."""
    return np.sort(np.random.default_rng(0).permutation(n)[: max(GAUGED, MEASURED_ITEMS)])


def _squares(block: np.ndarray, sample: np.ndarray) -> np.ndarray:
    return (block**2).sum(axis=1)[:, None] + (sample**2).sum(axis=1) - 2 * block @ sample.T


def _fifth(points: np.ndarray, rows: np.ndarray, sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of ``rows`` the distance to its fifth nearest of the points ``sample``, and the places of those five in it."""

    def one(block: slice) -> tuple[np.ndarray, np.ndarray]:
        square = _squares(points[rows[block]], points[sample])
        square[rows[block][:, None] == sample] = np.inf
        nearest = np.argpartition(square, NEIGHBOUR - 1, axis=1)[:, :NEIGHBOUR].copy()  # lets go of the rest
        return np.sqrt(np.maximum(np.take_along_axis(square, nearest, axis=1).max(axis=1), 0)), nearest

    parts = each(one, _blocks(len(rows)), len(rows))
    if not parts:
        return np.zeros(0), np.zeros((0, NEIGHBOUR), dtype=int)
    return np.concatenate([gap for gap, _ in parts]), np.concatenate([nearest for _, nearest in parts])


def _alone(points: np.ndarray, rows: np.ndarray, screen: np.ndarray, distance: float) -> np.ndarray:
    """Which of ``rows`` have fewer than five of the points ``screen`` within ``distance``."""

    def one(block: slice) -> np.ndarray:
        return (_squares(points[rows[block]], screen) <= distance**2).sum(axis=1) < NEIGHBOUR

    return np.concatenate([np.zeros(0, dtype=bool), *each(one, _blocks(len(rows)), len(rows))])


def _strangest(figures: dict[str, np.ndarray], rows: np.ndarray) -> list[list[str]]:
    """For each row the three figures furthest from the median, in words."""
    values = np.array([one[rows] for one in figures.values()])
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        middle = np.array([np.nanmedian(one) for one in figures.values()])[:, None]
        spread = np.array([np.nanstd(one) for one in figures.values()])[:, None]
        far = np.abs(values - middle) / spread
    order = np.argsort(-np.where(np.isfinite(far), far, -1), axis=0, kind="stable")[:3]
    names = list(figures)
    return [[f"{names[k]} = {values[k, i]:.4g}" for k in order[:, i]] for i in range(len(rows))]


CHECKS: tuple[Check, ...] = (
    Check(
        "outlying values",
        MODALITIES,
        outlying_values,
        "One value of another order of magnitude pulls scaling, means and gradients to itself.",
        "Check unit and typing at the source; correct, cap or leave out.",
        streams=True,
    ),
    Check(
        "outlying items",
        MODALITIES,
        outlying_items,
        "An item unlike all others is an error or a case the model has not learnt.",
        "Look at them one by one; correct, or say that the model is not for such cases.",
    ),
)
