"""What figures per group amount to: ratios of selection rates, and gaps in error rates, each with an exact test.

The ratio is the one of the four-fifths rule (29 CFR 1607.4(D)) and of New York City's bias audits (6 RCNY 5-301); both are
measures, and whether they apply is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from explainer.checks.context import chance
from explainer.metrics import Z
from explainer.reports.groups import MISSING, SMALL_BELOW, SMALL_SHARE
from explainer.reports.wording import clean, percent

FOUR_FIFTHS = 0.8
SIGNIFICANCE = 0.05
RATES = {"true_positive": "true positive rate", "false_positive": "false positive rate", "accuracy": "accuracy"}

Table = dict[str, Any]


def _judged(table: Table) -> list[dict[str, Any]]:
    return [row for row in table["groups"] if not row["small"] and row["group"] != MISSING]


def compare(table: Table) -> None:
    """Add each group's ratio to the most selected group judged, and the outcome of the four-fifths rule, to a table with selection.

    Fail: a judged group is under four fifths and the difference is significant; warn: under it, not significant.
    """
    counted = _judged(table)
    if len(counted) < 2:
        least = f"at least {SMALL_BELOW} {table['counted']} and {percent(SMALL_SHARE)} of all"
        reason = f"Fewer than two known groups have {least}; no ratio is judged."
        table.update(best=None, lowest=None, status="not run", reason=reason)
        return
    best = max(counted, key=lambda row: row["selection"])
    for row in table["groups"]:
        if row["group"] != MISSING and not row["suppressed"] and best["selection"] > 0:
            row.update(_ratio(row, best))
    table.update(_judgement(table["attribute"], counted, best, table["counted"]))


def _ratio(row: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    """Ratio of selection rates with its 95 % log interval (Katz et al. 1978) and Fisher's exact two-sided p."""
    ratio = row["selection"] / best["selection"]
    if row is best:
        return {"ratio": 1.0, "ratio_low": None, "ratio_high": None, "p": None}
    p = _fisher(_hits(row, "selection"), _hits(best, "selection"))
    if ratio == 0:
        return {"ratio": ratio, "ratio_low": 0.0, "ratio_high": None, "p": p}
    half = Z * np.sqrt(sum((1 - one["selection"]) / (one["selection"] * _worth(one, "selection")) for one in (row, best)))
    return {"ratio": ratio, "ratio_low": float(ratio * np.exp(-half)), "ratio_high": float(ratio * np.exp(half)), "p": p}


def _hits(row: Mapping[str, Any], rate: str) -> np.ndarray:
    """Rows with and without what the rate counts; where rows of one unit are alike, as many as they are worth (Rao and Scott 1992)."""
    n = round(_worth(row, rate))
    hits = min(max(round(row[rate] * n), int(row[rate] > 0)), n - int(row[rate] < 1))  # what was seen stays seen
    return np.array([hits, n - hits])


def _worth(row: Mapping[str, Any], rate: str) -> float:
    return row.get(f"{rate}_worth", row[f"{rate}_n"])


def _fisher(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import fisher_exact

    return float(fisher_exact([a, b])[1])


def _judgement(name: str, judged: list[dict[str, Any]], best: dict[str, Any], counted: str) -> dict[str, Any]:
    lowest = min(judged, key=lambda row: row["selection"])
    if lowest["selection"] == best["selection"]:
        none = best["selection"] == 0
        said = "none of them receives the favourable outcome, so there is no ratio" if none else f"at {percent(best['selection'])}"
        status = "not run" if none else "pass"
        return {"best": None, "lowest": None, "status": status, "reason": f"All groups of {name} are selected alike: {said}."}
    facts = {"best": best["group"], "lowest": lowest["group"]}
    said = f"{name} “{lowest['group']}” is selected at {lowest['ratio']:.3g} times the rate of “{best['group']}”"
    if lowest["ratio"] >= FOUR_FIFTHS - 1e-12:  # 0.36 / 0.45 is four fifths, whatever the last bit says
        return {**facts, "status": "pass", "reason": f"{said}, at or above four fifths."}
    if lowest["p"] < SIGNIFICANCE:
        reason = f"{said}, under four fifths, and the difference is significant (Fisher's exact {chance(lowest['p'])})."
        return {**facts, "status": "fail", "reason": reason}
    reason = f"{said}, under four fifths; with this many {counted} it may be chance (Fisher's exact {chance(lowest['p'])})."
    return {**facts, "status": "warn", "reason": reason}


def gaps(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Per table, the gap least likely to be chance in error rates: of a judged group against all others, by Fisher's exact test.

    The rates are true and false positives, or accuracy where there are none. p is corrected for all comparisons of all tables
    (Holm 1979); under 0.05 it warns.
    """
    looks = [{"table": k, **look} for k, table in enumerate(tables) for look in _looks(table)]
    for look, corrected in zip(looks, holm([look["p"] for look in looks]), strict=True):
        look["corrected"] = corrected
    return [_gap(table, [look for look in looks if look["table"] == k], len(looks)) for k, table in enumerate(tables)]


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected step down for their number, max over j <= i of min(1, (m - j) p_(j)); Holm 1979."""
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, np.asarray(p, dtype=float)[order] * np.arange(len(p), 0, -1)))
    found = np.empty(len(p))
    found[order] = stepped
    return found.tolist()


def _looks(table: Table) -> list[dict[str, Any]]:
    rows = _judged(table)
    rates = [r for r in ("true_positive", "false_positive") if any(r in row for row in rows)] or ["accuracy"]
    looks = []
    for rate in rates:
        known = [row for row in rows if row.get(rate) is not None]
        for row in known[: 1 if len(known) == 2 else None] if len(known) > 1 else []:
            own, others = _hits(row, rate), np.sum([_hits(other, rate) for other in known if other is not row], axis=0)
            beside = next(other["group"] for other in known if other is not row) if len(known) == 2 else None
            looks.append({"rate": rate, "group": row["group"], "beside": beside, "own": row[rate], "n": row[f"{rate}_n"],
                          **_together(rate, [other for other in known if other is not row]), "p": _fisher(own, others)})  # fmt: skip
    return looks


def _together(rate: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rate of several groups as one, and how many rows it is of."""
    of = sum(row[f"{rate}_n"] for row in rows)
    return {"others": sum(row[rate] * row[f"{rate}_n"] for row in rows) / of, "of": of}


def _gap(table: Table, looks: list[dict[str, Any]], comparisons: int) -> dict[str, Any]:
    topic = f"Error rates by {clean(table['attribute'])}"
    if not looks:
        return {
            "topic": topic,
            "status": "not run",
            "text": f"Fewer than two groups have enough labelled {table['counted']} for a rate to be compared.",
        }
    worst = min(looks, key=lambda look: look["p"])
    other = "the others" if worst["beside"] is None else f"“{worst['beside']}”"
    corrected = f", {chance(worst['corrected'])} corrected for {comparisons} comparisons" if comparisons > 1 else ""
    said = (
        f"{RATES[worst['rate']]} of {table['attribute']} “{worst['group']}” is {percent(worst['own'])} of {worst['n']}, of {other} "
        f"{percent(worst['others'])} of {worst['of']} (Fisher's exact {chance(worst['p'])}{corrected})"
    )
    if worst["corrected"] < SIGNIFICANCE:
        return {"topic": topic, "status": "warn", "text": clean(f"The {said}: more than chance gives.")}
    return {"topic": topic, "status": "pass", "text": clean(f"No gap can be told from chance; the least likely one: {said}.")}
