"""Values and items far beyond what the rest of their own kind makes plausible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, plural, share
from explainer.checks.finding import Finding
from explainer.checks.workers import each
from explainer.inputs import MODALITIES
from explainer.numerals import rounded

LEAST = 50  # values needed before a tail can be judged
DISTINCT_LEAST = 11  # a column of fewer values is a code, and a rare code is no outlier
ALPHA = 1e-3  # a value so far out is met once in a thousand clean sets of this size (were the tail exponential or Pareto)
ROBUST_LEAST = 5.0  # and it is at least this many robust standard deviations from the median
MODE_SHARE = 0.5  # where one value fills half a column (often 0), the tail of the others is judged
HEAVY = 0.05  # a tail of this shape or more is judged on logarithms of the distance to the median as well
GAP_TAIL, GAP_LEAST = 0.05, 20  # share, and least number, of values beside which a gap is judged
GAP_ALPHA = 0.005  # in a Pareto tail, once in so many sets; in a lighter one far less often
GAP_MOST = 8  # values beyond a gap
GAP_TIMES = 5.0  # and they are so many times as far from the median as the next
NORMAL_WIDTH = 2.93  # q05 to q90 of a normal, in standard deviations
ITEMS_ALPHA = 1e-2  # of the distances of items: one verdict on a set, false in one of a hundred
ITEMS_SHAPE = 0.1  # the heaviest tail they are given: theirs are drawn in
STEPS, TRIMMED = 2, 0.1  # so often the share furthest out is left out of what is usual
LEVERAGE = 0.05  # the least that is left of a point's distance to the others where it drew them to itself
BEND = 2.0  # spreads from the median
LOOKED_AT = 100_000  # values that tell a code from a measure
FITTED = 10_000  # values to which a power is fitted
WIDEST = 1e3  # spreads from the median, in which a power is sought
LEAST_DIRECTION = 1e-3  # of the widest direction's variance: a narrower one is rounding
CLIP = 6.0  # spreads from the median; beyond, a value is as far as it can be
COMBINED_LEAST = 2  # columns needed for a combination to be odd

Way = Callable[[np.ndarray], np.ndarray]  # what is done to a column first


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
        shown = listed(
            f"{name!r} {rounded(evidence[name]['found'][0], 4)} (median {rounded(evidence[name]['median'], 4)})" for name in worst
        )
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


@dataclass(frozen=True)
class _Odd:
    """Each item's distance from the pattern, the limit, and what each figure adds to it, of the items furthest beyond."""

    far: np.ndarray
    limit: float
    shares: dict[int, np.ndarray]


def outlying_items(context: Context) -> Finding:
    """Items that break the pattern of all others, though each figure alone may be plausible.

    Figures of more than a few values are seen twice: as they are, and each made as normal as a power makes it (:func:`_powered`),
    because figures that grow by factors go together in their logarithms. Each time they are brought to units of their spread, their
    tails drawn in (:func:`_drawn_in`). An item's figure is its squared Mahalanobis distance from the others per direction
    (:func:`departures`); it is odd beyond the tail of all such figures, one time or the other.
    """
    context.need_rows(LEAST * 2)
    figures = {name: values for name, values in _numbers(context).items() if _place(values) is not None and _measure(values)}
    if len(figures) < COMBINED_LEAST:
        raise NotRun("A combination of figures needs at least two that vary.")
    seen = [_odd(list(figures.values()), way) for way in (_unchanged, _powered)]
    times = np.max([odd.far / odd.limit for odd in seen], axis=0)
    rows = times > 1
    worst = max(seen, key=lambda odd: float(odd.far.max() / odd.limit))
    details: dict[str, Any] = {"value": worst.far.max(), "threshold": worst.limit}
    if rows.any():
        order = np.flatnonzero(rows)[np.argsort(-times[rows], kind="stable")]
        evidence = {str(context.view.at([i])[0]): _strangest(figures, i, seen) for i in order[:EVIDENCE_SHOWN]}
        things = f"{share(int(rows.sum()), context.view.n)} {plural(context.view.noun)}"
        message = f"{things} {'breaks' if rows.sum() == 1 else 'break'} the pattern of all others: up to {worst.far.max():.3g} times as "
        message += f"far from it as is usual, where chance alone gives {worst.limit:.3g}."
        return failed(message, rows=context.view.at(order), evidence={"strangest figures": evidence}, **details)
    return passed(f"No {context.view.noun} breaks the pattern of all others.", **details)


def _measure(values: np.ndarray) -> bool:
    """Whether a column has more than a few values: a rare code is no odd one."""
    return len(np.unique(values[np.isfinite(values)][:LOOKED_AT])) >= DISTINCT_LEAST


def _odd(figures: list[np.ndarray], way: Way) -> _Odd:
    points = _drawn_in(_scaled(figures, way))
    far, middle, scale = departures(points)
    q60, q90, q97 = np.quantile(far, [0.6, 0.9, 0.975])
    shape = np.log((q97 - q90) / (q90 - q60)) / np.log(4) if q97 > q90 > q60 else 0.0
    limit = float(q90 + _reach(q97 - q90, float(np.clip(shape, 0, ITEMS_SHAPE)), len(far), ITEMS_ALPHA))
    furthest = np.argsort(-far, kind="stable")[:EVIDENCE_SHOWN]
    centred = points[furthest] - middle
    return _Odd(far, limit, dict(zip(furthest.tolist(), centred * (centred @ scale @ scale.T), strict=True)))


