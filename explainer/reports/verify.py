"""``verify``: recompute every hash of a report, draw it again from its evidence, and name what was changed, is missing or was added."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainer.errors import CorruptFile, ExplainerError, InvalidInput
from explainer.reports import forms
from explainer.reports.forms import MANIFEST


@dataclass(frozen=True)
class Verification:
    """What became of a report's files since it was written; ``str()`` tells it in a few lines.

    ``uncovered``: the files that the manifest alone vouches for, with the reason; none where the manifest's own sha256 was expected.
    """

    path: Path
    evidence_sha256: str
    manifest_sha256: str
    intact: tuple[str, ...]
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True when every listed file is as it was written, none is missing, and none was added."""
        return not (self.changed or self.missing or self.added or self.problems)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [f"{self.path}: {'as it was written' if self.ok else 'NOT as it was written'} ({len(self.intact)} files intact)"]
        for kind in ("changed", "missing", "added"):
            lines += [f"  {kind}: {name}" for name in getattr(self, kind)]
        lines += [f"  {problem}" for problem in self.problems]
        lines += [f"  not covered: {one}" for one in self.uncovered]
        return "\n".join([*lines, f"  evidence sha256 {self.evidence_sha256}", f"  manifest sha256 {self.manifest_sha256}"])


def verify(
    path: str | os.PathLike[str], *, model: Any = None, data: Any = None, labels: Any = None, expect: str | None = None
) -> Verification:
    """Check the report in the folder ``path`` (or beside the file ``path``) against its manifest and its evidence.

    The manifest must say of the report what report.json says, and HTML and PDF must be what report.json draws, byte for byte; where
    another version drew them, or report.json is not there, they are named as not covered. ``model``, ``data``, ``labels``: where
    given, hashed and held against the hashes that the report states. ``expect``: a sha256 you kept elsewhere. The manifest's covers
    every file, also against all of them rewritten together; the evidence's, which each form of the report prints, covers
    report.json and what can be drawn again from it. Raises InvalidInput where there is no report, CorruptFile where its manifest
    cannot be read.
    """
    folder = Path(path)
    folder = folder.parent if folder.is_file() else folder
    manifest = read_manifest(folder)
    files = sorted(manifest["files"])
    present = {name: (folder / name).read_bytes() for name in files if (folder / name).is_file()}
    intact = {name: b for name, b in present.items() if hashlib.sha256(b).hexdigest() == manifest["files"][name]["sha256"]}
    listed = {*manifest["files"], MANIFEST}
    added = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() and str(p.relative_to(folder)) not in listed)
    problems, uncovered = _against_evidence(manifest, intact)
    problems += _other_inputs(manifest, model, data, labels)
    own, stated = _sha256(folder / MANIFEST), manifest["evidence_sha256"]
    known = None if expect is None else expect.strip().lower()
    if known not in (None, own, stated):
        problems.append(f"sha256: {expect} was expected; the manifest has {own}, the evidence {stated}")
    return Verification(
        folder, stated, own, tuple(intact), changed=tuple(name for name in present if name not in intact),
        missing=tuple(name for name in files if name not in present), added=tuple(added), problems=tuple(problems),
        uncovered=() if known == own else tuple(uncovered),
    )  # fmt: skip


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the report in ``folder``. Raises InvalidInput, CorruptFile."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise InvalidInput(f"{folder} holds no report ({MANIFEST} is missing); name the folder that explainer audit wrote.") from None
    except NotADirectoryError:
        raise InvalidInput(f"{folder} is not a folder; name the folder that explainer audit wrote.") from None
    except ValueError as error:
        raise CorruptFile(f"{folder / MANIFEST} is not readable JSON ({error}); the report cannot be verified. Ask for it again.") from None
    if not _well_formed(manifest):
        raise CorruptFile(f"{folder / MANIFEST} is not the manifest of an audit report; the report cannot be verified. Ask for it again.")
    return manifest


def _well_formed(manifest: Any) -> bool:
    if not isinstance(manifest, dict) or manifest.get("kind") != "explainer audit report":
        return False
    files = manifest.get("files")
    if not isinstance(files, dict) or not files or not isinstance(manifest.get("evidence_sha256"), str):
        return False
    # A name that leads out of the folder would make verify read what is not the report's.
    return all(
        isinstance(e, dict) and isinstance(e.get("sha256"), str) and Path(n).name == n and n not in ("", ".", "..")
        for n, e in files.items()
    )


