"""The evidence of a report: one plain dictionary, computed section by section; a section that fails says why and stays listed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

import explainer
from explainer import inputs as inputs_
from explainer.checks.finding import Finding
from explainer.errors import Cancelled, ExplainerError, InvalidInput
from explainer.explanation import versions
from explainer.reports import explained, fairness, figures, forms, groups, judgements, performance, profiles, profiling
from explainer.reports.material import Material, Progress
from explainer.reports.wording import clean, sentence

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


# Section and its share of the work, for the progress bar.
_STEPS = (("identity", 3), ("data", 3), ("checks", 14), ("performance", 15), ("groups", 5), ("importance", 35), ("cases", 15), ("card", 0))


def assemble(material: Material, progress: Progress) -> dict[str, Any]:
    """Compute every section. Raises Cancelled only; whatever else goes wrong in a section is written in its place."""
    sections: dict[str, Any] = {}
    outcomes: list[dict[str, str]] = []
    whole: list[dict[str, str]] = []
    partly: list[dict[str, str]] = []
    makers = {"identity": _identity, "data": _data, "checks": _checks, "performance": _performance, "groups": _groups,
              "importance": explained.importance, "cases": explained.cases, "card": _card}  # fmt: skip
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
            "schema": forms.SCHEMA,
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
    """Which kinds of evidence there are: what was looked at and gave an answer, not what has a chapter."""
    ran = {f["check"].lower() for f in sections["checks"].get("findings", []) if f["state"] in ("pass", "fail")}
    cases = sections["cases"].get("cases", [])
    sound = [case for case in cases if case["verdict"]["status"] in ("pass", "warn")]
    return {
        **{name: bool(section["assessed"]) for name, section in sections.items()},
        "cases": bool(sound),
        "trust": bool(cases) and len(sound) == len(cases),
        "adverse": any(case["adverse"] for case in sound),
        "reasons": any("reasons" in case and case["reasons"]["verdict"]["status"] in ("pass", "warn") for case in cases),
        "ratio": any(table.get("status", "not run") != "not run" for table in sections["groups"].get("tables", [])),
        "overlap": any("overlap" in name for name in ran),
        "drift": any("drift" in name for name in ran),
        "personal": "personal data" in ran,
        "reidentification": "re-identification" in ran,
    }


def hashes(m: Material) -> dict[str, str]:
    """sha256 of everything a report rests on; what was not given is left out."""
    found = {"model": m.model.fingerprint(), "data": inputs_.sha256(m.data)}
    if m.source is not None:
        found["data file"] = hashlib.sha256(m.source.read_bytes()).hexdigest()
    for name, array in (("labels", m.labels), ("reference labels", m.reference_labels)):
        if array is not None:
            found[name] = labels_sha256(array)
    if m.units is not None:
        found["units"] = labels_sha256(m.units)
    for name, given in (("all columns", m.whole), ("groups", m.groups), ("reference", m.reference)):
        if given is not None:
            found[name] = inputs_.sha256(given)
    if m.card is not None:
        found["card"] = hashlib.sha256(m.card.encode()).hexdigest()
    if m.record is not None:
        found["record"] = hashlib.sha256(json.dumps(plain(m.record), sort_keys=True).encode()).hexdigest()
    return found


def labels_sha256(labels: np.ndarray) -> str:
    """A digest of labels as read: class indices or numbers."""
    return hashlib.sha256(np.ascontiguousarray(labels).astype("<f8").tobytes()).hexdigest()


def _identity(m: Material, _progress: Progress) -> dict[str, Any]:
    packages = {"torch": ("torch", "captum"), "sklearn": ("scikit-learn",)}.get(m.model.framework, ())
    unhashed = m.model.unhashed
    return {
        "not_assessed": [{"topic": "Identity of all that decides a prediction", "reason": unhashed}] if unhashed else [],
        "model": {"name": m.model.name, "framework": m.model.framework, "kind": m.model.modality, "task": m.model.task,
                  "outputs": list(m.model.class_names), "features": len(m.model.feature_names), "device": str(m.model.device)},
        "hashes": hashes(m),
        "versions": versions(*dict.fromkeys((*packages, "pandas", "scipy", "shap", "typst"))),
        "seed": m.seed,
    }  # fmt: skip


def _data(m: Material, _progress: Progress) -> dict[str, Any]:
    found = profiling.profile_data(m.data, m.model.modality, m.labels, m.model.class_names, m.model.task)
    lacking = []
    if m.source is not None:
        found["source"] = {"name": clean(m.source.name)}
    if m.unread:
        found["unused"] = [clean(name) for name in m.unread]
        read = "read by the data checks, and where they are groups or units by the figures that count them; not by the model"
        why = f"{', '.join(found['unused'])}: {read}."
        lacking.append({"topic": "Columns that the model does not use", "reason": why})
    if m.reference is None:
        why = "No reference set was given, so overlap and drift against it are unknown."
        lacking.append({"topic": "Independence from the training data", "reason": why})
    else:
        found["reference_rows"] = len(m.reference)
    return {**found, "not_assessed": lacking}


def _checks(m: Material, progress: Progress) -> dict[str, Any]:
    coarse = None if m.groups is None else groups.coarse(m.groups)
    data, reference = (m.data, m.reference) if m.whole is None else (m.whole, m.whole_reference)
    findings = explainer.check(
        data, m.named(m.labels), modality=m.model.modality, model=m.model, reference=m.reference if reference is None else reference,
        reference_labels=m.named(m.reference_labels), groups=coarse, progress=progress,
    )  # fmt: skip
    rows = [_finding(f) for f in findings]
    return {
        "findings": rows,
        "counts": dict(findings.counts),
        "outcomes": [{"status": f["state"], "topic": sentence(f["check"]), "text": f["message"]} for f in rows if f["state"] != "not run"],
        "not_assessed": [
            {"topic": f"Data check: {sentence(f['check'])}", "reason": f["message"].removeprefix("Not run: ")}
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


def _performance(m: Material, _progress: Progress) -> dict[str, Any]:
    if m.labels is None:
        raise InvalidInput("No labels were given; performance cannot be measured without them.")
    found, outcomes = _measured(m, m.labels)
    if m.clustered:
        found["units"] = m.clustered
    beside = judgements.baseline(m.record)
    lacking = _independence(m)
    if not found.get("calibration", {}).get("told", True):
        few = f"Of fewer than {performance.FEWEST_UNITS} units ({m.unit}), an error of calibration cannot be told from chance."
        lacking.append({"topic": "Calibration", "reason": few})
    why = "No training record was given that has a simpler model's figures beside the model's."
    return {
        **found,
        "outcomes": outcomes + ([beside] if beside else []),
        "not_assessed": ([] if beside else [{"topic": "Comparison with a simpler model", "reason": why}]) + lacking,
    }


def _independence(m: Material) -> list[dict[str, str]]:
    if m.units is not None:
        why = f"Sample size, weak segments, drift and the other data checks count every row as one of its own, not units ({m.unit})."
        return [{"topic": "Independence of rows in the data checks", "reason": why}]
    why = (
        "Every row counts as one of its own. If several are of one person or thing, intervals are too narrow: name it with units= (--unit)."
    )
    return [{"topic": "Whether rows are independent", "reason": why}]


def _measured(m: Material, labels: np.ndarray) -> tuple[dict[str, Any], list[dict[str, str]]]:
    scores = m.all_scores()
    if m.model.task == "regression":
        found = performance.regression(labels, scores[:, 0], m.seed, m.units)
        m.pictures["residuals"] = figures.residuals(found["bins"])
        return found, [judgements.regression(found)]
    found = performance.classification(labels, scores, m.model.class_names, m.seed, m.units)
    bins = found["calibration"]
    m.pictures["reliability"] = figures.reliability(bins["bins"], bins["of"], bins["observed"])
    if len(m.model.class_names) <= 12:
        m.pictures["confusion"] = figures.confusion(found["confusion"], m.model.class_names)
    return found, [judgements.skill(found), *judgements.calibrated(found)]


def _groups(m: Material, _progress: Progress) -> dict[str, Any]:
    if m.groups is None:
        raise InvalidInput("No protected attributes were named, so nothing is known about how the model treats groups.")
    found = _decided(m)
    tables, lacking = groups.by_group(m.groups, found)
    judged = []
    if found.selected is None:
        lacking = [{"topic": "Fairness of selection between groups", "reason": _unnamed(m)}, *lacking]
    else:
        for table in tables:
            fairness.compare(table)
        judged += [
            {"topic": f"Selection rates by {clean(t['attribute'])}", "status": t["status"], "text": clean(t["reason"])} for t in tables
        ]
    if found.right is not None:
        judged += fairness.gaps(tables[: len(m.groups.columns)])
    else:
        why = (
            "No labels were given."
            if m.labels is None
            else "Mean errors per group are shown; whether chance makes them differ is not tested."
        )
        lacking.append({"topic": "Error rates between groups", "reason": why})
    return {
        "tables": tables,
        **({"units": m.clustered} if m.clustered else {}),
        "selection": _selection(m),
        "unnamed": _unnamed(m) if found.selected is None else "",
        "rules": {"four_fifths": fairness.FOUR_FIFTHS, "small_below": groups.SMALL_BELOW, "small_share": groups.SMALL_SHARE,
                  "suppressed_below": groups.SUPPRESSED_BELOW, "significance": fairness.SIGNIFICANCE},
        "outcomes": [one for one in judged if one["status"] != "not run"],
        "not_assessed": [{"topic": one["topic"], "reason": one["text"]} for one in judged if one["status"] == "not run"] + lacking,
    }  # fmt: skip


def _decided(m: Material) -> groups.Decisions:
    if m.model.task == "regression":
        found = groups.estimates(m.all_scores(), m.labels, m.favourable)
    else:
        found = groups.decisions(m.all_scores(), m.labels, m.favourable, m.model.class_names)
    return found if m.units is None else replace(found, units=m.units, counted=f"units ({m.unit})")


def _selection(m: Material) -> str | None:
    if m.favourable is None:
        return None
    if isinstance(m.favourable, str):
        return f"a prediction {'above' if m.favourable == 'high' else 'below'} the median (scoring rate)"
    return f"prediction {m.model.class_names[m.favourable]!r}"


def _unnamed(m: Material) -> str:
    choices = ("high", "low") if m.model.task == "regression" else m.model.class_names[:12]
    named = ", ".join(clean(name) for name in choices)
    return (
        f"Which outcome is good for the person was not named, and is not guessed. Name it with favourable= (--favourable), one of: {named}."
    )


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
