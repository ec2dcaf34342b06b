"""Windows and subjects on both sides of a split: a recording that is half learnt is no test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, share
from explainer.checks.finding import Finding
from explainer.checks.neighbours import _mix
from explainer.checks.recordings import SeriesView
from explainer.checks.sensors import view_of

STRETCH = 16  # numbers of a stretch: steps of one channel, fewer of several
SHORTEST = 4  # steps
IN_COMMON = 4  # stretches two windows must share
VARIED = 0.5  # of a stretch's numbers that must be different from the one before: silence is like silence
DISTINCT = 0.5  # of them that must be different from all others: whispers repeat
STRETCHES_MOST = 20_000_000  # hashes held at once; beyond, those that divide by a number are kept, the same ones on both sides
SUBJECTS_LEAST = 8  # values of a grouping that names subjects; fewer are kinds, which ought to be on both sides


def overlapping_windows(context: Context) -> Finding:
    """Series on two sides of a split that share stretches of samples.

    All stretches of ``STRETCH`` numbers (all channels of 16, of several channels fewer, steps) are hashed by their exact values;
    those that hardly move are left out. Two windows overlap where four stretches are the same; wholly equal series are the
    other checks' matter.
    """
    view = view_of(context)
    sides, views = _sides(context, view)
    steps = max(SHORTEST, -(-STRETCH // max(1, view.channels)))
    total = sum(len(s) for v in views for s in v.series)
    keep = max(1, total // STRETCHES_MOST)
    hashes, owners, places = _stretches(views, steps, keep)
    if not len(hashes):
        raise NotRun(f"No series has {steps} steps in a row that move.")
    # within one window a stretch counts once
    order = np.lexsort((owners, hashes))
    hashes, owners, places = hashes[order], owners[order], places[order]
    first = np.append(True, (np.diff(hashes) != 0) | (np.diff(owners) != 0))
    hashes, owners, places = hashes[first], owners[first], places[first]
    # runs of one hash whose owners are of more than one side
    starts = np.flatnonzero(np.append(True, np.diff(hashes) != 0))
    side = sides[owners]
    low, high = np.minimum.reduceat(side, starts), np.maximum.reduceat(side, starts)
    crossing = np.repeat(low != high, np.diff(np.append(starts, len(hashes))))
    every = [one for v in views for one in v.series]
    crossing[crossing] = [_telling(every[o][p : p + steps]) for o, p in zip(owners[crossing], places[crossing], strict=True)]
    keys = np.concatenate([v.keys for v in views])
    pairs = _pairs(hashes[crossing], owners[crossing], sides, keys)
    needed = max(1, IN_COMMON // keep)
    pairs = {pair: times for pair, times in pairs.items() if times >= needed}
    mine = {a if a < view.n else b for a, b in pairs} | ({b for _, b in pairs} if len(views) == 1 else set())
    rows = np.array(sorted(i for i in mine if i < view.n), dtype=int)
    details: dict[str, Any] = {"value": len(rows) / max(1, view.n), "threshold": 0.0}
    against = "the reference set" if len(views) == 2 else "another split"
    if len(rows):
        shown = []
        for (a, b), times in sorted(pairs.items(), key=lambda p: -p[1])[:EVIDENCE_SHOWN]:
            other = {"reference row": views[1].at([b - view.n])[0]} if b >= view.n else {"other row": view.at([b])[0]}
            shown.append({"row": view.at([a])[0], **other, "steps in common": int(times * keep + steps - 1)})
        message = f"{share(len(rows), view.n)} series share stretches of samples with a series of {against}"
        return failed(f"{message}, up to {shown[0]['steps in common']} steps.", rows=view.at(rows), evidence={"pairs": shown}, **details)
    return passed(f"No series shares a stretch of {steps + IN_COMMON - 1} samples with one of {against}.", **details)


def _sides(context: Context, view: SeriesView) -> tuple[np.ndarray, list[SeriesView]]:
    """Which side each series is on (those of no split on one of their own), of the data and then of the reference."""
    if context.splits is not None:
        codes = pd.factorize(pd.Series([None if pd.isna(s) else str(s) for s in context.splits]))[0]
        if codes.max(initial=-1) > 0:
            return np.where(codes < 0, codes.max() + 1, codes), [view]
    if isinstance(context.reference, SeriesView):
        if context.reference.channels != view.channels:
            raise NotRun(f"The series have {view.channels} channels, the reference {context.reference.channels}.")
        return np.repeat([0, 1], [view.n, context.reference.n]), [view, context.reference]
    raise NotRun("Neither splits nor a reference set were given; windows of one set may overlap.")


def _telling(stretch: np.ndarray) -> bool:
    """Whether a stretch takes so many values that another recording does not repeat it by chance."""
    return len(np.unique(stretch)) >= DISTINCT * stretch.size


def _stretches(views: list[SeriesView], steps: int, keep: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hashes of all stretches that move, whose they are (the views' series numbered through), and at which step they begin."""
    hashes, owners, starts = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    offset = 0
    for view in views:
        for places, values in view.stacks:
            width = values.shape[1] - steps + 1
            if width < 1:
                continue
            bits = np.ascontiguousarray(values.astype(np.float32) + np.float32(0)).view(np.uint32).astype(np.uint64)
            step = np.zeros(values.shape[:2], dtype=np.uint64)
            for c in range(values.shape[2]):
                step = _mix(step ^ bits[:, :, c]) + np.uint64(c + 1)
            rolled = np.zeros((len(values), width), dtype=np.uint64)
            for k in range(steps):
                rolled = rolled * np.uint64(0x100000001B3) + step[:, k : k + width]
            moved = np.concatenate([np.zeros((len(values), 1)), (np.diff(values, axis=1) != 0).mean(axis=2)], axis=1).cumsum(axis=1)
            lively = (moved[:, steps - 1 :] - moved[:, :width]) >= VARIED * (steps - 1)
            lively &= np.isfinite(values).all(axis=2)[:, :width]
            rolled = _mix(rolled)
            chosen = lively & (rolled % np.uint64(keep) == 0)
            hashes.append(rolled[chosen])
            owners.append((offset + np.broadcast_to(places[:, None], chosen.shape)[chosen]).astype(np.int64))
            starts.append(np.broadcast_to(np.arange(width), chosen.shape)[chosen])
        offset += view.n
    return np.concatenate(hashes), np.concatenate(owners), np.concatenate(starts)


