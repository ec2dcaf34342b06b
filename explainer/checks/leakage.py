"""What lets a model know more than it will in use: a feature that holds the label, a group or a time on both sides of a split."""

from __future__ import annotations

import re
from math import comb
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import CODE_LEVELS, Column, normalised
from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed, percent, plural, share
from explainer.checks.documents import SIGNAL_WORDS, TextView
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.labels import Labels
from explainer.checks.view import View
from explainer.inputs import MODALITIES
from explainer.metrics import wilson

FOLDS = 5
BINS = 32  # quantile bins of a number; most frequent levels of a category
GIVEN_AWAY = 0.99  # AUC (or R2 of ranks) of one feature alone; honest single features reach 0.975 on the easiest real sets
ONE_OF_MANY = 0.999  # and this for one class among several: the odd one out is often told by one honest feature
PURE = 0.99  # codes whose rows all but never have another label
PURE_COVER = 0.10  # in this share of rows
PURE_RARER = 20  # where the other labels are this many times rarer than elsewhere
COMMONEST = 0.90  # above this share one label is nearly everywhere, and purity says little
TOLD_RARE = 0.2  # a label of at most this share of rows
TOLD = 0.8  # and a value whose rows surely go with it in four cases of five is told by it
TOLD_FEW, TOLD_SURE = 0.05, 2 / 3  # as is one of at most this share of rows that do so as they stand, and surely in two cases of three
TOLD_ROWS = 20
LUCK = 1e-3  # a perfect split that chance gives some feature this often is not reported
WORD_BALANCE = 0.95  # mean of a word's recall and specificity for one class
ROWS_LEAST = 30
POWER_ROWS = 200_000  # on so many, an AUC of 0.99 is known to the fourth digit
GROUP_VALUES = 20  # a group of fewer values is a kind (a sex, a region), which every split should have
SUBJECT = re.compile(
    r"(patient|subject|person|customer|client|user|member|participant|household|animal|speaker|writer)( ?(id|no|nr|number|key))?"
)


def given_away(context: Context) -> Finding:
    """Cross-validated predictive power of each feature alone.

    A feature is cut into at most 32 bins (missing is one); each bin's label rates in four fifths of the rows score the fifth. A class
    that a number tells by its size alone, uncut, counts as told: a bin at its border would mix a small class with the rest.
    Reported: mean AUC of all classes against their rest (for numbers, R2 of ranks) of at least ``GIVEN_AWAY``; AUC of one class
    of at least ``ONE_OF_MANY``; a code of few values of which some, in at least a tenth of rows, go with one label to ``PURE``,
    twenty times purer than elsewhere; and one of which some value goes with a rare label (``TOLD_RARE``) to ``TOLD``, by the lower end
    of Wilson's 95 % interval, or, where few rows have it, to ``TOLD`` as they stand and to ``TOLD_SURE`` by that end.
    """
    labels = context.need_labels()
    context.need_rows(ROWS_LEAST)
    usable = ~labels.missing & ~context.view.blank
    if usable.sum() < ROWS_LEAST:
        raise NotRun(f"Only {int(usable.sum())} items have a label; at least {ROWS_LEAST} are needed.")
    frame = context.view.signals.loc[usable]
    fold = np.random.default_rng(0).permutation(int(usable.sum())) % FOLDS
    power = _of_numbers(frame, labels, usable, fold) if labels.kind == "number" else _of_classes(frame, labels, usable, fold)
    found = {name: p for name, p in power.items() if p["why"]}
    words = _words(context, labels, usable) if isinstance(context.view, TextView) and labels.kind == "class" else {}
    found |= words
    ranked = sorted(power, key=lambda name: -power[name]["power"])
    best = power[ranked[0]]["power"] if ranked else 0.0
    figure = "R2 of ranks" if labels.kind == "number" else "AUC"
    details: dict[str, Any] = {"value": best, "threshold": GIVEN_AWAY,
               "evidence": {"power": {name: power[name]["power"] for name in ranked[:EVIDENCE_SHOWN]}, "figure": figure}}  # fmt: skip
    if found:
        worst = sorted(found, key=lambda name: -found[name]["power"])
        details["evidence"] |= {"found": {name: found[name]["why"] for name in worst[:EVIDENCE_SHOWN]}}
        if best < GIVEN_AWAY:  # given away in part: what that part is stands in the words, not in one figure
            details |= {"value": float(len(worst)), "threshold": 0.0}
        message = (
            f"{count(len(worst), 'feature')} that all but {'gives' if len(worst) == 1 else 'give'} the label away: "
            + listed(f"{n!r} ({found[n]['why']})" for n in worst)
            + "."
        )
        return failed(message, columns=worst, count=len(worst), **details)
    if not ranked:
        raise NotRun("No feature varies.")
    return passed(f"No single feature gives the label away; the strongest, {ranked[0]!r}, alone has {figure} {best:.3f}.", **details)


