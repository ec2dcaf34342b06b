"""Whether two sets come from one source: their schema, their distributions, their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from explainer.checks.context import EVIDENCE_SHOWN, Check, Context, NotRun, chance, count, failed, listed, passed
from explainer.checks.documents import DRIFT_WORDS, TextView
from explainer.checks.finding import Finding
from explainer.checks.frame import TableView
from explainer.checks.view import View
from explainer.checks.workers import each
from explainer.inputs import MODALITIES

FALSE_SHARE = 0.01  # Benjamini-Hochberg: of what one check reports, at most this share by chance
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


def adjust(tests: Sequence[dict[str, Any]]) -> None:
    """Write beside the ``"p"`` of each test its ``"adjusted p"``, by Benjamini and Hochberg over them all."""
    for test, p in zip(tests, benjamini_hochberg(np.array([t["p"] for t in tests])), strict=True):
        test["adjusted p"] = float(p)


def significant(tests: list[dict[str, Any]], effect: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Adjust the tests and sort them by ``"effect"``; those below ``FALSE_SHARE``, and of these the ones of at least ``effect``."""
    adjust(tests)
    tests.sort(key=lambda t: -t["effect"])
    sure = [t for t in tests if t["adjusted p"] < FALSE_SHARE]
    return sure, [t for t in sure if t["effect"] >= effect]


def compare_numbers(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Kolmogorov-Smirnov: the largest difference of the two distribution functions, and its p-value."""
    from scipy.stats import ks_2samp

    result = ks_2samp(a, b, method="asymp" if min(len(a), len(b)) > 500 else "auto")
    return float(result.statistic), float(result.pvalue)


def compare_counts(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Chi-square of a 2 x k table: total variation distance 1/2 sum |p - q|, and the p-value without continuity correction."""
    from scipy.stats import chi2_contingency

    distance = float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)
    table = pooled(a, b)
    if table.shape[1] < 2:
        return distance, 1.0
    return distance, float(chi2_contingency(table, correction=False).pvalue)


