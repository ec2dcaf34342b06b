"""Principal reasons of the adverse decisions among a report's cases, where its profile asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import explainer
from explainer import inputs as inputs_
from explainer.errors import Cancelled, ExplainerError
from explainer.reports.material import Material, Progress
from explainer.reports.wording import clean

if TYPE_CHECKING:
    from explainer.inspection.notices import Case, Reasons

KIND = "reasons"  # of evidence, in the rule packs
_TOPIC = "Principal reasons of adverse decisions"
_COMMAND = "They can be had for any row by: explainer reasons MODEL INPUT --target CLASS."


def asked(m: Material) -> bool:
    """Whether a requirement of the profile asks for principal reasons."""
    return any(KIND in r["evidence"] for pack in m.profile["packs"].values() for r in pack["requirements"])


def reasons(m: Material, rows: list[int], progress: Progress) -> tuple[dict[int, dict[str, Any]], list[dict[str, str]]]:
    """Per row its reasons against all applicants (the reference set, else the model's background), and what is not assessed."""
    if not asked(m):
        return {}, []
    if not rows:
        why = "No adverse decision is among the explained cases" + ("." if m.favourable is not None else ": no favourable class is named.")
        return {}, [{"topic": _TOPIC, "reason": f"{why} {_COMMAND}"}]
    try:
        found = explainer.reason_codes(
            m.model, inputs_.take(m.data, np.array(rows)), target=m.favourable, applicants=m.reference, seed=m.seed,
            method="shap" if m.method == "auto" else m.method, progress=progress,
        )  # fmt: skip
    except Cancelled:
        raise
    except ExplainerError as error:
        return {}, [{"topic": _TOPIC, "reason": clean(error)}]
    return {row: _told(found, case) for row, case in zip(rows, found, strict=True)}, []


def _told(found: Reasons, case: Case) -> dict[str, Any]:
    return {
        "against": found.described, "base": found.base, "cutoff": found.cutoff, "score": case.score, "why_none": clean(case.why_none),
        "reasons": [
            {"text": clean(r.text), "value": r.value, "low": r.low, "high": r.high, "distinguishable": r.distinguishable,
             "facts": [clean(fact) for fact in r.facts]}
            for r in case.reasons
        ],
        "verdict": {"status": case.verdict.status, "reason": clean(case.verdict.reason)},
    }  # fmt: skip
