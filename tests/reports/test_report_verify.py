from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import rfc8785
from audited import NAMES, make, score, small

import explainer
import explainer.reports.audit
from explainer.errors import CorruptFile, InvalidInput
from explainer.reports import forms


def test_verify_finds_a_flipped_byte_a_missing_and_an_added_file(copy: Path) -> None:
    assert explainer.verify(copy).ok
    raw = bytearray((copy / "report.pdf").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "report.pdf").write_bytes(raw)
    (copy / "report.html").unlink()
    (copy / "extra.txt").write_text("hello")
    (copy / "folder").mkdir()
    (copy / "folder" / "deep.txt").write_text("hello")
    found = explainer.verify(copy)
    assert not found.ok and not found
    assert (found.changed, found.missing) == (("report.pdf",), ("report.html",))
    assert found.added == ("extra.txt", os.path.join("folder", "deep.txt")) and found.intact == ("report.json",)
    assert "changed: report.pdf" in str(found) and "missing: report.html" in str(found)


def test_verify_takes_a_file_of_the_report_and_says_what_is_no_report(copy: Path, tmp_path: Path) -> None:
    assert explainer.verify(copy / "report.html").ok
    with pytest.raises(InvalidInput, match="holds no report"):
        explainer.verify(tmp_path)
    for bad in ("not json", "[]", '{"kind": "explainer audit report", "evidence_sha256": "0", "files": {"../x": {"sha256": "0"}}}'):
        (copy / "manifest.json").write_text(bad)
        with pytest.raises(CorruptFile):
            explainer.verify(copy)


def test_verify_against_model_data_and_a_hash_kept_elsewhere(
    copy: Path, model: explainer.Model, report: explainer.reports.audit.Report
) -> None:
    frame, labels, _ = make(160, 1)
    assert explainer.verify(copy, model=model, data=frame, labels=labels, expect=report.evidence_sha256).ok
    assert "data" in explainer.verify(copy, model=model, data=frame.iloc[1:]).problems[0]
    assert "labels" in explainer.verify(copy, model=model, data=frame, labels=1 - labels).problems[0]
    other = explainer.wrap(lambda f: score(f) ** 1, modality="tabular", class_names=NAMES, background=frame)
    assert "model" in explainer.verify(copy, model=other).problems[0]
    assert not explainer.verify(copy, expect="0" * 64).ok


def test_a_manifest_rewritten_for_other_inputs_contradicts_the_evidence(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["inputs"]["model"] = "0" * 64
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert not explainer.verify(copy).ok


def relist(folder: Path, **stated: object) -> None:
    """Write the manifest anew for the files there, as a forger would, with what else is ``stated``."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    manifest["evidence_sha256"] = hashlib.sha256((folder / "report.json").read_bytes()).hexdigest()
    (folder / "manifest.json").write_bytes(rfc8785.dumps(manifest | stated))


def test_a_page_rewritten_with_its_manifest_is_not_what_the_evidence_draws(
    copy: Path, report: explainer.reports.audit.Report, model: explainer.Model, tmp_path: Path
) -> None:
    assert explainer.verify(copy, expect=report.manifest_sha256).ok
    (copy / "report.html").write_bytes((copy / "report.html").read_bytes().replace(b"fail", b"pass"))
    relist(copy)
    found = explainer.verify(copy, expect=report.evidence_sha256)
    assert not found.ok and found.changed == () and found.problems == ("report.html: not what report.json draws",)
    assert "expected" in explainer.verify(copy, expect=report.manifest_sha256).problems[-1]
    shutil.copy(report.path / "report.html", copy)
    shutil.copy(small(model, tmp_path / "other").pdf, copy / "report.pdf")
    relist(copy)
    assert explainer.verify(copy, expect=report.evidence_sha256).problems == ("report.pdf: not what report.json draws",)


def test_what_another_version_drew_is_told_to_be_covered_by_the_manifests_hash_alone(
    report: explainer.reports.audit.Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "drawing", lambda: "another")
    found = explainer.verify(report.path, expect=report.evidence_sha256)
    assert found.ok and [told.split(":")[0] for told in found.uncovered] == ["report.html", "report.pdf"]
    assert "not covered: report.html: drawn by another version" in str(found)
    assert explainer.verify(report.path, expect=report.manifest_sha256).uncovered == ()


@pytest.mark.parametrize(
    ("key", "value"), [("date", "2031-01-01"), ("name", "another"), ("profile", "general"), ("toolkit", "9.9"), ("added", 1)]
)
def test_a_manifest_that_says_what_the_evidence_does_not_is_found(copy: Path, key: str, value: object) -> None:
    relist(copy, **{key: value})
    assert explainer.verify(copy).problems == (f"manifest: the {key} is not as in report.json",)


def test_a_size_and_a_file_left_out_or_put_in_are_found(copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_bytes())
    manifest["files"]["report.html"]["bytes"] += 1
    (copy / "manifest.json").write_bytes(rfc8785.dumps(manifest))
    assert explainer.verify(copy).problems == ("manifest: not the size of report.html",)
    del manifest["files"]["report.pdf"]
    (copy / "report.pdf").unlink()
    (copy / "notes.txt").write_text("x")
    (copy / "manifest.json").write_bytes(rfc8785.dumps(manifest | {"files": {**manifest["files"], "notes.txt": {"sha256": ""}}}))
    relist(copy)
    assert explainer.verify(copy).problems == (
        "manifest: report.pdf was written with this report, and is not listed",
        "manifest: notes.txt was not written with this report",
    )


def test_a_report_of_an_earlier_form_is_vouched_for_by_the_manifest_alone(copy: Path) -> None:
    told = json.loads((copy / "report.json").read_bytes()) | {"schema": 1}
    del told["settings"]["formats"]
    (copy / "report.json").write_bytes(rfc8785.dumps(told))
    relist(copy)
    found = explainer.verify(copy)
    assert found.ok and found.uncovered == ("every file: report.json is of schema 1, and this version reads 2",)


def test_a_report_without_its_evidence_is_vouched_for_by_the_manifest_alone(model: explainer.Model, tmp_path: Path) -> None:
    report = small(model, tmp_path / "r", formats="html")
    assert "without report.json" in explainer.verify(report.path).uncovered[0]
    assert explainer.verify(report.path, expect=report.manifest_sha256).uncovered == ()
