"""Parts of the data, found and not only named: where the model errs more, and what the reference has and the data lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import Column, column_of
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent, plural
from explainer.checks.drift import FALSE_SHARE, adjust
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.predictions import Predictions
from explainer.inputs import MODALITIES
from explainer.metrics import Z
from explainer.numerals import rounded

ROWS_LEAST = 100  # scored items with a label: 50 to look on and 50 to test on
SEGMENT_LEAST = 15  # items of a segment in either half
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # quantiles a number is cut at
LEVELS_MOST = 20  # most frequent levels of a category
SLICES_MOST = 1_500  # slices of one column; with more columns, the most varied are kept
BEAM = 20  # best slices of one column that are narrowed by a second
TESTED = 20  # best segments of the first half tested on the second
EFFECT = 0.10  # points of error above the rest (of numbers: share of the usual error, times ten)
RATIO = 0.2  # a group this much rarer than in the reference
EXPECTED_LEAST = 10.0  # members expected: with fewer, none may come by chance
GROUP_VALUES = 50  # values of one group column compared


def weak_segments(context: Context) -> Finding:
    """Segments of one or two figures in which the model errs more than in the rest.

    In one random half of the items all slices (a number's deciles from below and from above, a category's levels, missing) are
    ranked by z = (error inside - error) / its standard error, and the best twenty are narrowed by a second slice; the best
    twenty segments are then tested in the other half: error inside against outside, one-sided, Benjamini-Hochberg.
    The error is 0 or 1 of a class, and of a number its absolute error in units of the mean one. Where a model of classes errs more
    and says so (its own probability of being wrong, scaled to its error overall, is as much higher), it is not called weak.
    """
    labels = context.need_labels()
    predictions = context.need_predictions()
    error, doubt, known = _errors(predictions, context)
    if known.sum() < ROWS_LEAST:
        raise NotRun(f"{int(known.sum()):,} items have a score and a label the model knows; at least {ROWS_LEAST} are needed.")
    rows, error, doubt = predictions.rows[known], error[known], doubt[known]
    overall, unit = float(error.mean()), labels.kind == "class"
    details: dict[str, Any] = {"threshold": EFFECT}
    if error.std() == 0:
        return passed(f"The model makes the same error everywhere ({overall:.3g}){predictions.aside}.", value=0, **details)
    names, masks = _slices(_features(context, rows))
    if not names:
        raise NotRun("No figure of the items varies enough to cut them into segments.")
    half = np.random.default_rng(0).permutation(len(rows)) % 2 == 0
    found = _tested(names, masks, error, error - doubt * error.mean() / max(float(doubt.mean()), 1e-12), half)
    weak = [f for f in found if f["adjusted p"] < FALSE_SHARE and min(f["excess"], f["beyond its doubt"]) >= EFFECT]
    best = max(found, key=lambda f: f["excess"] * (f["adjusted p"] < FALSE_SHARE), default=None)
    value = max(0.0, best["excess"]) if best and best["adjusted p"] < FALSE_SHARE else 0.0
    figure = f"error {percent(overall)}" if unit else "mean error 1"
    if not weak:
        shown = [_shown(f) for f in found[:EVIDENCE_SHOWN]]
        message = "No segment of one or two figures in which the model errs more than elsewhere, and than it says, "
        message += f"by {percent(EFFECT)} ({figure} overall)"
        return passed(f"{message}{predictions.aside}.", value=value, evidence={"segments": shown}, **details)
    weak.sort(key=lambda f: -f["excess"] * np.sqrt(f["size"]))
    top = weak[0]
    inside = percent(top["error"]) if unit else f"{top['error']:.2f}"
    outside = percent(top["elsewhere"]) if unit else f"{top['elsewhere']:.2f}"
    message = f"The model is worse in {count(len(weak), 'segment')} found: most in {top['segment']}, {inside} errors against {outside}"
    message += f" elsewhere on {count(top['size'], context.view.noun)} held out{predictions.aside}."
    if len(weak) > 1:
        message += f" Others: {listed((f['segment'] for f in weak[1:]), 3)}."
    columns = list(dict.fromkeys(c for f in weak for c in f["columns"]))
    members = np.flatnonzero(top["mask"])
    return failed(
        message,
        value=top["excess"],
        p=top["adjusted p"],
        interval=top["interval"],
        rows=context.view.at(rows[members]),
        columns=columns,
        evidence={"error": overall, "segments": [_shown(f) for f in weak[:EVIDENCE_SHOWN]]},
        **details,
    )


def _shown(found: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in found.items() if k not in ("mask", "columns")}


def _errors(predictions: Predictions, context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(m,)`` the error of each scored item, the probability of one by the model's own word, and which items have one."""
    labels, task = context.need_labels(), predictions.model.task
    if task == "regression":
        if labels.numbers is None or predictions.scores.shape[1] != 1:
            raise NotRun("The model estimates a number and the labels are names.")
        error = np.abs(predictions.scores[:, 0] - labels.numbers[predictions.rows])
        known = np.isfinite(error)
        return error / max(float(error[known].mean()) if known.any() else 1.0, 1e-300), np.zeros(len(error)), known
    labels.need_classes()
    truth = predictions.truth(labels)
    return (predictions.scores.argmax(axis=1) != truth).astype(float), 1 - predictions.scores.max(axis=1), truth >= 0