def _of_classes(frame: pd.DataFrame, labels: Labels, usable: np.ndarray, fold: np.ndarray) -> dict[str, dict]:
    y = labels.codes[usable]
    sizes = np.bincount(y, minlength=len(labels.names))
    present = np.flatnonzero(sizes)
    if len(present) < 2:
        raise NotRun("All labels are the same; there is nothing to give away.")
    # a class so small that one of many features separates it by chance is not judged
    judged = [k for k in present if sizes[k] >= FOLDS and frame.shape[1] / comb(len(y), min(int(sizes[k]), 40)) < LUCK]
    if not judged:
        raise NotRun("Every class is so small that some feature would separate it by chance.")
    power = {}
    for name in frame.columns:
        codes, coded = binned(frame[name])
        if codes.max() == 0:
            continue
        shape = (FOLDS, int(codes.max()) + 1, len(sizes))
        table = np.bincount((fold * shape[1] + codes) * shape[2] + y, minlength=int(np.prod(shape))).reshape(shape).astype(float)
        aucs = {k: auc_by_fold(table, k) for k in judged}
        if frame[name].dtype.kind == "f":
            sizewise = auc_by_size(frame[name].to_numpy(dtype=float), y, judged)
            aucs = {k: max(aucs[k], sizewise[k]) for k in judged}
        best = max(aucs, key=aucs.get)  # type: ignore[arg-type]
        mean = float(np.mean(list(aucs.values())))
        why = ""
        if mean >= GIVEN_AWAY:
            why = f"AUC {mean:.3f}" + (" over all classes" if len(present) > 2 else "")
        elif aucs[best] >= ONE_OF_MANY:
            why = f"tells class {labels.names[best]!r} from the rest with AUC {aucs[best]:.4g}"
        elif coded:
            why = _pure(table, labels.names) or _told(table.sum(axis=0), labels.names)
        power[str(name)] = {"power": mean, "why": why}
    return power