def listed_files(folder: Path) -> set[str]:
    """Names of the files that make up the report in ``folder``; empty where there is none."""
    try:
        return {*read_manifest(folder)["files"], MANIFEST}
    except (InvalidInput, CorruptFile):
        return set()


def _sha256(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _against_evidence(manifest: Mapping[str, Any], intact: Mapping[str, bytes]) -> tuple[list[str], list[str]]:
    """What contradicts the evidence in report.json, and which files it says nothing about."""
    content = intact.get("report.json")
    if content is None:
        return [], ["every file: without report.json as it was, there is nothing but the manifest to hold them against"]
    try:
        evidence = json.loads(content)
        if evidence["schema"] != forms.SCHEMA:
            return [], [f"every file: report.json is of schema {evidence['schema']}, and this version reads {forms.SCHEMA}"]
        written = {f"report.{name}" for name in evidence["settings"]["formats"]}
        expected = forms.manifest(evidence, hashlib.sha256(content).hexdigest(), intact)
        redrawn, uncovered = _redrawn(content, evidence, intact)
    except (ValueError, LookupError, TypeError, AttributeError):
        return ["report.json is not the evidence of a report"], []
    told, listed = sorted({*manifest, *expected} - {"files"}), manifest["files"]
    problems = [f"manifest: {_named(key)} not as in report.json" for key in told if manifest.get(key) != expected.get(key)]
    problems += [f"manifest: not the size of {name}" for name in intact if listed[name].get("bytes") != len(intact[name])]
    problems += [f"manifest: {name} was written with this report, and is not listed" for name in sorted(written - {*listed})]
    problems += [f"manifest: {name} was not written with this report" for name in sorted({*listed} - written)]
    problems += [f"{name}: not what report.json draws" for name, drawn in redrawn.items() if drawn != intact[name]]
    return problems, uncovered


def _named(key: str) -> str:
    return {"inputs": "the hashes of model and data are", "evidence_sha256": "the evidence sha256 is"}.get(key, f"the {key} is")


def _redrawn(content: bytes, evidence: Mapping[str, Any], intact: Mapping[str, bytes]) -> tuple[dict[str, bytes], list[str]]:
    """HTML and PDF drawn anew, and those that cannot be, with the reason."""
    drawn = [name for name in forms.FORMATS if name != "json" and f"report.{name}" in intact]
    if evidence["drawing"] != forms.drawing():
        return {}, [f"report.{name}: drawn by another version than this one, so it cannot be drawn again" for name in drawn]
    found: dict[str, bytes] = {}
    uncovered = []
    for name in drawn:
        try:
            found |= forms.drawn(content, (name,))
        except ExplainerError as error:
            uncovered.append(f"report.{name}: {error}")
    return found, uncovered


def _other_inputs(manifest: Mapping[str, Any], model: Any, data: Any, labels: Any) -> list[str]:
    """Which of the inputs given are not the ones the report was written on."""
    from explainer import inputs as inputs_
    from explainer.model import wrap

    stated = manifest.get("inputs", {})
    problems = []
    wrapped = None if model is None else wrap(model)
    if wrapped is not None and wrapped.fingerprint() != stated.get("model"):
        problems.append("model: not the one this report was written on (its sha256 differs)")
    if data is not None:
        rows = data if wrapped is None else wrapped.canonical(data)
        if inputs_.sha256(rows) != stated.get("data"):
            problems.append("data: not those this report was written on (their sha256 differs)")
    if labels is not None and wrapped is not None and data is not None:
        from explainer.reports.audit import read_labels, whole_table
        from explainer.reports.evidence import labels_sha256

        read = read_labels(labels, wrapped, len(rows), "labels")
        whole = whole_table(data, read, wrapped)
        if (None if whole is None else inputs_.sha256(whole)) != stated.get("all columns"):
            problems.append("data: the columns that the model does not read are not those this report was written on")
        if read is not None and labels_sha256(read) != stated.get("labels"):
            problems.append("labels: not those this report was written on (their sha256 differs)")
    return problems
