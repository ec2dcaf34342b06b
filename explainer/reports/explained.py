"""What the explanations of a report say: the importance over many rows, and the cases chosen by rule."""

from __future__ import annotations

from typing import Any

import numpy as np

import explainer
from explainer import inputs as inputs_
from explainer.errors import InvalidInput, Unsupported
from explainer.reports import adverse, attributions, figures
from explainer.reports.material import Material, Progress
from explainer.reports.wording import clean, sentence


def importance(m: Material, progress: Progress) -> dict[str, Any]:
    n = len(m.data)
    known = _explainable(m)
    rows = np.sort(np.random.default_rng(m.seed).choice(known, min(len(known), m.sample), replace=False))
    budget = attributions.BUDGET
    ex = _explain(m, rows, budget=budget, verify=False, progress=progress)
    channels = tuple(m.model.feature_names) if m.model.modality == "series" else ()
    found, mean = attributions.importance(ex, channels, m.seed)
    if mean is not None:
        m.pictures["importance"] = figures.heat_panel(mean, "mean size of the attribution")
    elif found["top"]:
        unit = f"mean size of the {attributions.unit(ex, 'the predicted class')}"
        m.pictures["importance"] = figures.bars([{**row, "label": row["feature"]} for row in found["top"][:15]], unit, signed=False)
    notes = [clean(note) for note in ex.provenance.notes]
    if m.background is not None:
        notes.append(f"The model has no background of its own: an absent column takes the values of {len(m.background)} reference rows.")
    if len(known) < n:
        notes.append(f"{n - len(known)} texts without any word the model knows were left out.")
    return {
        **found,
        "of_rows": n,
        "budget": budget,
        "method": ex.method,
        "output": ex.output,
        "parameters": dict(ex.provenance.parameters),
        "notes": notes,
    }


def _explain(m: Material, rows: np.ndarray, **how: Any) -> Any:
    """Explanations of these rows; what is lacking is said in the words of a report."""
    try:
        return explainer.explain(m.model, inputs_.take(m.data, rows), m.method, background=m.background, seed=m.seed, **how)
    except Unsupported as error:
        if m.model.modality != "tabular" or m.model.background is not None or m.reference is not None:
            raise
        raise Unsupported(f"{error} In a report, a reference set stands in for them: reference= (--reference).") from error


def _explainable(m: Material) -> np.ndarray:
    """Rows that can be explained: a text without one word the model knows cannot."""
    unknown_share = getattr(getattr(m.model, "preprocess", None), "unknown_share", None)
    if m.model.modality != "text" or unknown_share is None:
        return np.arange(len(m.data))
    return np.flatnonzero(np.asarray(unknown_share(m.data)) < 1)


def cases(m: Material, progress: Progress) -> dict[str, Any]:
    if m.cases == 0:
        raise InvalidInput("No explained cases were asked for (cases=0).")
    scores = m.all_scores()
    chosen, without = attributions.choose(scores, m.labels, m.model.task, m.cases, m.favourable)
    against = attributions.adverse(scores, m.model.task, m.favourable)
    rows = np.array([row for row, _ in chosen])
    given, whole = inputs_.take(m.data, rows), 2 if adverse.asked(m) else 1
    ex = _explain(m, rows, verify="full", progress=lambda done, total: progress(done, whole * total))
    names = m.model.class_names
    channels = tuple(m.model.feature_names) if m.model.modality == "series" else ()
    cases, outcomes = [], []
    lacking: dict[tuple[str, str], list[int]] = {}
    for k, (row, rule) in enumerate(chosen):
        one = ex[k]
        found: dict[str, Any] = {"row": row, "rule": rule, "adverse": against is not None and bool(against[row]),
                                 **attributions.case(one, channels)}  # fmt: skip
        if m.model.task == "regression":
            found.update(predicted=float(scores[row, 0]), label=None if m.labels is None else float(m.labels[row]))
        else:
            found.update(predicted=names[int(scores[row].argmax())], probability=float(scores[row].max()),
                         label=None if m.labels is None else names[int(m.labels[row])])  # fmt: skip
        if m.model.modality == "text":
            found["words"] = attributions.words(one, m.data[row])
        picture = given[k] if m.model.modality in ("image", "series") else None
        drawn = attributions.case_figure(one, picture, channels)
        if drawn:
            m.pictures[f"case {row}"] = drawn
        status = found["verdict"]["status"]
        topic = f"Explanation of row {row}"
        if status == "not run":
            lacking.setdefault(("Trust in the explanation", found["verdict"]["reason"]), []).append(row)
        else:
            outcomes.append({"status": status, "topic": topic, "text": found["verdict"]["reason"]})
        for check in found["verdict"]["checks"]:
            if check["status"] == "not run":
                lacking.setdefault((f"Check of explanations: {sentence(check['name'])}", check["reason"]), []).append(row)
        cases.append(found)
    told, unmet = adverse.reasons(m, [c["row"] for c in cases if c["adverse"]], lambda done, total: progress(total + done, 2 * total))
    for found in (c for c in cases if c["row"] in told):
        found["reasons"] = told[found["row"]]
        outcomes.append({"topic": f"Reasons for row {found['row']}", "text": found["reasons"]["verdict"]["reason"],
                         "status": found["reasons"]["verdict"]["status"]})  # fmt: skip
    unmet += [{"topic": f"A case by the rule “{rule}”", "reason": "No row is left that fits it."} for rule in without]
    return {
        "cases": cases,
        "outcomes": outcomes,
        "not_assessed": unmet + [{"topic": topic, "reason": clean(reason)} for topic, reason in lacking],
    }