def binned(values: pd.Series) -> tuple[np.ndarray, bool]:
    """Bin numbers from 0, a missing value's bin included, and whether the feature is a code of few values."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes = values.cat.codes.to_numpy().astype(np.int64)
        sizes = np.bincount(codes[codes >= 0], minlength=len(values.cat.categories))
        rank = np.full(len(sizes) + 1, BINS)
        top = np.argsort(-sizes, kind="stable")[:BINS]
        rank[top] = np.arange(len(top))
        rank[-1] = BINS + 1
        binned_ = np.unique(rank[codes], return_inverse=True)[1]
        return binned_, (sizes > 0).sum() <= CODE_LEVELS
    numbers = values.to_numpy(dtype=float)
    known = ~np.isnan(numbers)
    levels = np.unique(numbers[known])
    if len(levels) <= BINS:
        edges = levels[1:]
    else:
        edges = np.unique(np.quantile(np.clip(numbers[known], -1e300, 1e300), np.linspace(0, 1, BINS + 1)[1:-1], method="inverted_cdf"))
    codes = np.searchsorted(edges, numbers, side="right")
    codes = np.where(known, codes, len(edges) + 1)
    return np.unique(codes, return_inverse=True)[1], len(levels) <= CODE_LEVELS


def auc_by_fold(table: np.ndarray, k: int) -> float:
    """Mean over folds of the AUC of class ``k`` against the rest, scoring each bin by its rate in the other folds.

    ``table``: ``(folds, bins, classes)`` counts. Equal scores count one half, as in Mann and Whitney.
    """
    total = table.sum(axis=0)
    rate = total[:, k].sum() / max(1.0, total.sum())
    aucs = []
    for one in table:
        train = total - one
        score = (train[:, k] + rate) / (train.sum(axis=1) + 1)  # one pseudo-row at the overall rate
        levels, place = np.unique(score, return_inverse=True)
        hits = np.bincount(place, weights=one[:, k], minlength=len(levels))
        rest = np.bincount(place, weights=one.sum(axis=1) - one[:, k], minlength=len(levels))
        if hits.sum() and rest.sum():
            below = np.concatenate([[0], np.cumsum(rest)[:-1]])
            aucs.append(float((hits * (below + rest / 2)).sum() / (hits.sum() * rest.sum())))
    return float(np.mean(aucs)) if aucs else 0.5


def auc_by_size(values: np.ndarray, y: np.ndarray, classes: list[int]) -> dict[int, float]:
    """AUC of each class against the rest by the values themselves, larger or smaller (Mann and Whitney); a missing one is least."""
    from scipy.stats import rankdata

    ranks = rankdata(np.where(np.isnan(values), -np.inf, values))
    result = {}
    for k in classes:
        own = y == k
        n = int(own.sum())
        auc = (ranks[own].sum() - n * (n + 1) / 2) / (n * (len(y) - n))
        result[k] = float(max(auc, 1 - auc))
    return result


def _pure(table: np.ndarray, names: list[str]) -> str:
    """Codes chosen in four fifths of the rows for going with one label only, held to it in the other fifth."""
    total = table.sum(axis=0)
    rows = total.sum()
    for k in range(table.shape[2]):
        base = total[:, k].sum() / rows
        if base > COMMONEST or base == 0:
            continue
        covered = kept = 0.0
        for one in table:
            train = total - one
            pure = train[:, k] >= PURE * np.maximum(train.sum(axis=1), 1)
            pure &= train.sum(axis=1) >= 10
            covered += one[pure].sum()
            kept += one[pure, k].sum()
        if covered < PURE_COVER * rows:
            continue
        wrong = (covered - kept) / covered
        if wrong <= 1 - PURE and wrong * PURE_RARER <= 1 - base:
            told = f"{names[k]!r} in {percent(kept / covered)}, against {percent(base)} in all"
            return f"for {percent(covered / rows)} of rows its value goes with {told}"
    return ""


def _told(total: np.ndarray, names: list[str]) -> str:
    """A value that few rows have and that goes with a rare label: the insurer's no, filled in once the loan was refused."""
    rows = total.sum(axis=1)
    for k in np.flatnonzero(total.sum(axis=0) <= TOLD_RARE * total.sum()):
        hits = total[:, k]
        low = wilson(hits, rows)[0]
        few = (rows <= TOLD_FEW * rows.sum()) & (hits >= TOLD * rows) & (low >= TOLD_SURE)
        sure = (rows >= TOLD_ROWS) & (few | (low >= TOLD))
        if sure.any():
            one = int(np.argmax(np.where(sure, hits, -1)))
            told = f"{names[k]!r} in {percent(hits[one] / rows[one])}, against {percent(total[:, k].sum() / total.sum())} in all"
            return f"one of its values, in {count(int(rows[one]), 'row')}, goes with {told}"
    return ""


def _of_numbers(frame: pd.DataFrame, labels: Labels, usable: np.ndarray, fold: np.ndarray) -> dict[str, dict]:
    from scipy.stats import rankdata

    y = np.asarray(labels.numbers)[usable]
    ranks = rankdata(y) / len(y)
    power = {}
    for name in frame.columns:
        codes, _ = binned(frame[name])
        if codes.max() == 0:
            continue
        size = codes.max() + 1
        sums = np.array([np.bincount(codes[fold == f], weights=ranks[fold == f], minlength=size) for f in range(FOLDS)])
        counts = np.array([np.bincount(codes[fold == f], minlength=size) for f in range(FOLDS)])
        others = counts.sum(axis=0) - counts
        mean = np.where(others > 0, (sums.sum(axis=0) - sums) / np.maximum(others, 1), ranks.mean())
        error = ((ranks - mean[fold, codes]) ** 2).sum()
        r2 = 1 - error / max(1e-12, ((ranks - ranks.mean()) ** 2).sum())
        power[str(name)] = {"power": float(r2), "why": f"R2 of ranks {r2:.3f}" if r2 >= GIVEN_AWAY else ""}
    return power


