"""Whether two sets come from one source: their schema, their distributions, their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, count, failed, listed, passed
from explainer.checks.documents import DRIFT_WORDS, TextView
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.view import View
from explainer.inputs import MODALITIES

FALSE_SHARE = 0.01  # Benjamini-Hochberg: of the columns said to differ, at most this share by chance
EFFECT = 0.10  # and a tenth of the rows would have to change for the two to agree, however sure the difference
LEAST = 30  # rows on each side
FEW_VALUES = 10  # a number with no more values than this is compared value by value
EXPECTED_LEAST = 5.0  # chi-square holds where every expected count is at least this; rarer values are pooled


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values: min over later ranks of p m / rank (Benjamini and Hochberg, 1995)."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p)[order] * len(p) / np.arange(1, len(p) + 1)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.minimum.accumulate(scaled[::-1])[::-1])
    return adjusted


def compare_numbers(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest difference of the two distribution functions, and its p-value."""
    from scipy.stats import ks_2samp

    result = ks_2samp(a, b, method="asymp" if min(len(a), len(b)) > 500 else "auto")
    return float(result.statistic), float(result.pvalue)


def compare_counts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Chi-square of a 2 x k table: total variation distance 1/2 sum |p - q|, and the p-value without continuity correction."""
    from scipy.stats import chi2_contingency

    distance = float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    table = np.array([a, b], dtype=float)
    expected = table.sum(axis=0) * min(a.sum(), b.sum()) / table.sum()
    rare = expected < EXPECTED_LEAST
    if rare.sum() > 1:
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return distance, 1.0
    return distance, float(chi2_contingency(table, correction=False).pvalue)


def compare(a: pd.Series, b: pd.Series) -> list[dict[str, Any]]:
    """The tests that fit one column of two sets: values, and where any are missing, missingness."""
    tests = []
    lost = [int(a.isna().sum()), int(b.isna().sum())]
    if sum(lost):
        distance, p = compare_counts(np.array([len(a) - lost[0], lost[0]]), np.array([len(b) - lost[1], lost[1]]))
        tests.append({"test": "chi-square of missing", "distance": distance, "p": p})
    known_a, known_b = a.dropna(), b.dropna()
    if min(len(known_a), len(known_b)) < LEAST:
        return tests
    numeric = not isinstance(a.dtype, pd.CategoricalDtype) and not isinstance(b.dtype, pd.CategoricalDtype)
    if numeric and len(np.unique(np.concatenate([known_a, known_b]))) > FEW_VALUES:
        distance, p = compare_numbers(known_a.to_numpy(dtype=float), known_b.to_numpy(dtype=float))
        return [*tests, {"test": "Kolmogorov-Smirnov", "distance": distance, "p": p}]
    left, right = ((one.to_numpy(dtype=float) if numeric else _written(one)) for one in (known_a, known_b))
    codes, levels = pd.factorize(np.concatenate([left, right]))
    sides = [np.bincount(part, minlength=len(levels)) for part in (codes[: len(left)], codes[len(left) :])]
    distance, p = compare_counts(*sides)
    new = [str(level) for level, x, y in zip(levels, *sides, strict=True) if x and not y]
    shares = sides[0] / sides[0].sum() - sides[1] / sides[1].sum()
    return [
        *tests,
        {
            "test": "chi-square",
            "distance": distance,
            "p": p,
            "not in the reference": new[:10],
            "most changed": str(levels[np.abs(shares).argmax()]),
        },
    ]


def _written(values: pd.Series) -> np.ndarray:
    """Values as plain strings (pandas' own cannot hold every one)."""
    return np.array([str(v) for v in values.tolist()], dtype=object)


def drift(context: Context) -> Finding:
    """Columns (or summary figures, or words) that differ between the data and the reference beyond chance and by enough to matter."""
    reference = context.need_reference()
    if min(context.view.n, reference.n) < LEAST:
        raise NotRun(f"{context.view.n:,} and {reference.n:,} items came; at least {LEAST} on each side are needed.")
    here, there = _features(context.view, reference)
    tests: list[dict[str, Any]] = []
    for name in here.columns:
        tests += [{"column": str(name), **t} for t in compare(here[name], there[name])]
    if not tests:
        raise NotRun("The two sets have no column in common that can be compared.")
    sure = benjamini_hochberg(np.array([t["p"] for t in tests]))
    for test, adjusted in zip(tests, sure, strict=True):
        test["adjusted p"] = float(adjusted)
    moved = sorted((t for t in tests if t["adjusted p"] < FALSE_SHARE and t["distance"] >= EFFECT), key=lambda t: -t["distance"])
    most = max(tests, key=lambda t: t["distance"] * (t["adjusted p"] < FALSE_SHARE))
    value = most["distance"] if most["adjusted p"] < FALSE_SHARE else 0.0
    tests.sort(key=lambda t: -t["distance"])
    details: dict[str, Any] = {"value": value, "threshold": EFFECT, "evidence": {"columns": (moved or tests)[:EVIDENCE_SHOWN]}}
    things = "column" if context.view.modality == "tabular" else "figure"
    if moved:
        names = list(dict.fromkeys(t["column"] for t in moved))
        shown = listed(f"{t['column']!r} ({'missing, ' if 'missing' in t['test'] else ''}by {t['distance']:.2f})" for t in moved)
        message = f"{len(names)} of {count(here.shape[1], things)} differ from the reference set: {shown}."
        return failed(message, columns=names, count=len(names), **details)
    slight = sum(t["adjusted p"] < FALSE_SHARE for t in tests)
    note = f" ({slight} differ beyond chance, none by {EFFECT:g})" if slight else ""
    return passed(f"None of {count(here.shape[1], things)} differs from the reference set{note}.", **details)


def _features(view: View, reference: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    here, there = view.summary, reference.summary
    if isinstance(view, TableView) and isinstance(reference, TableView):
        names = [n for n in here.columns if n in there.columns and not _named(view, n) and not _named(reference, n)]
        return here[names], there[names]
    if isinstance(view, TextView) and isinstance(reference, TextView):
        together = view.frequency + reference.frequency
        words = [w for w, _ in together.most_common(DRIFT_WORDS)]
        tell = [f"word {w}" for w in words]
        frames = [v.summary.drop(columns="share of words in no other text") for v in (view, reference)]
        marks = [pd.DataFrame(v.presence(words).toarray(), columns=tell).astype(float) for v in (view, reference)]
        return pd.concat([frames[0], marks[0]], axis=1), pd.concat([frames[1], marks[1]], axis=1)
    names = [n for n in here.columns if n in there.columns]
    return here[names], there[names]


def _named(view: TableView, name: str) -> bool:
    """An identifier differs between two sets by its nature."""
    return any(c.name == name and view.identifier(c) for c in view.columns)


def label_drift(context: Context) -> Finding:
    labels = context.need_labels()
    context.need_reference()
    reference = context.reference_labels
    if reference is None:
        raise NotRun("No labels were given for the reference set.")
    sides = []
    for one in (labels, reference):
        if min(int((~one.missing).sum()), 10**9) < LEAST:
            raise NotRun(f"At least {LEAST} labels on each side are needed.")
        if labels.kind == "number":
            if one.numbers is None:
                raise NotRun("The labels of one set are numbers, those of the other names.")
            sides.append(pd.Series(one.numbers))
        else:
            names = one.names or [f"{v:g}" for v in np.unique(one.numbers[~one.missing])]  # type: ignore[index]
            codes = np.where(one.missing, -1, one.codes)
            sides.append(pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))))
    tests = [t for t in compare(*sides) if "missing" not in t["test"]]
    if not tests:
        raise NotRun("The labels cannot be compared.")
    test = tests[-1]
    details: dict[str, Any] = {"value": test["distance"], "threshold": EFFECT, "evidence": test}
    if test["p"] < FALSE_SHARE and test["distance"] >= EFFECT:
        most = f", most in {test['most changed']!r}" if test.get("most changed") else ""
        return failed(f"The labels differ from the reference set's by {test['distance']:.2f}{most} (p = {test['p']:.2g}).", **details)
    return passed(f"The labels are spread as in the reference set (difference {test['distance']:.3f}).", **details)


