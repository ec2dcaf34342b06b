"""Labels: read once as classes or numbers, and the checks on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.columns import column_of, normalised
from explainer.checks.context import EVIDENCE_SHOWN, FIX_CODE, Check, Context, NotRun, count, failed, listed, passed, percent, plural, share
from explainer.checks.finding import Finding
from explainer.checks.view import Reading
from explainer.errors import InvalidInput
from explainer.inputs import MODALITIES

MOST_CLASSES = 100  # whole numbers with more values than this are measures
CLASSES_SHARE = 0.05  # and so are those whose values are more than this share of the rows (beyond the first 20)
FEW_CLASSES = 20
BALANCE = 0.2  # of an equal share: of two classes, one below 1 in 10
CLASS_LEAST = 10  # a class seen less often can be neither learnt nor measured (its recall moves by 10 points per case)
COARSE_CONFLICT = 0.05  # among rows so coarse that repeats are expected, this many may differ in label
GROUP_LEAST = 30  # a rate seen on fewer is known to no better than 18 points either way


@dataclass(frozen=True)
class Labels:
    """One label per item: codes into names (-1 missing) for classes, float64 with NaN for numbers."""

    kind: str  # "class" or "number"
    missing: np.ndarray
    codes: np.ndarray
    names: list[str]
    numbers: np.ndarray | None = None

    @cached_property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names))

    def take(self, rows: np.ndarray) -> Labels:
        """Those of the items ``rows``."""
        numbers = None if self.numbers is None else self.numbers[rows]
        return replace(self, missing=self.missing[rows], codes=self.codes[rows], numbers=numbers)

    def need_classes(self) -> None:
        if self.kind != "class":
            raise NotRun("The labels are numbers to be estimated, not classes.")


def labels_of(values: Any, reading: Reading, what: str = "labels") -> Labels | None:
    """Read labels, one per item given or per item that could be read. Raises InvalidInput on another length."""
    if values is None:
        return None
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    if isinstance(values, pd.DataFrame):
        values = values.iloc[:, 0] if values.shape[1] == 1 else values.to_numpy()
    if isinstance(values, (str, bytes, dict)) or not hasattr(values, "__len__"):
        raise InvalidInput(f"{what} is one {type(values).__name__}; pass one label per item, {reading.attempted:,} in all.")
    series = values if isinstance(values, pd.Series) else _series(values, what)
    series = series.iloc[reading.align(len(series), what)]
    column = column_of("label", series.reset_index(drop=True))
    if column.numbers is None or column.kind == "empty":
        order = sorted(range(len(column.levels)), key=lambda i: column.levels[i])
        rank = np.argsort(order) if order else np.zeros(0, dtype=int)
        codes = np.where(column.codes < 0, -1, np.append(rank, -1)[column.codes])
        return Labels("class", column.missing, codes, [column.levels[i] for i in order])
    known = column.numbers[~column.missing]
    values_ = np.unique(known)
    whole = bool(np.isfinite(values_).all() and (values_ == np.round(values_)).all())
    few = len(values_) <= FEW_CLASSES if whole else len(values_) <= 2
    if few or (whole and len(values_) <= min(MOST_CLASSES, CLASSES_SHARE * len(known))):
        codes = np.where(column.missing, -1, np.searchsorted(values_, column.numbers))
        return Labels("class", column.missing, codes, [f"{v:g}" for v in values_], column.numbers)
    return Labels("number", column.missing, column.codes, [], column.numbers)


def _series(values: Any, what: str) -> Any:
    if isinstance(values, np.ndarray):
        if values.ndim == 2 and values.shape[1] == 1:
            values = values[:, 0]
        if values.ndim != 1:
            raise InvalidInput(f"{what} of shape {values.shape} came; one label per item, shape (n,), is needed (for one-hot: argmax).")
        return pd.Series(values)
    return pd.Series(list(values), dtype=object)


def missing_labels(context: Context) -> Finding:
    labels = context.need_labels()
    missing = labels.missing
    if missing.any():
        return failed(f"{share(int(missing.sum()), len(missing))} labels are missing.",
                      value=missing.mean(), threshold=0, rows=context.view.at(missing))  # fmt: skip
    return passed(f"All {len(missing):,} labels are there.", value=0, threshold=0)


def class_names(context: Context) -> Finding:
    labels = context.need_labels()
    labels.need_classes()
    variants: dict[str, list[int]] = {}
    for i, name in enumerate(labels.names):
        variants.setdefault(normalised(name), []).append(i)
    clashes = [group for group in variants.values() if len(group) > 1 and not _signs(labels.names[i] for i in group)]
    if clashes:
        named = [[labels.names[i] for i in group] for group in clashes]
        rarer = [i for group in clashes for i in sorted(group, key=lambda i: -labels.sizes[i])[1:]]
        rows = np.isin(labels.codes, rarer)
        message = "Class names differ only in spelling: " + listed(" = ".join(map(repr, group)) for group in named) + "."
        return failed(message, value=len(clashes), threshold=0, rows=context.view.at(rows), evidence={"names": named})
    return passed(f"The {len(labels.names)} class names are all different.", value=0, threshold=0)


def _signs(names: Any) -> bool:
    """Names that are numbers or differ by a sign (+1 and -1, A+ and A-) are different names."""
    import re

    return len({re.sub(r"[\s_]", "", name.casefold()) for name in names}) > 1


def class_balance(context: Context) -> Finding:
    labels = context.need_labels()
    labels.need_classes()
    total = int(labels.sizes.sum())
    if total == 0:
        raise NotRun("Every label is missing.")
    order = np.argsort(-labels.sizes, kind="stable")
    evidence = {"classes": {labels.names[i]: int(labels.sizes[i]) for i in order[:EVIDENCE_SHOWN]}, "number of classes": len(order)}
    if len(order) == 1:
        return failed(
            f"All {total:,} labels are {labels.names[0]!r}: there is nothing to tell apart.", value=0, threshold=BALANCE, evidence=evidence
        )
    least = labels.sizes.min() / total * len(order)
    details: dict[str, Any] = {"value": least, "threshold": BALANCE, "evidence": evidence}
    rare = [i for i in order if labels.sizes[i] / total * len(order) < BALANCE or labels.sizes[i] < CLASS_LEAST]
    if rare:
        shown = listed(f"{labels.names[i]!r} {labels.sizes[i]:,} ({percent(labels.sizes[i] / total)})" for i in rare)
        message = f"{len(rare)} of {len(order)} classes {'is' if len(rare) == 1 else 'are'} rare: {shown}; the largest, "
        message += f"{labels.names[order[0]]!r}, has {labels.sizes[order[0]]:,} of {total:,}."
        return failed(message, rows=context.view.at(np.isin(labels.codes, rare)), columns=[labels.names[i] for i in rare], **details)
    smallest = order[-1]
    message = f"Of {len(order)} classes the smallest, {labels.names[smallest]!r}, has {share(int(labels.sizes[smallest]), total)} labels."
    return passed(message, count=0, **details)


def conflicting_labels(context: Context) -> Finding:
    """Items equal in content and unlike in label."""
    labels = context.need_labels()
    labels.need_classes()
    view = context.view
    usable = ~labels.missing & ~view.blank
    content = view.content
    kinds = len(labels.names)
    each = np.unique(content[usable].astype(np.int64) * kinds + labels.codes[usable])  # one number for a content with a label
    contested = np.flatnonzero(np.bincount(each // kinds, minlength=content.max(initial=-1) + 1) > 1)
    rows = np.isin(content, contested) & usable
    if not rows.any():
        return passed(f"No two equal {plural(view.noun)} have different labels.", value=0, threshold=0)
    limit = COARSE_CONFLICT if view.chance() >= 1 else 0.0
    size = int(usable.sum())
    pairs, times = np.unique(np.column_stack([content[rows], labels.codes[rows]]), axis=0, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    outvoted = int(times.sum() - np.maximum.reduceat(times, starts).sum())
    groups = []
    for one in contested[:EVIDENCE_SHOWN]:
        members = np.flatnonzero(rows & (content == one))
        groups.append({"rows": view.at(members)[:10], "labels": sorted({labels.names[k] for k in labels.codes[members]})})
    message = f"{share(int(rows.sum()), size)} {plural(view.noun)} equal another that has a different label{view.aside}; "
    message += f"on {outvoted:,} of them any model must be wrong."
    details: dict[str, Any] = {"value": rows.sum() / size, "threshold": limit, "rows": view.at(rows), "evidence": {"groups": groups}}
    if rows.sum() / size > limit:
        return failed(message, **details)
    return passed(message + " The columns are so coarse that equal rows are common; so few conflicts are no sign of an error.", **details)


def group_sizes(context: Context) -> Finding:
    if not context.groups:
        raise NotRun("No groups were given.")
    evidence: dict[str, dict[str, int]] = {}
    small: list[str] = []
    rows = np.zeros(context.view.n, dtype=bool)
    for name, values in context.groups.items():
        known = ~pd.isna(values)  # whose group is not known is in none
        codes, levels = pd.factorize(np.asarray(values[known], dtype=object))
        if not all(isinstance(level, str) for level in levels):  # 1 and "1" are one group
            moved, levels = pd.factorize(np.array([str(level) for level in levels], dtype=object))
            codes = moved[codes]
        sizes = np.bincount(codes, minlength=len(levels))
        order = np.argsort(sizes, kind="stable")
        evidence[name] = {str(levels[i]): int(sizes[i]) for i in order[:EVIDENCE_SHOWN]}
        few = np.flatnonzero(sizes < GROUP_LEAST)
        small += [f"{name} = {levels[i]} ({sizes[i]:,})" for i in few]
        rows[np.flatnonzero(known)[np.isin(codes, few)]] = True
    least = min((min(sizes.values()) for sizes in evidence.values() if sizes), default=0)
    details: dict[str, Any] = {"value": least, "threshold": GROUP_LEAST, "evidence": evidence}
    if small:
        message = f"{count(len(small), 'group')} too small to measure a model on: {listed(small)}."
        return failed(message, rows=context.view.at(rows), columns=list(context.groups), **details)
    return passed(f"The smallest group has {count(least, context.view.noun)}.", **details)


def fits_model(context: Context) -> Finding:
    """Whether the model's columns and the labels' classes are known to both sides."""
    model = context.model
    if model is None:
        raise NotRun("No model was given.")
    problems: list[str] = []
    columns: list[str] = []
    if context.view.modality != model.modality:
        problems.append(f"the data are of modality {context.view.modality}, the model takes {model.modality}")
    elif context.view.modality == "tabular":
        here = {c.name for c in context.view.columns}  # type: ignore[attr-defined]
        columns = [name for name in model.feature_names if name not in here]
        if columns:
            problems.append(f"{count(len(columns), 'column')} the model needs are not in the data ({listed(columns)})")
    labels = context.labels
    strange: list[str] = []
    if labels is not None and model.task == "classification" and labels.kind == "class":
        indices = {str(i) for i in range(len(model.class_names))}
        strange = [name for name in labels.names if name not in model.class_names and name not in indices]
        if strange:
            problems.append(
                f"{len(strange)} labels are no class of the model ({listed(strange)}; it knows {listed(model.class_names, 10)})"
            )
    if problems:
        rows = context.view.at(np.isin(labels.codes, [labels.names.index(s) for s in strange])) if labels is not None and strange else []
        message = "; ".join(problems)
        return failed(f"{message[0].upper()}{message[1:]}.", value=len(problems), threshold=0, rows=rows, columns=columns)
    return passed("The data have what the model needs, and their classes are the model's.", value=0, threshold=0)


CHECKS: tuple[Check, ...] = (
    Check(
        "missing labels",
        MODALITIES,
        missing_labels,
        "Rows without a label silently drop out of training and of every figure.",
        "Label them or leave them out on purpose.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "class names",
        MODALITIES,
        class_names,
        "Two spellings of a class are two classes to a model.",
        "Write each class one way.",
        FIX_CODE,
        streams=True,
    ),
    Check(
        "class balance",
        MODALITIES,
        class_balance,
        "A model can ignore a rare class and still look accurate.",
        "Judge by recall and precision per class; weight or collect more of the rare ones.",
        "from sklearn.utils.class_weight import compute_sample_weight\n\nweights = compute_sample_weight('balanced', labels)",
        streams=True,
    ),
    Check(
        "conflicting labels",
        MODALITIES,
        conflicting_labels,
        "Equal items with different labels: one label is wrong, or what tells them apart is not in the data.",
        "Have these labels checked; add what tells them apart.",
        streams=True,
    ),
    Check(
        "group sizes",
        MODALITIES,
        group_sizes,
        "On a small group, a fair and an unfair model look alike.",
        "Collect more of it, or report its figures with their intervals.",
        streams=True,
    ),
    Check(
        "fits the model",
        MODALITIES,
        fits_model,
        "The model cannot be scored on data built otherwise than what it was trained on.",
        "Add or rename the columns; bring labels to the model's classes.",
        streams=True,
    ),
)