def _features(context: Context, rows: np.ndarray) -> pd.DataFrame:
    frame = context.view.summary.iloc[rows].reset_index(drop=True)
    if isinstance(context.view, TableView):
        frame = frame.drop(columns=[c.name for c in context.view.columns if c.name in frame.columns and context.view.identifier(c)])
    for name, values in (context.groups or {}).items():
        if name not in frame.columns:
            codes, levels = _coded(column_of(name, pd.Series(values)))
            frame[name] = pd.Categorical.from_codes(codes[rows], categories=pd.Index(list(levels), dtype=object))
    return frame


def _slices(frame: pd.DataFrame) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Slices of one column: ``(column, in words)``, and ``(slices, n)`` bool."""
    names: list[tuple[str, str]] = []
    masks: list[np.ndarray] = []
    for name in map(str, frame.columns):
        values = frame[name]
        if len(names) >= SLICES_MOST:
            break
        missing = values.isna().to_numpy()
        cut = [(f"{name} missing", missing)] if missing.any() else []
        if isinstance(values.dtype, pd.CategoricalDtype):
            codes = values.cat.codes.to_numpy()
            sizes = np.bincount(codes[codes >= 0], minlength=len(values.cat.categories))
            cut += [(f"{name} = {values.cat.categories[k]}", codes == k) for k in np.argsort(-sizes, kind="stable")[:LEVELS_MOST]]
        else:
            numbers = values.to_numpy(dtype=float)
            known = numbers[np.isfinite(numbers)]
            levels = np.unique(known)
            if len(levels) <= LEVELS_MOST:
                cut += [(f"{name} = {v:g}", numbers == v) for v in levels]
            for edge in np.unique(np.quantile(known, CUTS)) if len(levels) > 2 else ():
                cut += [(f"{name} <= {rounded(edge, 4)}", numbers <= edge), (f"{name} > {rounded(edge, 4)}", numbers > edge)]
        for words, mask in cut:
            if 2 * SEGMENT_LEAST <= mask.sum() <= len(mask) - 2 * SEGMENT_LEAST:
                names.append((name, words))
                masks.append(mask)
    return names, np.array(masks, dtype=bool).reshape(len(masks), len(frame))


def _tested(
    names: list[tuple[str, str]], masks: np.ndarray, error: np.ndarray, surprise: np.ndarray, half: np.ndarray
) -> list[dict[str, Any]]:
    """The best segments of one half by mean ``surprise`` (error less doubt), tested on the other."""
    look, y = masks[:, half].astype(np.float32), surprise[half].astype(np.float32)
    overall, variance = float(y.mean()), float(y.var())
    if variance == 0:
        return []

    def rank(sizes: np.ndarray, sums: np.ndarray) -> np.ndarray:
        score = (sums - sizes * overall) / np.sqrt(variance * np.maximum(sizes, 1))
        return np.where((sizes >= SEGMENT_LEAST) & (sums / np.maximum(sizes, 1) - overall > 0), score, -np.inf)

    single = rank(look.sum(axis=1), look @ y)
    candidates: list[tuple[float, tuple[int, ...]]] = [
        (float(single[i]), (int(i),)) for i in np.argsort(-single)[:TESTED] if np.isfinite(single[i])
    ]
    for first in [members[0] for _, members in candidates[:BEAM]]:
        narrowed = look * look[first]
        score = rank(narrowed.sum(axis=1), narrowed @ y)
        for second in np.argsort(-score)[:5]:
            other = names[second][0] != names[first][0] or not (masks[second] | masks[first]).all()
            if second != first and other and score[second] > single[first] and score[second] > single[second]:
                candidates.append((float(score[second]), tuple(sorted((first, int(second))))))
    tests: list[dict[str, Any]] = []
    seen: set[bytes] = set()
    for _, members in sorted(set(candidates), reverse=True):
        mask = np.logical_and.reduce(masks[list(members)])
        if mask.tobytes() in seen or len(tests) >= TESTED:
            continue
        seen.add(mask.tobytes())
        test = _against_rest(error[~half], surprise[~half], mask[~half])
        if test is not None:
            words = " and ".join(names[m][1] for m in members)
            tests.append({"segment": words, **test, "mask": mask, "columns": [names[m][0] for m in members]})
    adjust(tests)
    return tests


def _against_rest(error: np.ndarray, surprise: np.ndarray, mask: np.ndarray) -> dict[str, Any] | None:
    """One-sided tests of a larger mean inside, of the surprise (Welch) and of errors of 0 and 1 (Fisher's exact); the larger p counts.

    The interval (95 %) is of the excess of surprise.
    """
    from scipy.stats import fisher_exact, ttest_ind

    inside, outside = error[mask], error[~mask]
    if min(len(inside), len(outside)) < SEGMENT_LEAST:
        return None
    welch = ttest_ind(surprise[mask], surprise[~mask], equal_var=False, alternative="greater")
    p = float(np.nan_to_num(welch.pvalue, nan=1.0))
    if np.isin(error, (0, 1)).all():
        a, b = int(inside.sum()), int(outside.sum())
        p = max(p, float(fisher_exact([[a, len(inside) - a], [b, len(outside) - b]], alternative="greater").pvalue))
    spread = float(np.sqrt(surprise[mask].var(ddof=1) / len(inside) + surprise[~mask].var(ddof=1) / len(outside)))
    middle = float(surprise[mask].mean() - surprise[~mask].mean())
    shares = {"error": float(inside.mean()), "elsewhere": float(outside.mean()), "excess": float(inside.mean() - outside.mean())}
    return {"size": len(inside), **shares, "beyond its doubt": middle, "interval": (middle - Z * spread, middle + Z * spread), "p": p}


def missing_groups(context: Context) -> Finding:
    """Values of groups, and pairs of values of two groups, that the reference has and the data all but lack.

    Both sets are counted; a value is missing where its share here is at most a fifth of its share there, ten or more were to be
    expected, and so few would come by chance less than once in a hundred (hypergeometric, Benjamini-Hochberg).
    """
    groups = _groups(context)
    tests = [t for names in [*((name,) for name in groups), *combinations(groups, 2)] for t in _counts(names, groups)]
    if not tests:
        raise NotRun(f"No group is so large in the reference that {EXPECTED_LEAST:g} members were to be expected here.")
    adjust(tests)
    lost = [t for t in tests if t["ratio"] <= RATIO and t["adjusted p"] < FALSE_SHARE]
    single = {t["group"] for t in lost if " and " not in t["group"]}
    lost = [t for t in lost if t["group"] in single or not single & set(t["parts"])]  # a pair says nothing new of a value that is missing
    details: dict[str, Any] = {"value": min(t["ratio"] for t in tests), "threshold": RATIO}
    if lost:
        lost.sort(key=lambda t: -t["expected"])
        shown = listed(f"{t['group']} ({t['here']:,} here, {t['expected']:.0f} expected)" for t in lost)
        evidence = {"groups": [{k: v for k, v in t.items() if k != "parts"} for t in lost[:EVIDENCE_SHOWN]]}
        columns = list(dict.fromkeys(c for t in lost for c in t["columns"]))
        message = f"{count(len(lost), 'group')} of the reference set all but missing here: {shown}."
        return failed(message, count=len(lost), columns=columns, evidence=evidence, p=lost[0]["adjusted p"], **details)
    return passed(f"None of {count(len(tests), 'group')} of the reference set is missing here or far rarer.", **details)


@dataclass(frozen=True)
class _Group:
    """One grouping of both sets: codes (-1 unknown) into common levels."""

    levels: list[str]
    here: np.ndarray
    there: np.ndarray


def _groups(context: Context) -> dict[str, _Group]:
    """The groupings that both sets have: those named, else a table's own categories, else the classes."""
    view, reference = context.view, context.need_reference()
    named = context.groups or {}
    found: dict[str, _Group] = {}
    if isinstance(view, TableView) and isinstance(reference, TableView):
        mine, theirs = ({c.name: c for c in v.columns} for v in (view, reference))
        wanted = [n for n in named if n in theirs] or [n for n, c in mine.items() if c.kind == "category" and n in theirs]
        for name in wanted:
            if theirs[name].distinct <= GROUP_VALUES:
                here = column_of(name, pd.Series(named[name])) if name in named else mine[name]
                found[name] = _group(_coded(here), _coded(theirs[name]))
    labels, others = context.labels, context.reference_labels
    if not found and labels is not None and others is not None and labels.kind == others.kind == "class":
        found["class"] = _group((labels.codes, labels.names), (others.codes, others.names))
    if not found:
        raise NotRun(f"The two sets of {plural(view.noun)} share no groups: no column of categories, and no classes on both sides.")
    return found


def _coded(column: Column) -> tuple[np.ndarray, Sequence[str]]:
    if column.numbers is None:
        return column.codes, column.levels
    values = np.unique(column.numbers[~column.missing])
    return np.where(column.missing, -1, np.searchsorted(values, column.numbers)), [f"{v:g}" for v in values]


def _group(*sides: tuple[np.ndarray, Sequence[str]]) -> _Group:
    levels: dict[str, int] = {}
    common = [np.array([levels.setdefault(name, len(levels)) for name in names] + [-1])[codes] for codes, names in sides]
    return _Group(list(levels), *common)


def _counts(names: tuple[str, ...], groups: dict[str, _Group]) -> list[dict[str, Any]]:
    """Each value, or pair of values, of which enough were to be expected here: how many there are, and how probable so few."""
    from scipy.stats import hypergeom

    shape = tuple(len(groups[name].levels) for name in names)
    counts, totals = [], []
    for side in ("here", "there"):
        codes = [getattr(groups[name], side) for name in names]
        known = np.logical_and.reduce([c >= 0 for c in codes])
        counts.append(np.bincount(np.ravel_multi_index([c[known] for c in codes], shape), minlength=int(np.prod(shape))))
        totals.append(max(1, len(known)))
    n, m = totals
    expected = counts[1] / m * n
    chosen = np.flatnonzero(expected >= EXPECTED_LEAST)
    p = hypergeom.cdf(counts[0][chosen], n + m, counts[0][chosen] + counts[1][chosen], n)
    tests = []
    for k, chance in zip(chosen, p, strict=True):
        parts = [f"{name} = {groups[name].levels[i]}" for name, i in zip(names, np.unravel_index(k, shape), strict=True)]
        tests.append({
            "group": " and ".join(parts), "parts": parts, "columns": names, "here": int(counts[0][k]), "expected": float(expected[k]),
            "ratio": float(counts[0][k] / expected[k]), "p": float(chance),
        })  # fmt: skip
    return tests


CHECKS: tuple[Check, ...] = (
    Check(
        "weak segments",
        MODALITIES,
        weak_segments,
        "A model that is right on average may be wrong for one kind of case, and that kind has an owner.",
        "Look at the segment; collect more such cases or better features for it, or say that the model is not for it.",
    ),
    Check(
        "missing groups",
        MODALITIES,
        missing_groups,
        "On a group that is not in the data nothing is learnt and nothing is measured.",
        "Find out why the group is missing; collect it, or say that the figures do not hold for it.",
    ),
)
