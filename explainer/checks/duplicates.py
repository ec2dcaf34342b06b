"""Items that are there twice: exactly or nearly, within the data or between them and a reference set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, NotRun, failed, listed, passed, plural, share
from explainer.checks.finding import Finding
from explainer.checks.leakage import training
from explainer.checks.view import View
from explainer.inputs import MODALITIES

# Independent columns give so many repeats; real columns hang together, and give more. A hundred times more is still no proof
# of copying, so repeats are called copies only beyond that.
DEPENDENCE = 100.0


def _coarse(found: int, expected: float) -> bool:
    return expected * DEPENDENCE >= max(found, 1)


def _by_chance(expected: float) -> str:
    """Why repeats are not called copies."""
    pairs = f"{expected:,.0f}" if expected >= 10 else f"{expected:.2g}"
    return (
        f"Independent columns with these values would give {pairs} such pairs by chance, and columns that hang together up to "
        f"{DEPENDENCE:.0f} times as many: copies and coincidences cannot be told apart."
    )


def exact_duplicates(context: Context) -> Finding:
    view = context.view
    context.need_rows(2)
    first = view.firsts[view.content]
    repeated = np.flatnonzero((first != np.arange(view.n)) & ~view.blank)
    things = plural(view.noun)
    details: dict[str, Any] = {"value": len(repeated) / view.n, "threshold": 0.0}
    if not len(repeated):
        return passed(f"No two of {view.n:,} {things} are equal.", **details)
    shown = np.unique(view.content[repeated])[:EVIDENCE_SHOWN]
    groups = [view.at(view.content == g)[:10] for g in shown]
    details |= {"rows": view.at(repeated), "evidence": {"groups": groups}}
    labels = context.labels
    if labels is not None:
        details["evidence"]["with the same label"] = int((labels.codes[repeated] == labels.codes[first[repeated]]).sum())
    message = f"{share(len(repeated), view.n)} {things} are copies of an earlier one{view.aside}."
    expected = view.chance()
    if _coarse(len(repeated), expected):
        return passed(f"{message} {_by_chance(expected)}", **details)
    return failed(message, **details)


def near_duplicates(context: Context) -> Finding:
    view = context.view
    context.need_rows(2)
    pairs, expected = view.pairs
    things = plural(view.noun)
    blank = set(np.flatnonzero(view.blank).tolist())
    pairs = [p for p in pairs if p[0] not in blank and p[1] not in blank]
    later = sorted({j for _, j, _ in pairs})
    details: dict[str, Any] = {"value": len(later) / view.n, "threshold": 0.0}
    if not later:
        return passed(f"No two unequal {things} are nearly the same.", **details)
    likely = sorted(pairs, key=lambda p: -p[2])[:EVIDENCE_SHOWN]
    shown = [{"rows": [*view.at([i]), *view.at([j])], "likeness": s} for i, j, s in likely]
    details |= {"rows": view.at(later), "evidence": {"pairs": shown}}
    message = f"{share(len(later), view.n)} {things} are nearly the same as an earlier one{view.aside}, though not equal."
    labels = context.labels
    if labels is not None and labels.kind == "class":
        unlike = [(i, j) for i, j, _ in pairs if labels.codes[i] != labels.codes[j] and min(labels.codes[i], labels.codes[j]) >= 0]
        details["evidence"]["with different labels"] = {
            "pairs": len(unlike),
            "rows": [[*view.at([i]), *view.at([j])] for i, j in unlike[:EVIDENCE_SHOWN]],
        }
        message += f" {len(unlike):,} such pairs have different labels." if unlike else ""
    if _coarse(len(later), expected):
        return passed(f"{message} {_by_chance(expected)}", **details)
    return failed(message, **details)


def exact_overlap(context: Context) -> Finding:
    view, reference = context.view, context.need_reference()
    mine, theirs = view.keys_against(reference)
    both = np.isin(mine, theirs[~reference.blank]) & ~view.blank
    details: dict[str, Any] = {"value": both.mean() if view.n else 0.0, "threshold": 0.0}
    things = plural(view.noun)
    if not both.any():
        return passed(f"None of {view.n:,} {things} stands in the reference set.", **details)
    shown = np.flatnonzero(both)[:EVIDENCE_SHOWN]
    pairs = [{"row": view.at([i])[0], "reference row": reference.at([np.argmax(theirs == mine[i])])[0]} for i in shown]
    details |= {"rows": view.at(both), "evidence": {"pairs": pairs}}
    message = f"{share(int(both.sum()), view.n)} {things} stand in the reference set too."
    expected = view.chance() / max(1, view.n - 1) * reference.n + reference.chance() / max(1, reference.n - 1) * view.n
    if _coarse(int(both.sum()), expected):
        return passed(f"{message} {_by_chance(expected)}", **details)
    return failed(message, **details)


def near_overlap(context: Context) -> Finding:
    view, reference = context.view, context.need_reference()
    context.need_rows(2)
    if reference.n < 2:
        raise NotRun("The reference set has fewer than two items.")
    pairs, expected = view.near(reference)
    pairs = [p for p in pairs if not (view.blank[p[0]] or reference.blank[p[1]])]
    mine = _unique(i for i, _, _ in pairs)
    things = plural(view.noun)
    details: dict[str, Any] = {"value": len(mine) / view.n, "threshold": 0.0}
    if not mine:
        return passed(f"None of {view.n:,} {things} is nearly the same as one in the reference set.", **details)
    shown = [
        {"row": view.at([i])[0], "reference row": reference.at([j])[0], "likeness": s}
        for i, j, s in sorted(pairs, key=lambda p: -p[2])[:EVIDENCE_SHOWN]
    ]
    details |= {"rows": view.at(mine), "evidence": {"pairs": shown}}
    message = f"{share(len(mine), view.n)} {things} are nearly the same as one in the reference set."
    if _coarse(len(mine), expected):
        return passed(f"{message} {_by_chance(expected)}", **details)
    return failed(message, **details)


def split_overlap(context: Context) -> Finding:
    """Items equal to, or nearly the same as, one of another split."""
    if context.splits is None:
        raise NotRun("No splits were given.")
    view, splits = context.view, context.splits
    context.need_rows(2)
    names, place = np.unique([str(s) for s in splits], return_inverse=True)
    side = np.where(pd.isna(splits), -1, place)
    present = np.unique(side[side >= 0])
    if len(present) < 2:
        raise NotRun(f"All items are of one split ({listed(names[present])}); there is no other to overlap with.")
    usable = np.flatnonzero(~view.blank & (side >= 0))
    table = pd.DataFrame({"key": view.keys[usable], "side": side[usable], "row": usable})
    shared = table.groupby("key")["side"].transform("nunique") > 1
    pairs, expected, unsought = _nearly(view)
    close = [(i, j, s) for i, j, s in pairs if side[i] != side[j] and min(side[i], side[j]) >= 0 and not (view.blank[i] or view.blank[j])]
    train = training(splits)
    outside = side != list(names).index(train)
    exact = np.zeros(view.n, dtype=bool)
    exact[table["row"][shared]] = True
    near = np.zeros(view.n, dtype=bool)
    near[[k for i, j, _ in close for k in (i, j)]] = True
    exact, near = exact & outside, near & outside & ~exact
    things = plural(view.noun)
    crossing = 1 - float(((np.bincount(side[side >= 0]) / (side >= 0).sum()) ** 2).sum())  # of random pairs, so many cross
    total = int((outside & (side >= 0)).sum())
    those = f"{total:,} {things} outside {train!r}"
    chance = [view.chance() * crossing, expected * crossing]
    found = exact | near
    for repeats, by_chance in zip((exact, near), chance, strict=True):
        if _coarse(int(repeats.sum()), by_chance):
            repeats[:] = False
    both = exact | near
    details: dict[str, Any] = {"value": both.sum() / max(1, total), "threshold": 0.0}
    if not both.any() and found.any():
        message = f"{int(found.sum()):,} of {those} stand, exactly or nearly, in another split too."
        return passed(f"{message} {_by_chance(sum(chance))}{unsought}", **details)
    if not both.any():
        return passed(f"None of {those} is{'' if unsought else ', or is nearly,'} one of another split.{unsought}", **details)
    likely = sorted(close, key=lambda p: -p[2])[:EVIDENCE_SHOWN]
    crossings = table[shared & table["row"].isin(np.flatnonzero(exact))].groupby("key")["row"].first().tolist()[:EVIDENCE_SHOWN]
    copies = [{"rows": view.at(table["row"][table["key"] == view.keys[r]].to_numpy())[:10]} for r in crossings]
    evidence = {"equal": int(exact.sum()), "nearly": int(near.sum()), "copies": copies,
                "pairs": [{"rows": [*view.at([i]), *view.at([j])], "likeness": s} for i, j, s in likely]}  # fmt: skip
    message = f"{share(int(both.sum()), total)} {things} outside {train!r} stand in another split too: "
    message += f"{int(exact.sum()):,} equal{view.aside}, {int(near.sum()):,} nearly.{unsought}"
    return failed(message, rows=view.at(both), evidence=evidence, **details)


def _nearly(view: View) -> tuple[list[tuple[int, int, float]], float, str]:
    """The view's near pairs and how many chance would give; or none, and why they were not looked for."""
    try:
        return *view.pairs, ""
    except NotRun as reason:
        return [], 0.0, f" Near-copies were not looked for. {reason}"


def _unique(values: object) -> Sequence[int]:
    return sorted(set(values))  # type: ignore[call-overload]


CHECKS: tuple[Check, ...] = (
    Check(
        "exact duplicates",
        MODALITIES,
        exact_duplicates,
        "Copies count twice in training, and once they fall on both sides of a split they inflate every figure.",
        "Keep one of each, before splitting.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "near duplicates",
        MODALITIES,
        near_duplicates,
        "Near-copies across a split let a model be right by memory.",
        "Look at the pairs; keep one of each, or keep them on one side of the split.",
    ),
    Check(
        "overlap, exact",
        MODALITIES,
        exact_overlap,
        "Items the model was trained on are no test.",
        "Drop them from one side (from the test, if training is done).",
        FIX_CODE,
    ),
    Check(
        "overlap, near",
        MODALITIES,
        near_overlap,
        "Near-copies of training items are hardly a test.",
        "Look at the pairs; drop them from one side, or split by source.",
    ),
    Check(
        "overlap between splits",
        MODALITIES,
        split_overlap,
        "What stands in training and in test is remembered, not predicted, and every figure is too good.",
        "Drop these rows from the other side, and split anew after removing copies.",
        "data = data.drop(index=data.index[{rows}])",
    ),
)