def pooled(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The table ``(2, k)`` of two rows of counts, values too rare for chi-square taken together."""
    table = np.array([a, b], dtype=float)
    expected = table.sum(axis=0) * min(a.sum(), b.sum()) / table.sum()
    rare = expected < EXPECTED_LEAST
    if rare.sum() > 1:
        table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    return table[:, table.sum(axis=0) > 0]


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """First Wasserstein distance of two samples, the integral of |F - G|, over the standard deviation of the second."""
    a, b = np.sort(a[np.isfinite(a)]), np.sort(b[np.isfinite(b)])
    if not len(a) or not len(b):
        return 0.0
    every = np.sort(np.concatenate([a, b]))
    gap = np.searchsorted(a, every[:-1], side="right") / len(a) - np.searchsorted(b, every[:-1], side="right") / len(b)
    spread = float(b.std()) or float(every.std())
    return float((np.abs(gap) * np.diff(every)).sum() / spread) if spread > 0 else 0.0


def jensen_shannon(a: np.ndarray, b: np.ndarray) -> float:
    """Jensen-Shannon distance of two rows of counts, the root of the divergence in bits: 0 to 1 (Endres and Schindelin, 2003)."""
    p, q = a / a.sum(), b / b.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(one > 0, one * np.log2(one / middle), 0.0).sum() for one in (p, q)]
    return float(np.sqrt(max(0.0, sum(terms) / 2)))


def stability(a: np.ndarray, b: np.ndarray) -> float:
    """Population stability index of two rows of counts: sum (p - q) log(p / q), a half counted to each; above 0.25 is held for much."""
    p, q = ((one + 0.5) / (one + 0.5).sum() for one in (a, b))
    return float(((p - q) * np.log(p / q)).sum())


def _in_deciles(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many of ``a`` and of ``b`` lie in each tenth of ``b``."""
    edges = np.unique(np.quantile(b, np.linspace(0.1, 0.9, 9), method="inverted_cdf"))
    first, second = (np.bincount(np.searchsorted(edges, one, side="left"), minlength=len(edges) + 1) for one in (a, b))
    return first, second


def compare(a: pd.Series, b: pd.Series) -> list[dict[str, Any]]:
    """The tests that fit one column of two sets (values, and where any are missing, missingness), measures of size beside them."""
    tests = []
    lost = [int(a.isna().sum()), int(b.isna().sum())]
    if sum(lost):
        sides = [np.array([len(one) - k, k]) for one, k in zip((a, b), lost, strict=True)]
        distance, p = compare_counts(*sides)
        tests.append({"test": "chi-square of missing", "distance": distance, "p": p, **_sizes(*sides)})
    known_a, known_b = a.dropna(), b.dropna()
    if min(len(known_a), len(known_b)) < LEAST:
        return tests
    numeric = not isinstance(a.dtype, pd.CategoricalDtype) and not isinstance(b.dtype, pd.CategoricalDtype)
    left, right = ((one.to_numpy(dtype=float), None) if numeric else _coded(one) for one in (known_a, known_b))
    if numeric and len(np.unique(np.concatenate([left[0], right[0]]))) > FEW_VALUES:
        distance, p = compare_numbers(left[0], right[0])
        sizes = {"Wasserstein / spread": wasserstein(left[0], right[0]), **_sizes(*_in_deciles(left[0], right[0]))}
        return [*tests, {"test": "Kolmogorov-Smirnov", "distance": distance, "p": p, **sizes}]
    if numeric:
        places, levels = pd.factorize(np.concatenate([left[0], right[0]]))
        codes = [places[: len(known_a)], places[len(known_a) :]]
    else:
        places, levels = pd.factorize(np.concatenate([left[1], right[1]]))  # type: ignore[list-item]
        codes = [places[: len(left[1])][left[0]], places[len(left[1]) :][right[0]]]  # type: ignore[arg-type]
    sides = [np.bincount(one, minlength=len(levels)) for one in codes]
    distance, p = compare_counts(*sides)
    new = [str(levels[k]) for k in np.flatnonzero((sides[0] > 0) & (sides[1] == 0))[:10]]
    shares = sides[0] / sides[0].sum() - sides[1] / sides[1].sum()
    found = {"test": "chi-square", "distance": distance, "p": p, **_sizes(*pooled(*sides)), "not in the reference": new}
    return [*tests, {**found, "most changed": str(levels[np.abs(shares).argmax()])}]


def _sizes(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    return {"Jensen-Shannon": jensen_shannon(a, b), "PSI": stability(a, b)}


def _coded(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Codes into the distinct values, these as plain strings (pandas' own cannot hold every one)."""
    codes, levels = (
        (values.cat.codes.to_numpy(), values.cat.categories) if isinstance(values.dtype, pd.CategoricalDtype) else pd.factorize(values)
    )
    return codes, np.array([str(level) for level in levels], dtype=object)


def drift(context: Context) -> Finding:
    """Columns (or summary figures, or words) that differ between the data and the reference beyond chance and by enough to matter."""
    reference = context.need_reference()
    if min(context.view.n, reference.n) < LEAST:
        raise NotRun(f"{context.view.n:,} and {reference.n:,} items came; at least {LEAST} on each side are needed.")
    here, there = features(context.view, reference)
    pairs = [(str(name), here[name], there[name]) for name in here.columns]
    found = each(lambda pair: [{"column": pair[0], **t} for t in compare(pair[1], pair[2])], pairs, max(len(here), len(there)))
    tests: list[dict[str, Any]] = [t for one in found for t in one]
    if not tests:
        raise NotRun("The two sets have no column in common that can be compared.")
    adjust(tests)
    moved = sorted((t for t in tests if t["adjusted p"] < FALSE_SHARE and t["distance"] >= EFFECT), key=lambda t: -t["distance"])
    most = max(tests, key=lambda t: t["distance"] * (t["adjusted p"] < FALSE_SHARE))
    value = most["distance"] if most["adjusted p"] < FALSE_SHARE else 0.0
    tests.sort(key=lambda t: -t["distance"])
    evidence = {"columns": (moved or tests)[:EVIDENCE_SHOWN]}
    details: dict[str, Any] = {"value": value, "threshold": EFFECT, "p": most["adjusted p"], "evidence": evidence}
    things = "column" if context.view.modality == "tabular" else "figure"
    if moved:
        names = list(dict.fromkeys(t["column"] for t in moved))
        shown = listed(f"{t['column']!r} ({'missing, ' if 'missing' in t['test'] else ''}by {t['distance']:.2f})" for t in moved)
        message = f"{len(names)} of {count(here.shape[1], things)} differ from the reference set: {shown}."
        return failed(message, columns=names, count=len(names), **details)
    slight = sum(t["adjusted p"] < FALSE_SHARE for t in tests)
    note = f" ({slight} differ beyond chance, none by {EFFECT:g})" if slight else ""
    return passed(f"None of {count(here.shape[1], things)} differs from the reference set{note}.", **details)


def features(view: View, reference: View) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The figures both sets have, one column each under the same names; of texts, the commonest words too."""
    here, there = view.summary, reference.summary
    if isinstance(view, TableView) and isinstance(reference, TableView):
        named = {c.name for table in (view, reference) for c in table.columns if table.identifier(c)}  # these differ by their nature
        names = [n for n in here.columns if n in there.columns and n not in named]
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
    details: dict[str, Any] = {"value": test["distance"], "threshold": EFFECT, "p": test["p"], "evidence": test}
    if test["p"] < FALSE_SHARE and test["distance"] >= EFFECT:
        most = f", most in {test['most changed']!r}" if test.get("most changed") else ""
        return failed(f"The labels differ from the reference set's by {test['distance']:.2f}{most} ({chance(test['p'])}).", **details)
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
        streams=True,
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
        "shares = reference_labels.value_counts(normalize=True) / labels.value_counts(normalize=True)\nweights = labels.map(shares)",
        streams=True,
    ),
)
