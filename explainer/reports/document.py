"""The report as a sequence of plain blocks, written once from the evidence and drawn by both the HTML and the PDF page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explainer.reports import blocks, chapters
from explainer.reports.blocks import Block
from explainer.reports.markdown import blocks_of
from explainer.reports.wording import badge, count, interval, number, percent, shown

_ORDER = ("fail", "error", "warn")
_LISTED = 16
_HASHED = {
    "model": "Model", "data": "Data", "data file": "Data file, its bytes", "all columns": "Data, all columns", "labels": "Labels",
    "groups": "Protected attributes", "reference": "Reference data",
    "reference labels": "Reference labels", "card": "Model card", "record": "Training record",
}  # fmt: skip
_CHAPTERS = {
    "data": chapters.data, "checks": chapters.checks, "performance": chapters.performance, "groups": chapters.groups,
    "importance": chapters.importance, "cases": chapters.cases,
}  # fmt: skip


def status_of(evidence: Mapping[str, Any]) -> str:
    """The worst outcome: "fail" (also for a check that broke), "warn" or "pass"; what was not assessed is counted beside it."""
    found = {outcome["status"] for outcome in evidence["outcomes"]}
    return "fail" if found & {"fail", "error"} else "warn" if "warn" in found else "pass"


def compose(evidence: Mapping[str, Any], pictures: Mapping[str, str], evidence_sha256: str) -> dict[str, Any]:
    """All blocks in reading order, with the title and what the page frame needs."""
    sections = evidence["sections"]
    told = _first_page(evidence)
    for name, write in _CHAPTERS.items():
        section = sections[name]
        told.append(blocks.heading(section["title"], name))
        told += write(section, pictures, evidence) if section["assessed"] else [blocks.unassessed(section["reason"])]
    told += _requirements(evidence) + _not_assessed(evidence) + _identity(sections["identity"], evidence) + _verification(evidence_sha256)
    told += _card(sections["card"], evidence)
    return {
        "title": f"Audit report: {evidence['name']}",
        "subtitle": f"{evidence['profile']['title']} profile, {evidence['date']}",
        "date": evidence["date"],
        "evidence_sha256": evidence_sha256,
        "blocks": told,
    }


def _first_page(evidence: Mapping[str, Any]) -> list[Block]:
    outcomes = evidence["outcomes"]
    wrong = sorted((o for o in outcomes if o["status"] in _ORDER), key=lambda o: _ORDER.index(o["status"]))
    right = [o["topic"] for o in outcomes if o["status"] == "pass"]
    lacking = [o["topic"] for o in evidence["not_assessed"]]
    doubtful = sum(o["status"] == "warn" for o in wrong)
    verdict = f"{count(len(wrong) - doubtful, 'check')} failed, {doubtful} doubtful, {len(right)} passed; "
    worst = [blocks.outcomes(wrong[:9])] if wrong else [blocks.text("Nothing that was assessed failed or is in doubt.")]
    if len(wrong) > 9:
        worst.append(blocks.text(f"{len(wrong) - 9} more of these stand in the sections below."))
    columns = [
        {"title": f"Not assessed ({len(lacking)})", "status": "not assessed", "items": _capped(lacking, "see What was not assessed")},
        {"title": f"Passed ({len(right)})", "status": "pass", "items": _capped(right, "see the chapters")},
    ]
    reading = (
        "Evidence for a person to judge by. It is not legal advice, and a pass says only that the stated test found nothing. "
        "Beyond the inputs of the explained cases, and what a data check names, it holds only aggregates of the data."
    )
    return [
        {"kind": "banner", "status": status_of(evidence), "text": f"{verdict}{count(len(lacking), 'topic')} not assessed."},
        blocks.facts(_key_facts(evidence)),
        blocks.heading("Failed or in doubt", "failed", numbered=False),
        *worst,
        {"kind": "columns", "items": columns},
        blocks.note("info", "What this report is", reading),
        {"kind": "contents"},
    ]


def _capped(items: Sequence[str], where: str) -> list[str]:
    unique = list(dict.fromkeys(items))
    return unique if len(unique) <= _LISTED else [*unique[: _LISTED - 1], f"and {len(unique) - _LISTED + 1} more, {where}"]


def _key_facts(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    sections = evidence["sections"]
    facts = [("Profile", f"{evidence['profile']['title']} (rule pack {evidence['profile']['version']})")]
    if sections["identity"]["assessed"]:
        model = sections["identity"]["model"]
        outputs = count(len(model["outputs"]), "output")
        facts.append(("Model", f"{model['name']}: {model['kind']} {model['task']}, {outputs}, {model['framework']}"))
        facts.append(("Model sha256", f"{sections['identity']['hashes']['model'][:32]}…"))
    if sections["data"]["assessed"]:
        reference = sections["data"].get("reference_rows")
        facts.append(("Data", count(sections["data"]["rows"], "row") + (f", {reference:,} reference rows" if reference else "")))
    if sections["groups"]["assessed"]:
        facts.append(("Favourable outcome", sections["groups"]["selection"] or "not named: fairness of selection is not judged"))
    if sections["performance"]["assessed"]:
        first, *others = sections["performance"]["metrics"]
        for row in [first, *(row for row in others if row["name"] == "roc_auc")]:
            share = row["name"] == "accuracy"
            value = percent(row["value"]) if share else number(row["value"])
            facts.append((row["title"], f"{value} (95 % interval {interval(row['low'], row['high'], share)})"))
    return facts


def _requirements(evidence: Mapping[str, Any]) -> list[Block]:
    profile = evidence["profile"]
    state = "checked against the primary texts" if profile["verified"] else "not yet checked against the primary texts"
    told = [
        blocks.heading(f"Requirements ({profile['title']} profile)", "requirements"),
        blocks.text(
            f"Which evidence this report holds on what each instrument asks, in our words (rule pack {profile['version']}, {state}). "
            "“evidence given” does not mean that the requirement is met: that is for a person to judge."
        ),
    ]
    for name, pack in evidence["packs"].items():
        rows = []
        for r in (r for r in evidence["requirements"] if r["pack"] == name):
            given = f"Given: {', '.join(r['evidence'])}. " if r["evidence"] else ""
            lacking = f"Lacking: {', '.join(r['lacking'])}. " if r["lacking"] else ""
            rows.append([r["paragraph"], r["text"], blocks.cell(r["status"]), f"{given}{lacking}{r['gap']}".strip()])
        dated = f" In force since {pack['effective']}." if pack.get("effective") else ""
        caption = f"{pack['instrument']}.{dated} {pack.get('note', '')}".strip()
        told.append(blocks.table(caption, "Where < 1.6 | What is asked < 3 | Evidence < 1.6 | What there is, what is missing < 2.8", rows))
    return told


def _not_assessed(evidence: Mapping[str, Any]) -> list[Block]:
    return [
        blocks.heading("What was not assessed", "not-assessed"),
        blocks.text("No conclusion, good or bad, can be drawn from this report on the following."),
        blocks.table(badge("not assessed"), "Topic < 2 | Why < 4", [[o["topic"], o["reason"]] for o in evidence["not_assessed"]]),
    ]


def _identity(section: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    told = [blocks.heading(section["title"], "identity")]
    if not section["assessed"]:
        return [*told, blocks.unassessed(section["reason"])]
    model, settings = section["model"], evidence["settings"]
    facts = {
        "Model": model["name"],
        "Framework": model["framework"],
        "Outputs": ", ".join(model["outputs"][:12]) + (" ..." if len(model["outputs"]) > 12 else ""),
        "Device": model["device"],
        "Method asked for": settings["method"],
        "Seed": str(section["seed"]),
        "Report date": evidence["date"],
        "Versions": ", ".join(f"{k} {v}" for k, v in section["versions"].items()),
    }
    rows = [[_HASHED.get(k, k), {"code": v}] for k, v in section["hashes"].items()]
    return [
        *told,
        blocks.facts(list(facts.items())),
        blocks.table("sha256 of everything this report rests on", "What < 1.3 | sha256 < 5", rows),
    ]


def _verification(sha256: str) -> list[Block]:
    return [
        blocks.heading("How to verify this report", "verify"),
        blocks.text("manifest.json lists the sha256 of every file of this report. With the toolkit installed:"),
        {"kind": "code", "text": "explainer verify REPORT_FOLDER"},
        blocks.text(
            "It recomputes every hash, draws HTML and PDF again from report.json where it is of the same version, and names what was "
            "changed, is missing or was added. Without the toolkit, sha256sum gives the same figures. The evidence in this document is "
            "that of report.json, whose sha256 is:"
        ),
        {"kind": "code", "text": sha256},
        blocks.text(
            "The report is not signed. Files rewritten together with the manifest can only be noticed against a hash kept elsewhere: that "
            "of manifest.json, which explainer audit prints, covers every file; the one above covers report.json, and what is drawn "
            "again from it. The same model, data, date and settings on the same versions and machine give the same bytes."
        ),
    ]


def _card(section: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    told = [blocks.heading("Annex: model card and training record", "card")]
    if not section["assessed"]:
        return [*told, blocks.unassessed(section["reason"])]
    told.append(blocks.text("As supplied by the model's owner; not checked by this report unless said."))
    if section["record"]:
        told += _record(section["record"], evidence)
    if section["card"]:
        told += [blocks.heading("Model card", level=3), *blocks_of(section["card"], level=4)]
    return told


def _record(record: Mapping[str, Any], evidence: Mapping[str, Any]) -> list[Block]:
    facts = [(key.replace("_", " "), words) for key, value in record.items() if (words := _recorded_fact(key, value))]
    told = [blocks.heading("Training record", level=3), blocks.facts(facts)]
    metrics, baseline = record.get("metrics"), record.get("baseline")
    if not isinstance(metrics, Mapping) or not metrics:
        return told
    known = baseline if isinstance(baseline, Mapping) else {}
    theirs = known.get("metrics") or {}
    measured = {m["name"]: m for m in evidence["sections"]["performance"].get("metrics", [])}
    rows = [
        [name.replace("_", " "), _recorded(v), _recorded(theirs.get(name)), _recorded(measured.get(name))] for name, v in metrics.items()
    ]
    caption = f"Recorded at training, and measured by this report on the data given. Baseline: {known.get('name', 'none')}."
    return [*told, blocks.table(caption, "Metric < 1.5 | Recorded > 2 | Baseline, recorded > 2 | Measured here > 2", rows)]


def _recorded_fact(key: str, value: Any) -> str:
    """A simple entry of a training record in words; "" for what is told elsewhere or is too long to tell."""
    if isinstance(value, (str, int, float)):
        return shown(value, 4) if isinstance(value, float) else str(value)
    simple = isinstance(value, Mapping) and all(isinstance(v, (str, int, float)) for v in value.values())
    return ", ".join(f"{k} {v}" for k, v in value.items()) if simple and key not in ("metrics", "baseline", "confusion") else ""


def _recorded(value: Any) -> str:
    if isinstance(value, Mapping):
        bounds = interval(value.get("low"), value.get("high"))
        return number(value.get("value")) + (f" ({bounds})" if bounds != "–" else "")
    return number(value) if isinstance(value, (int, float)) else "–"