def _words(context: Context, labels: Labels, usable: np.ndarray) -> dict[str, dict]:
    """Single words that tell one class: mean of recall and specificity of at least ``WORD_BALANCE``, or the class's own name."""
    view = context.view
    assert isinstance(view, TextView)
    vocabulary = [w for w, n in view.frequency.most_common(SIGNAL_WORDS) if n >= ROWS_LEAST / 3]
    if not vocabulary:
        return {}
    y = labels.codes[usable]
    presence = view.presence(vocabulary)[np.flatnonzero(usable)]
    found = {}
    total = np.asarray(presence.sum(axis=0)).ravel()
    for k in np.flatnonzero(labels.sizes):
        size = int((y == k).sum())
        if size < ROWS_LEAST / 3 or len(y) - size < ROWS_LEAST / 3:
            continue
        hits = np.asarray(presence[np.flatnonzero(y == k)].sum(axis=0)).ravel()
        recall, specificity = hits / size, 1 - (total - hits) / (len(y) - size)
        own = set(normalised(labels.names[k]).split())
        for w in np.flatnonzero(np.maximum((recall + specificity) / 2, 1 - (recall + specificity) / 2) >= WORD_BALANCE):
            told = f"in {percent(recall[w])} of the texts of class {labels.names[k]!r} and {percent(1 - specificity[w])} of the others"
            found[f"word {vocabulary[w]}"] = {
                "power": float(max(recall[w] + specificity[w], 2 - recall[w] - specificity[w]) / 2),
                "why": told,
            }
        for w in np.flatnonzero((hits >= PURE * total) & (recall >= 0.5)):
            if vocabulary[w] in own and f"word {vocabulary[w]}" not in found:
                where = f"in {percent(recall[w])} of its texts and {percent(1 - specificity[w])} of the others"
                told = f"the name of class {labels.names[k]!r}, {where}"
                found[f"word {vocabulary[w]}"] = {"power": float((recall[w] + specificity[w]) / 2), "why": told}
    return found


def group_leakage(context: Context) -> Finding:
    """Values of a group, such as a patient, that stand in more than one split, or in the data and in the reference set.

    Groups given are judged where they have at least ``GROUP_VALUES`` values: which sex stands on both sides is no leak. Where none is
    given, columns named as the number of a person are taken.
    """
    if context.splits is None and context.reference is None:
        raise NotRun("Neither splits nor a reference set were given.")
    groups = context.groups or _subjects(context.view)
    if not groups:
        raise NotRun("No groups were given, and no column is named as the number of a person.")
    found: dict[str, dict[str, Any]] = {}
    rows = np.zeros(context.view.n, dtype=bool)
    judged = []
    for name, raw in groups.items():
        values = np.array([None if pd.isna(v) else str(v) for v in raw], dtype=object)
        if len(set(values) - {None}) < GROUP_VALUES:
            continue
        other = _elsewhere(context, name)
        if context.splits is None and other is None:
            continue
        judged.append(name)
        shared = _on_both_sides(values, context.splits, other)
        if shared.any():
            both = sorted(set(values[shared]))
            found[name] = {"values": both[:EVIDENCE_SHOWN], "number of values": len(both), "rows": int(shared.sum())}
            rows |= shared
    if not judged:
        few = f"has at least {GROUP_VALUES} values" + ("" if context.splits is not None else " and stands in the reference set too")
        raise NotRun(f"No group {few} ({listed(groups)}); give the one that must not be on both sides, such as the patient or the device.")
    details: dict[str, Any] = {"value": rows.mean(), "threshold": 0.0}
    sides = "splits" if context.splits is not None else "sides"
    if found:
        shown = listed(f"{one['number of values']:,} of {name!r} ({listed(one['values'], 3)})" for name, one in found.items())
        message = f"Groups stand on both {sides}: {shown}, with {count(int(rows.sum()), context.view.noun)} outside training."
        return failed(message, rows=context.view.at(rows), columns=found, evidence=found, **details)
    return passed(f"No value of {listed(map(repr, judged))} stands on both {sides}.", **details)


def _subjects(view: View) -> dict[str, np.ndarray]:
    if not isinstance(view, TableView):
        return {}
    return {c.name: _plain(c) for c in view.columns if SUBJECT.fullmatch(re.sub(r"[\W_]+", " ", c.name).strip().lower())}


