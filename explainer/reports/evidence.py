"""The evidence of a report: one plain dictionary, computed section by section; a section that fails says why and stays listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import explainer
from explainer import inputs as inputs_
from explainer.checks.finding import Finding
from explainer.errors import Cancelled, ExplainerError, InvalidInput
from explainer.explanation import versions
from explainer.model import Model
from explainer.reports import attributions, figures, forms, groups, judgements, performance, profiles, profiling
from explainer.reports.wording import clean

SCHEMA = 1
TITLES = {
    "identity": "Identity and hashes",
    "data": "Data",
    "checks": "Data checks",
    "performance": "Performance and calibration",
    "groups": "Figures per protected group",
    "importance": "What drives the model overall",
    "cases": "Explained cases",
    "card": "Model card and training record",
}
# What no part of this toolkit's report looks at, whatever it is given.
NEVER = (
    ("Robustness to noise and corruption", "The inputs are scored as they are; nothing is disturbed on purpose."),
    ("Attacks on the model or on privacy", "No adversarial input, extraction or membership inference is tried."),
    ("Behaviour in use", "Only the data given here are assessed, not what happens after deployment."),
    ("What would have changed an outcome", "No counterfactual is computed."),
    ("Cause and effect", "Attributions say what the model used, not what causes the outcome in the world."),
    ("Truth of the labels", "Labels are taken as given, apart from the data checks listed."),
    ("Purpose, oversight and lawfulness", "Whether the use is fit, supervised and lawful is for people to decide."),
)


@dataclass
class Material:
    """All that was given to an audit, checked and in canonical form."""

    model: Model
    data: Any
    labels: np.ndarray | None
    groups: Any
    reference: Any
    reference_labels: np.ndarray | None
    method: str
    seed: int
    cases: int
    sample: int
    favourable: int | None
    favourable_stated: bool
    card: str | None
    record: Mapping[str, Any] | None
    name: str
    date: str
    profile: Mapping[str, Any]
    formats: tuple[str, ...]
    scores: np.ndarray | None = None
    pictures: dict[str, str] = field(default_factory=dict)


Progress = Callable[[int, int], None]
# Section and its share of the work, for the progress bar.
_STEPS = (("identity", 3), ("data", 3), ("checks", 14), ("performance", 15), ("groups", 5), ("importance", 35), ("cases", 15), ("card", 0))


def assemble(material: Material, progress: Progress) -> dict[str, Any]:
    """Compute every section. Raises Cancelled only; whatever else goes wrong in a section is written in its place."""
    sections: dict[str, Any] = {}
    outcomes: list[dict[str, str]] = []
    whole: list[dict[str, str]] = []
    partly: list[dict[str, str]] = []
    makers = {"identity": _identity, "data": _data, "checks": _checks, "performance": _performance, "groups": _groups,
              "importance": _importance, "cases": _cases, "card": _card}  # fmt: skip
    done = 0
    for name, share in _STEPS:
        progress(done, 100)
        found = _attempt(lambda name=name, at=done, share=share: makers[name](material, _within(progress, at, share)))  # type: ignore[misc]
        sections[name] = {"title": TITLES[name], **found}
        outcomes += [{"section": name, **o} for o in found.pop("outcomes", [])]
        sections[name].pop("outcomes", None)
        partly += sections[name].pop("not_assessed", [])
        if not found["assessed"]:
            whole.append({"topic": TITLES[name], "reason": found["reason"]})
        done += share
    progress(done, 100)
    answered = _answered(sections)
    return plain(
        {
            "schema": SCHEMA,
            "kind": forms.KIND,
            "name": material.name,
            "date": material.date,
            "profile": {k: material.profile[k] for k in ("name", "title", "version", "verified")},
            "toolkit": versions()["explainer-toolkit"],
            "inputs": sections["identity"].get("hashes", {}),
            "settings": {
                "method": material.method,
                "seed": material.seed,
                "cases": material.cases,
                "sample": material.sample,
                "formats": material.formats,
            },
            "drawing": forms.drawing(),
            "figures": material.pictures,
            "sections": sections,
            "outcomes": outcomes,
            "not_assessed": whole + partly + [{"topic": topic, "reason": reason} for topic, reason in NEVER],
            "requirements": profiles.answers(material.profile, answered),
            "packs": {
                n: {k: str(p[k]) for k in ("instrument", "note", "effective") if p.get(k)} for n, p in material.profile["packs"].items()
            },
        }
    )


def _within(progress: Progress, start: int, share: int) -> Progress:
    return lambda done, total: progress(start + int(share * min(1.0, done / total)) if total else start, 100)


def _attempt(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"assessed": True, "reason": "", **make()}
    except Cancelled:
        raise
    except ExplainerError as error:
        return {"assessed": False, "reason": clean(error)}
    except Exception as error:  # a defect in one part must not cost the reader the others; it is listed, not hidden
        return {"assessed": False, "reason": clean(f"This part broke: {type(error).__name__}: {error}")[:400]}


def _answered(sections: Mapping[str, Any]) -> dict[str, bool]:
    """Which kinds of evidence exist: the sections, and among the checks those on overlap and drift."""
    ran = [f["check"] for f in sections["checks"].get("findings", []) if f["state"] in ("pass", "fail")]
    have = {name: bool(section["assessed"]) for name, section in sections.items()}
    return {**have, "overlap": any("overlap" in c.lower() for c in ran), "drift": any("drift" in c.lower() for c in ran)}


def hashes(model: Model, data: Any, labels: Any, groups_frame: Any = None, reference: Any = None, reference_labels: Any = None,
           card: str | None = None, record: Mapping[str, Any] | None = None) -> dict[str, str]:  # fmt: skip
    """sha256 of everything a report rests on; what was not given is left out."""
    found = {"model": model.fingerprint(), "data": inputs_.sha256(data)}
    for name, array in (("labels", labels), ("reference labels", reference_labels)):
        if array is not None:
            found[name] = labels_sha256(array)
    for name, given in (("groups", groups_frame), ("reference", reference)):
        if given is not None:
            found[name] = inputs_.sha256(given)
    if card is not None:
        found["card"] = hashlib.sha256(card.encode()).hexdigest()
    if record is not None:
        found["record"] = hashlib.sha256(json.dumps(plain(record), sort_keys=True).encode()).hexdigest()
    return found


def labels_sha256(labels: np.ndarray) -> str:
    """A digest of labels as read: class indices or numbers."""
    return hashlib.sha256(np.ascontiguousarray(labels).astype("<f8").tobytes()).hexdigest()


def _identity(m: Material, _progress: Progress) -> dict[str, Any]:
    packages = {"torch": ("torch", "captum"), "sklearn": ("scikit-learn",)}.get(m.model.framework, ())
    blind = [{"topic": "Identity of what the function closes over",
              "reason": "The model is a plain function; its sha256 covers the code, not the objects that the code uses."}]  # fmt: skip
    return {
        "not_assessed": blind if m.model.framework == "function" else [],
        "model": {"name": m.model.name, "framework": m.model.framework, "kind": m.model.modality, "task": m.model.task,
                  "outputs": list(m.model.class_names), "features": len(m.model.feature_names), "device": str(m.model.device)},
        "hashes": hashes(m.model, m.data, m.labels, m.groups, m.reference, m.reference_labels, m.card, m.record),
        "versions": versions(*dict.fromkeys((*packages, "pandas", "scipy", "shap", "typst"))),
        "seed": m.seed,
    }  # fmt: skip


def _data(m: Material, _progress: Progress) -> dict[str, Any]:
    found = profiling.profile_data(m.data, m.model.modality, m.labels, m.model.class_names, m.model.task)
    if m.reference is not None:
        found["reference_rows"] = len(m.reference)
        return found
    return {**found, "not_assessed": [{"topic": "Independence from the training data",
                                       "reason": "No reference set was given, so overlap and drift against it are unknown."}]}  # fmt: skip


def _checks(m: Material, progress: Progress) -> dict[str, Any]:
    coarse = None if m.groups is None else groups.coarse(m.groups)
    findings = explainer.check(
        m.data, _named_labels(m, m.labels), modality=m.model.modality, model=m.model, reference=m.reference,
        reference_labels=_named_labels(m, m.reference_labels), groups=coarse, progress=progress,
    )  # fmt: skip
    rows = [_finding(f) for f in findings]
    return {
        "findings": rows,
        "counts": dict(findings.counts),
        "outcomes": [{"status": f["state"], "topic": _sentence(f["check"]), "text": f["message"]} for f in rows if f["state"] != "not run"],
        "not_assessed": [
            {"topic": f"Data check: {_sentence(f['check'])}", "reason": f["message"].removeprefix("Not run: ")}
            for f in rows
            if f["state"] == "not run"
        ],
    }


def _finding(f: Finding) -> dict[str, Any]:
    """A finding as evidence: its figures whole, of its places the first ten."""
    return {
        "check": f.check, "state": f.state, "message": clean(f.message), "value": f.value, "threshold": f.threshold, "p": f.p,
        "interval": None if f.interval is None else list(f.interval), "count": f.count, "rows": list(f.rows[:10]),
        "files": [clean(name) for name in f.files[:10]], "columns": [clean(c) for c in f.columns[:20]], "why": clean(f.why),
        "advice": clean(f.advice),
    }  # fmt: skip


def _named_labels(m: Material, labels: np.ndarray | None) -> np.ndarray | None:
    """Labels by name, so that findings speak of classes as people do."""
    return labels if labels is None or m.model.task == "regression" else np.array(m.model.class_names, dtype=object)[labels]


def _sentence(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def scores_of(m: Material) -> np.ndarray:
    """Scores of all rows, computed once per audit, in batches."""
    if m.scores is None:
        parts = [m.model.scores(inputs_.take(m.data, slice(i, i + 512))) for i in range(0, len(m.data), 512)]
        m.scores = np.concatenate(parts)
    return m.scores


def _performance(m: Material, _progress: Progress) -> dict[str, Any]:
    if m.labels is None:
        raise InvalidInput("No labels were given; performance cannot be measured without them.")
    scores = scores_of(m)
    if m.model.task == "regression":
        found = performance.regression(m.labels, scores[:, 0], m.seed)
        m.pictures["residuals"] = figures.residuals(found["bins"])
        return {**found, "outcomes": [judgements.regression(found)]}
    found = performance.classification(m.labels, scores, m.model.class_names, m.seed)
    bins = found["calibration"]
    m.pictures["reliability"] = figures.reliability(bins["bins"], bins["of"], bins["observed"])
    if len(m.model.class_names) <= 12:
        m.pictures["confusion"] = figures.confusion(found["confusion"], m.model.class_names)
    return {**found, "outcomes": [judgements.skill(found), judgements.calibrated(found)]}


def _groups(m: Material, _progress: Progress) -> dict[str, Any]:
    if m.groups is None:
        raise InvalidInput("No protected attributes were named, so nothing is known about how the model treats groups.")
    scores = scores_of(m)
    names = m.model.class_names
    if m.model.task == "regression":
        selected = scores[:, 0] > np.median(scores[:, 0])
        error = None if m.labels is None else np.abs(scores[:, 0] - m.labels)
        tables = groups.by_group(m.groups, selected, None, None, error)
        what: str | None = "a prediction above the median (scoring rate)"
    else:
        predicted = scores.argmax(1)
        right = None if m.labels is None else predicted == m.labels
        selected = None if m.favourable is None else predicted == m.favourable
        good = None if m.favourable is None or m.labels is None else m.labels == m.favourable
        tables = groups.by_group(m.groups, selected, good, right, None)
        what = None if m.favourable is None else f"prediction {names[m.favourable]!r}"
    named = [(f"Selection rates by {clean(t['attribute'])}", t) for t in tables]
    return {
        "tables": tables,
        "selection": what,
        "assumed": what is not None and m.model.task != "regression" and not m.favourable_stated,
        "rules": {"four_fifths": groups.FOUR_FIFTHS, "small_below": groups.SMALL_BELOW, "small_share": groups.SMALL_SHARE,
                  "suppressed_below": groups.SUPPRESSED_BELOW, "significance": groups.SIGNIFICANCE},
        "outcomes": [{"status": t["status"], "topic": topic, "text": clean(t["reason"])} for topic, t in named if t["status"] != "not run"],
        "not_assessed": [{"topic": topic, "reason": t["reason"]} for topic, t in named if t["status"] == "not run"],
    }  # fmt: skip


def _importance(m: Material, progress: Progress) -> dict[str, Any]:
    n = len(m.data)
    known = _explainable(m)
    rows = np.sort(np.random.default_rng(m.seed).choice(known, min(len(known), m.sample), replace=False))
    budget = attributions.BUDGET
    ex = explainer.explain(m.model, inputs_.take(m.data, rows), m.method, budget=budget, seed=m.seed, verify=False, progress=progress)
    channels = tuple(m.model.feature_names) if m.model.modality == "series" else ()
    found, mean = attributions.importance(ex, channels, m.seed)
    if mean is not None:
        m.pictures["importance"] = figures.heat_panel(mean, "mean size of the attribution")
    elif found["top"]:
        unit = f"mean size of the {attributions.unit(ex, 'the predicted class')}"
        m.pictures["importance"] = figures.bars([{**row, "label": row["feature"]} for row in found["top"][:15]], unit, signed=False)
    notes = [clean(note) for note in ex.provenance.notes]
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


def _explainable(m: Material) -> np.ndarray:
    """Rows that can be explained: a text without one word the model knows cannot."""
    unknown_share = getattr(getattr(m.model, "preprocess", None), "unknown_share", None)
    if m.model.modality != "text" or unknown_share is None:
        return np.arange(len(m.data))
    return np.flatnonzero(np.asarray(unknown_share(m.data)) < 1)


def _cases(m: Material, progress: Progress) -> dict[str, Any]:
    if m.cases == 0:
        raise InvalidInput("No explained cases were asked for (cases=0).")
    scores = scores_of(m)
    chosen, without = attributions.choose(scores, m.labels, m.model.task, m.cases)
    given = inputs_.take(m.data, np.array([row for row, _ in chosen]))
    ex = explainer.explain(m.model, given, m.method, seed=m.seed, verify="full", progress=progress)
    names = m.model.class_names
    channels = tuple(m.model.feature_names) if m.model.modality == "series" else ()
    cases, outcomes = [], []
    lacking: dict[tuple[str, str], list[int]] = {}
    for k, (row, rule) in enumerate(chosen):
        one = ex[k]
        found: dict[str, Any] = {"row": row, "rule": rule, **attributions.case(one, channels)}
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
                lacking.setdefault((f"Check of explanations: {_sentence(check['name'])}", check["reason"]), []).append(row)
        cases.append(found)
    unmet = [{"topic": f"A case by the rule “{rule}”", "reason": "No row is left that fits it."} for rule in without]
    return {
        "cases": cases,
        "outcomes": outcomes,
        "not_assessed": unmet + [{"topic": topic, "reason": clean(reason)} for topic, reason in lacking],
    }


def _card(m: Material, _progress: Progress) -> dict[str, Any]:
    if m.card is None and m.record is None:
        raise InvalidInput("Neither a model card nor a training record was given; purpose, origin of the data and training are unknown.")
    return {"card": m.card, "record": None if m.record is None else dict(m.record)}


def plain(value: Any) -> Any:
    """JSON-able copy: numpy to Python, NaN to null, numbers to six significant digits, so that the last bit of a sum never matters."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist()) if value.size <= 200 else f"array of shape {value.shape}"
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value) if abs(int(value)) < 2**53 else str(value)
    if isinstance(value, (float, np.floating)):
        return float(f"{float(value):.6g}") if np.isfinite(value) else None
    if value is None or isinstance(value, str):
        return None if value is None else clean_lines(value)
    return clean(value)


def clean_lines(text: str) -> str:
    """As ``clean``, line by line: a model card keeps its lines."""
    return "\n".join(clean(line) for line in text.replace("\r\n", "\n").split("\n"))
