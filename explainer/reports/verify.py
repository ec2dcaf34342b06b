"""``verify``: recompute every hash of a report and name what was changed, is missing or was added."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explainer.errors import CorruptFile, InvalidInput

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Verification:
    """What became of a report's files since it was written; ``str()`` tells it in a few lines."""

    path: Path
    evidence_sha256: str
    manifest_sha256: str
    intact: tuple[str, ...]
    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

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
        return "\n".join([*lines, f"  evidence sha256 {self.evidence_sha256}", f"  manifest sha256 {self.manifest_sha256}"])


def verify(
    path: str | os.PathLike[str], *, model: Any = None, data: Any = None, labels: Any = None, expect: str | None = None
) -> Verification:
    """Check the report in the folder ``path`` (or beside the file ``path``) against its manifest.

    ``model``, ``data``, ``labels``: where given, hashed and held against the hashes that the report states. ``expect``: a sha256 you
    kept elsewhere. The manifest's covers every file, also against a manifest rewritten together with them; the evidence's, which
    each form of the report prints, covers report.json. Raises InvalidInput where there is no report, CorruptFile where its manifest
    cannot be read.
    """
    folder = Path(path)
    folder = folder.parent if folder.is_file() else folder
    manifest = read_manifest(folder)
    intact, changed, missing = [], [], []
    for name, entry in sorted(manifest["files"].items()):
        file = folder / name
        if not file.is_file():
            missing.append(name)
        elif _sha256(file) != entry["sha256"]:
            changed.append(name)
        else:
            intact.append(name)
    listed = {*manifest["files"], MANIFEST}
    added = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir() and str(p.relative_to(folder)) not in listed)
    problems = _inconsistent(folder, manifest) + _other_inputs(manifest, model, data, labels)
    own = _sha256(folder / MANIFEST)
    if expect is not None and expect.strip().lower() not in (own, manifest["evidence_sha256"]):
        problems.append(f"sha256: {expect} was expected; the manifest has {own}, the evidence {manifest['evidence_sha256']}")
    return Verification(
        folder, manifest["evidence_sha256"], own, tuple(intact), tuple(changed), tuple(missing), tuple(added), tuple(problems)
    )


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


def _inconsistent(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """A manifest that contradicts itself or the evidence it lists."""
    stated = manifest["files"].get("report.json", {}).get("sha256", manifest["evidence_sha256"])
    problems = [] if stated == manifest["evidence_sha256"] else ["manifest: the evidence sha256 is not that of report.json"]
    file = folder / "report.json"
    if file.is_file():
        try:
            inputs = json.loads(file.read_bytes()).get("inputs")
        except (ValueError, AttributeError):
            return [*problems, "report.json is not readable"]
        if inputs != manifest.get("inputs"):
            problems.append("manifest: the hashes of model and data are not those in report.json")
    return problems


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
        from explainer.reports.audit import read_labels
        from explainer.reports.evidence import labels_sha256

        read = read_labels(labels, wrapped, len(rows), "labels")
        if read is not None and labels_sha256(read) != stated.get("labels"):
            problems.append("labels: not those this report was written on (their sha256 differs)")
    return problems