def schema(context: Context) -> Finding:
    """Columns missing, new or of another type; images, series of another shape."""
    view, reference = context.view, context.need_reference()
    problems: list[str] = []
    columns: list[str] = []
    if isinstance(view, TableView) and isinstance(reference, TableView):
        here, there = ({c.name: c.kind for c in v.columns} for v in (view, reference))
        lost, new = [n for n in there if n not in here], [n for n in here if n not in there]
        other = [n for n in here if n in there and here[n] != there[n] and "empty" not in (here[n], there[n])]
        other = [n for n in other if {here[n], there[n]} != {"text", "category"}]
        problems += [f"{count(len(lost), 'column')} of the reference set missing ({listed(lost)})"] if lost else []
        problems += [f"{count(len(new), 'column')} not in the reference set ({listed(new)})"] if new else []
        problems += [f"another type in {listed(f'{n!r} ({there[n]} to {here[n]})' for n in other)}"] if other else []
        columns = [*lost, *new, *other]
    elif view.modality == "image" and view.n and reference.n:
        here_, there_ = ({i.shape for i in v.images} for v in (view, reference))  # type: ignore[attr-defined]
        tops = [float(max(np.nanmax(i) for i in v.images[:200])) for v in (view, reference)]  # type: ignore[attr-defined]
        if not here_ & there_:
            problems.append(f"images of {listed(sorted(here_))}, where the reference set has {listed(sorted(there_))}")
        if max(tops) > 8 * max(min(tops), 1e-9):
            problems.append(f"values up to {tops[0]:.3g}, where the reference set's reach {tops[1]:.3g}")
    elif view.modality == "series" and view.channels != reference.channels:  # type: ignore[attr-defined]
        problems.append(f"{view.channels} channels, where the reference set has {reference.channels}")  # type: ignore[attr-defined]
    if problems:
        return failed(f"The data are built otherwise than the reference set: {'; '.join(problems)}.",
                      value=len(problems), threshold=0, columns=columns, count=max(len(columns), len(problems)))  # fmt: skip
    return passed("The data are built as the reference set is.", value=0, threshold=0)


CHECKS: tuple[Check, ...] = (
    Check(
        "schema",
        ("tabular", "image", "series"),
        schema,
        "What is built otherwise is misread or refused.",
        "Bring the data to the reference set's form.",
    ),
    Check(
        "drift",
        MODALITIES,
        drift,
        "A model is only known to work on data like those it was tested on.",
        "Find what changed (source, time, unit); retrain or re-test on data like these.",
    ),
    Check(
        "label drift",
        MODALITIES,
        label_drift,
        "With other class shares, thresholds and calibration no longer hold.",
        "Recalibrate, or re-weight the figures to the new shares.",
    ),
)
