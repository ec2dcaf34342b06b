"""Which cases a report explains, with what reasons, and what that is evidence of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audited import NAMES, make, score, small

import explainer
import explainer.reports.audit
from explainer.reports import evidence, profiles
from explainer.reports.attributions import choose


def answered(statuses: tuple[str, ...], adverse: bool = False, ratio: str = "not run", ran: tuple[str, ...] = ()) -> dict[str, str]:
    """What the requirements are answered with, by paragraph, given how cases, ratio and checks ended."""
    sections: dict[str, dict] = {name: {"assessed": True} for name in evidence.TITLES}
    sections["cases"]["cases"] = [{"verdict": {"status": s}, "adverse": adverse} for s in statuses]
    sections["groups"]["tables"] = [{"status": ratio}, {}]
    sections["checks"]["findings"] = [{"check": name, "state": "pass"} for name in ran]
    found = profiles.profile("finance")
    return {row["paragraph"]: row["status"] for row in profiles.answers(found, evidence._answered(sections))}


def test_cases_follow_their_rules(report: explainer.reports.audit.Report) -> None:
    frame, labels, _ = make(160, 1)
    p = score(frame)
    predicted, surest = p.argmax(1), p.max(1)
    wrong, right = predicted != labels, predicted == labels
    cases = {c["rule"]: c for c in report.evidence["sections"]["cases"]["cases"]}
    assert cases["most confident error"]["row"] == int(np.where(wrong, surest, -1).argmax())
    assert cases["most confident right"]["row"] == int(np.where(right, surest, -1).argmax())
    assert cases["least sure"]["row"] == int(surest.argmin())
    for case in cases.values():
        assert case["base"] + case["sum"] == pytest.approx(case["score"], abs=1e-4)
        assert case["verdict"]["status"] in ("pass", "warn", "fail", "not run") and case["verdict"]["reason"]


def test_one_case_at_least_is_a_decision_against_the_person_where_it_is_known() -> None:
    scores = np.array([[0.1, 0.9], [0.45, 0.55], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    labels = np.array([0, 1, 1, 0, 0])
    kept = [(0, "most confident error"), (1, "least sure"), (2, "most confident right")]
    assert choose(scores, labels, "classification", 3) == (kept, [])
    assert choose(scores, labels, "classification", 3, 1) == ([*kept, (4, "most confident adverse decision")], [])
    assert choose(scores, labels, "classification", 3, 0) == (kept, [])  # "1" is adverse then, and there already
    assert choose(scores[:3], labels[:3], "classification", 3, 1) == (kept, ["most confident adverse decision"])
    assert choose(scores, labels, "classification", 0, 1) == ([], [])


def test_evidence_is_given_only_by_what_was_judged_and_did_not_fail() -> None:
    assert answered(("pass", "warn"), ratio="fail")["1607.4(D)"] == "evidence given"
    assert answered(("pass", "warn"))["1607.4(D)"] == "partly" and answered(("pass",))["MEASURE 2.11"] == "partly"
    assert answered(("pass", "warn"))["MEASURE 2.9"] == "evidence given"
    assert answered(("pass", "fail"))["MEASURE 2.9"] == answered(("fail", "fail"))["MEASURE 2.9"] == "partly"
    assert answered(("pass", "not run"))["MEASURE 2.9"] == "partly"


def test_an_adverse_decision_is_answered_by_an_adverse_case_alone() -> None:
    def given(adverse: bool, status: str = "pass") -> list[str]:
        sections: dict[str, dict] = {name: {"assessed": True} for name in evidence.TITLES}
        sections["cases"]["cases"] = [{"verdict": {"status": status}, "adverse": adverse}]
        rows = profiles.answers(profiles.profile("finance"), evidence._answered(sections))
        return next(row["evidence"] for row in rows if row["pack"] == "reg-b")

    assert "an explained adverse decision" in given(True)
    assert "an explained adverse decision" not in given(False) and "an explained adverse decision" not in given(True, "fail")


def test_an_adverse_case_has_its_principal_reasons_where_the_profile_asks(report: explainer.reports.audit.Report) -> None:
    cases = report.evidence["sections"]["cases"]["cases"]
    against = [c for c in cases if c["predicted"] == "no"]
    assert against and [c["row"] for c in cases if "reasons" in c] == [c["row"] for c in against]
    told, frame, known = against[0]["reasons"], make(160, 1)[0], make(200, 2)[0]
    model = explainer.wrap(score, modality="tabular", class_names=NAMES, background=make(20, 9)[0])
    found = explainer.reason_codes(model, frame.iloc[[against[0]["row"]]], target="yes", applicants=known)
    assert [r["text"] for r in told["reasons"]] == [r.text for r in found[0].reasons]
    assert [r["value"] for r in told["reasons"]] == pytest.approx([r.value for r in found[0].reasons], abs=1e-5)
    assert told["against"] == "all 200 applicants" and told["verdict"]["status"] == found[0].verdict.status
    assert f"Reasons for row {against[0]['row']}" in [o["topic"] for o in report.evidence["outcomes"]]
    assert "Principal reasons against all 200 applicants" in report.html.read_text("utf-8")


def test_reasons_that_cannot_be_had_are_not_assessed(model: explainer.Model, tmp_path: Path) -> None:
    found = small(model, tmp_path / "r", profile="finance", formats="json")
    entry = next(e for e in found.evidence["not_assessed"] if e["topic"] == "Principal reasons of adverse decisions")
    assert "no favourable class is named" in entry["reason"] and "explainer reasons MODEL" in entry["reason"]
    assert "Principal reasons of adverse decisions" not in small(model, tmp_path / "g", formats="json").not_assessed


def test_only_the_cases_inputs_are_told(report: explainer.reports.audit.Report) -> None:
    frame, _, _ = make(160, 1)
    shown = {c["row"] for c in report.evidence["sections"]["cases"]["cases"]}
    text = report.json.read_text("utf-8") + report.html.read_text("utf-8")
    for row in range(len(frame)):
        told = [f"{v:.6g}" in text for v in frame.iloc[row]]
        assert all(told) if row in shown else sum(told) == 0, row


def test_importance_ranks_the_columns_by_their_weight(report: explainer.reports.audit.Report) -> None:
    top = report.evidence["sections"]["importance"]["top"]
    assert [row["feature"] for row in top] == ["income", "debt", "age"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in top)


def test_privacy_is_answered_by_the_checks_that_ran() -> None:
    assert answered(())["MEASURE 2.10"] == "not assessed"
    assert answered((), ran=("Personal data", "Re-identification"))["MEASURE 2.10"] == "partly"
    (row,) = [r for r in profiles.profile("finance")["packs"]["nist-ai-rmf"]["requirements"] if r["paragraph"] == "MEASURE 2.10"]
    assert "personal data" not in row["gap"]