def _unchanged(values: np.ndarray) -> np.ndarray:
    return values


def _powered(values: np.ndarray) -> np.ndarray:
    """Values about their median in units of spread, to the power that makes them most normal (Yeo and Johnson, Biometrika 87, 2000)."""
    from scipy.stats import yeojohnson, yeojohnson_normmax

    middle, spread = _place(values) or (0.0, 1.0)
    scaled = np.clip((values - middle) / spread, -WIDEST, WIDEST)
    known = np.isfinite(scaled)
    some = scaled[:: max(1, len(scaled) // FITTED)]
    if _place(some) is None:
        return scaled
    powered = np.full(len(scaled), np.nan)
    with np.errstate(all="ignore"):
        powered[known] = yeojohnson(scaled[known], yeojohnson_normmax(some[np.isfinite(some)]))
    return scaled if _place(powered) is None else powered


def _drawn_in(points: np.ndarray) -> np.ndarray:
    """Beyond ``BEND`` spreads a value counts by its logarithm: lone columns are judged by the other check, combinations by this."""
    for block in _blocks(len(points)):
        size = np.maximum(np.abs(points[block]), BEND)
        points[block] = np.where(size > BEND, np.sign(points[block]) * BEND * (1 + np.log(size / BEND)), points[block])
    return points


def departures(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each point's squared Mahalanobis distance from the rest, over the number of directions; their mean m and whitening matrix W.

    D^2 = (x - m)' W W' (x - m). What is odd must not widen its own measure: twice the tenth that lies furthest is left out of m and
    W (a concentration step: Rousseeuw and Van Driessen, Technometrics 41, 1999), and a point within is measured as if it had
    been left out, D^2 / (1 - n D^2 / (n - 1)^2).
    """
    n, d = points.shape
    kept = np.ones(n, dtype=bool)
    for _ in range(1 + STEPS):
        middle, scale = _whitening(points, kept)
        squares = partial(_squares, points, middle, scale)
        found = np.concatenate(each(squares, _blocks(n), n))
        size = int(kept.sum())
        found[kept] /= np.maximum(1 - found[kept] * size / (size - 1.0) ** 2, LEVERAGE)
        kept = found <= np.quantile(found, 1 - TRIMMED)
    return found / d, middle, scale


def _squares(points: np.ndarray, middle: np.ndarray, scale: np.ndarray, block: slice) -> np.ndarray:
    return (((points[block] - middle) @ scale) ** 2).sum(axis=1)


def _scaled(figures: list[np.ndarray], way: Way = _unchanged) -> np.ndarray:
    """Columns about their median in units of spread, clipped; those that are one value in eight rows of ten are left out."""
    kept = [values for values in figures if _place(values) is not None]
    points = np.empty((len(figures[0]), len(kept)), dtype=np.float32)
    for k, values in enumerate(kept):
        changed = way(values)
        middle, spread = _place(changed) or (0.0, 1.0)
        points[:, k] = np.clip(np.nan_to_num((changed - middle) / spread, nan=0, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)
    return points


def _place(values: np.ndarray) -> tuple[float, float] | None:
    """Median and spread of what is known, or None where these figures tell nothing apart."""
    known = values[np.isfinite(values)]
    if len(known) < LEAST or known.min() == known.max():
        return None
    low, middle, high = np.quantile(known, [0.1, 0.5, 0.9])
    spread = (high - low) / 2.56  # q10 to q90 of a normal, in standard deviations
    return (float(middle), float(spread)) if spread > 0 and np.isfinite(spread) else None


def _whitening(points: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the points kept, and the ``(d, d)`` matrix that turns and scales these to unit covariance."""
    n, d = int(kept.sum()), points.shape[1]
    parts = [(points[block], kept[block]) for block in _blocks(len(points))]  # views
    middle = sum(part[held].sum(axis=0, dtype=np.float64) for part, held in parts) / n
    if d >= n:  # so few points that their covariance says nothing of directions
        return middle, np.eye(d) / np.sqrt(max(float(sum(((part[held] - middle) ** 2).sum() for part, held in parts)) / n / d, 1e-300))
    covariance = sum(away.T @ away for away in (part[held] - middle for part, held in parts)) / n
    trust = 1 - d / n
    covariance = trust * covariance + (1 - trust) * np.eye(d) * max(float(np.trace(covariance)) / d, 1e-300)
    variances, directions = np.linalg.eigh(covariance)
    return middle, directions / np.sqrt(np.maximum(variances, LEAST_DIRECTION * variances.max()))


def _blocks(n: int, size: int = 65_536) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)]


def _strangest(figures: dict[str, np.ndarray], row: int, seen: list[_Odd]) -> list[str]:
    """The three figures that add most to one item's distance, in words."""
    names = list(figures)
    odd = max(seen, key=lambda odd: float(odd.far[row] / odd.limit))
    return [f"{names[k]} = {rounded(figures[names[k]][row], 4)}" for k in np.argsort(-odd.shares[row], kind="stable")[:3]]


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