def _pairs(hashes: np.ndarray, owners: np.ndarray, sides: np.ndarray, keys: np.ndarray) -> dict[tuple[int, int], int]:
    """Pairs of unequal series of two sides, and how many stretches they share; in a crowd, each with the next few."""
    found: dict[tuple[int, int], int] = {}
    for step in range(1, 9):
        same = hashes[step:] == hashes[:-step]
        if not same.any():
            break
        a, b = owners[:-step][same], owners[step:][same]
        across = (sides[a] != sides[b]) & (keys[a] != keys[b])
        if not across.any():
            continue
        pairs, times = np.unique(np.column_stack([np.minimum(a, b), np.maximum(a, b)])[across], axis=0, return_counts=True)
        for (i, j), n in zip(pairs.tolist(), times.tolist(), strict=True):
            found[i, j] = found.get((i, j), 0) + n
    return found


def subjects_in_both(context: Context) -> Finding:
    """Subjects (of a grouping of many values) with items in more than one split, or here and in the reference."""
    if not context.groups:
        raise NotRun("No groups were given: pass groups= with the subject, patient or recording of each item.")
    if context.splits is None:
        raise NotRun("No splits were given: put both sets together and pass splits= with the name of each item's split.")
    splits = np.array([None if pd.isna(s) else str(s) for s in context.splits], dtype=object)
    if len({s for s in splits if s is not None}) < 2:
        raise NotRun("There is only one split.")
    rows = np.zeros(context.view.n, dtype=bool)
    both: dict[str, list[str]] = {}
    judged: dict[str, int] = {}
    for name, values in context.groups.items():
        subject = np.array([None if _lost(v) else str(v) for v in values], dtype=object)
        known = np.array([a is not None and b is not None for a, b in zip(subject, splits, strict=True)])
        table = pd.DataFrame({"subject": subject[known], "split": splits[known]}).drop_duplicates()
        times = table["subject"].value_counts()
        if len(times) < SUBJECTS_LEAST or len(times) == known.sum():
            continue
        judged[name] = len(times)
        shared = times.index[times > 1]
        if len(shared):
            both[name] = [str(s) for s in shared]
            rows |= np.isin(subject.astype(str), shared.to_numpy(dtype=str)) & known
    if not judged:
        raise NotRun(f"None of the groups names subjects: fewer than {SUBJECTS_LEAST} values, or a new one for each item.")
    worst = max(judged, key=lambda n: len(both.get(n, [])) / judged[n])
    value = len(both.get(worst, [])) / judged[worst]
    if both:
        shown = listed(f"{name}: {listed(found, 3)}" for name, found in both.items())
        message = f"{share(len(both[worst]), judged[worst])} subjects ({worst}) have items in more than one split: {shown}."
        evidence = {name: found[:EVIDENCE_SHOWN] for name, found in both.items()}
        return failed(message, value=value, threshold=0, rows=context.view.at(rows), columns=list(both), evidence=evidence)
    return passed(f"No subject has items in more than one split ({count(judged[worst], 'subject')}).", value=0, threshold=0)


def _lost(value: Any) -> bool:
    try:
        return bool(pd.isna(value))
    except (TypeError, ValueError):
        return False


CHECKS: tuple[Check, ...] = (
    Check(
        "overlapping windows",
        ("series",),
        overlapping_windows,
        "Windows cut from one recording share samples; on both sides of a split they make a test of memory.",
        "Split by recording before cutting windows, or leave a window's length between the splits.",
    ),
    Check(
        "subjects in both",
        ("series",),
        subjects_in_both,
        "A model that has met a person recognises the person.",
        "Split by subject: all items of one on one side.",
        "from sklearn.model_selection import GroupShuffleSplit\n"
        "train, test = next(GroupShuffleSplit(1, test_size=0.2, random_state=0).split(data, groups=subject))",
    ),
)