def _plain(column: Column) -> np.ndarray:
    if column.numbers is not None:
        return np.array([None if lost else f"{v:.15g}" for v, lost in zip(column.numbers, column.missing, strict=True)], dtype=object)
    return np.array([*column.levels, None], dtype=object)[column.codes]


def _elsewhere(context: Context, name: str) -> set[str] | None:
    """The values of a group in the reference set, where it has them."""
    if context.reference_groups and name in context.reference_groups:
        return {str(v) for v in context.reference_groups[name] if not pd.isna(v)}
    if isinstance(context.reference, TableView):
        for column in context.reference.columns:
            if column.name == name:
                return set(_plain(column)) - {None}
    return None


def _on_both_sides(values: np.ndarray, splits: np.ndarray | None, other: set[str] | None) -> np.ndarray:
    """Rows outside training whose value stands in another split, or in the reference set."""
    hit = np.zeros(len(values), dtype=bool)
    if other is not None:
        hit |= np.array([v is not None and v in other for v in values], dtype=bool)
    if splits is not None:
        known = np.array([v is not None and not pd.isna(s) for v, s in zip(values, splits, strict=True)], dtype=bool)
        pairs = pd.DataFrame({"value": values[known], "split": splits[known].astype(str)}).drop_duplicates()
        twice = set(pairs["value"][pairs["value"].duplicated()])
        hit |= known & np.array([v in twice for v in values]) & (splits.astype(str) != training(splits))
    return hit


def training(splits: np.ndarray) -> str:
    """The name of the split that trains: the one named so, else the largest."""
    names, sizes = np.unique(splits[~pd.isna(splits)].astype(str), return_counts=True)
    if not len(names):
        raise NotRun("No item has a split.")
    named = [n for n in names if re.match(r"tr(ain|n)|fit|learn|dev$", n.strip().lower())]
    return str(named[0] if named else names[sizes.argmax()])


def time_leakage(context: Context) -> Finding:
    """Items to be tested on that are earlier than the last item trained on: there the model has seen the future."""
    if context.time is None:
        raise NotRun("No time was given.")
    time = context.time
    details: dict[str, Any]
    if context.splits is not None:
        name = training(context.splits)
        inside = np.array([not pd.isna(s) and str(s) == name for s in context.splits], dtype=bool)
        outside = np.array([not pd.isna(s) and str(s) != name for s in context.splits], dtype=bool)
        past, where = time[inside], f"the split {name!r}"
    elif context.reference_time is not None:
        outside, past, where = np.ones(context.view.n, dtype=bool), context.reference_time, "the reference set"
    else:
        raise NotRun("Neither splits nor the time of a reference set were given (time= as the name of a column that both have gives it).")
    if not np.isfinite(past).any() or not np.isfinite(time[outside]).any():
        raise NotRun("One side has no item whose time is known.")
    end = float(np.nanmax(past))
    early = outside & (time < end)
    known = int((outside & np.isfinite(time)).sum())
    evidence = {"end of training": end, "first outside": float(np.nanmin(time[outside]))}
    details = {"value": early.sum() / known, "threshold": 0.0, "evidence": evidence}
    things = plural(context.view.noun)
    if early.any():
        return failed(
            f"{share(int(early.sum()), known)} {things} are earlier than the last of {where}.", rows=context.view.at(early), **details
        )
    return passed(f"All {known:,} {things} come after the last of {where}.", **details)


CHECKS: tuple[Check, ...] = (
    Check(
        "label given away",
        MODALITIES,
        given_away,
        "A feature that holds the answer is usually known only after it; a model built on it fails in use.",
        "Ask when each of these features is known. If after the label, leave it out.",
        most=POWER_ROWS,
    ),
    Check(
        "leakage by group",
        MODALITIES,
        group_leakage,
        "Items of one patient or device are alike; a model that knows it from training is right by memory.",
        "Split by group, so that each stands on one side only.",
        "from sklearn.model_selection import GroupShuffleSplit\n\n"
        "train, test = next(GroupShuffleSplit(random_state=0).split(data, groups=groups))",
    ),
    Check(
        "leakage by time",
        MODALITIES,
        time_leakage,
        "A model tested on days it has trained around knows what came next; in use it never does.",
        "Split by time: train on what is earlier, test on what is later.",
        "order = np.argsort(time)\ntrain, test = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]",
    ),
)
