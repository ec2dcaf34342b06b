"""``audit``: assess a model on data and write a report that can be checked offline."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explainer.checks.read import as_frame
from explainer.errors import InvalidInput, unknown
from explainer.model import Model, wrap
from explainer.progress import reporter
from explainer.reports import attributions, document, evidence, forms, groups, pdf, profiles
from explainer.reports.forms import FORMATS, MANIFEST
from explainer.reports.material import Material
from explainer.reports.verify import listed_files

_EVIDENCE_SHARE = 90


@dataclass(frozen=True)
class Report:
    """A written report: its folder, its files, the evidence in it, and the worst outcome.

    ``manifest_sha256`` vouches for every file of it: kept elsewhere, it shows any later change (``verify(path, expect=...)``).
    """

    path: Path
    files: tuple[str, ...]
    evidence: Mapping[str, Any]
    evidence_sha256: str
    manifest_sha256: str

    @property
    def status(self) -> str:
        """The worst outcome, "fail", "warn" or "pass"; what was not assessed is listed beside it, in :attr:`not_assessed`."""
        return document.status_of(self.evidence)

    @property
    def ok(self) -> bool:
        """True when nothing that was assessed failed."""
        return self.status != "fail"

    @property
    def not_assessed(self) -> tuple[str, ...]:
        return tuple(entry["topic"] for entry in self.evidence["not_assessed"])

    @property
    def html(self) -> Path | None:
        return self._file("report.html")

    @property
    def pdf(self) -> Path | None:
        return self._file("report.pdf")

    @property
    def json(self) -> Path | None:
        return self._file("report.json")

    def _file(self, name: str) -> Path | None:
        return self.path / name if name in self.files else None


def audit(
    model: Any,
    data: Any,
    labels: Any = None,
    *,
    profile: str = "general",
    groups: Any = None,
    units: Any = None,
    favourable: Any = None,
    reference: Any = None,
    reference_labels: Any = None,
    cases: int = 3,
    sample: int | None = None,
    seed: int = 0,
    method: str = "auto",
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    card: str | None = None,
    record: Mapping[str, Any] | None = None,
    date: str | datetime.date | None = None,
    source: str | os.PathLike[str] | None = None,
    progress: Any = False,
    formats: Sequence[str] = FORMATS,
) -> Report:
    """Assess ``model`` on ``data`` and write HTML, PDF, JSON and a manifest of hashes into the folder ``out``.

    Parameters
    ----------
    data, labels : what to assess the model on, best data it never saw; columns of a table that the model does not read are named, and
        looked at by the data checks; labels as class indices or names, numbers for a regression,
        or None (then nothing is said about performance).
    profile : which requirements to answer: "general", "finance", "medical", "legal" or "eu-ai-act".
    groups : DataFrame of protected attributes, one row per row of ``data``; they need not be columns of it.
    units : whom each row is of ``(n,)``, such as a Series of patients, where several rows are of one: these are alike, so intervals and
        tests of the model count units, not rows (the data checks count rows). Without it each row counts as one of its own.
    favourable : the class that is good for the person, of a regression "high" or "low"; without it rates per group are shown, and
        fairness is not judged. Where a class is named, at least one case explained is a decision against the person.
    reference, reference_labels : the training set, to look for overlap and drift; for a model of tables that has no background of
        its own, absent columns take its values.
    cases : how many predictions to explain singly, chosen by rule.
    sample : how many rows the overall importance rests on; by default it depends on the kind of data.
    out : folder of the report, ``audit-NAME`` where it is None. A report already there is replaced; other files never are.
    card, record : model card (Markdown) and training record, printed as supplied.
    date : the report's date, an input like any other (today in UTC by default): the same inputs give the same bytes.
    source : the file that the data were read from: its name and the sha256 of its bytes are told.
    progress : False, True (a bar) or a callable ``(done, total)``, which may raise Cancelled.

    A part that cannot be computed is listed as not assessed, with the reason. Raises InvalidInput and UnknownName for arguments
    that do not fit, OSError when the folder cannot be written; then nothing half-written is left.
    """
    wanted = _formats(formats)
    if "pdf" in wanted:
        pdf.require()
    asked = {"method": method, "seed": int(seed), "cases": int(cases), "card": card, "record": record, "date": _date(date),
             "formats": wanted, "source": _source(source)}  # fmt: skip
    material = _material(
        model, data, labels, profiles.profile(profile), groups, units, favourable, reference, reference_labels, sample, name, asked
    )
    folder = Path(out) if out is not None else Path(f"audit-{_slug(material.name)}")
    _refuse_foreign(folder)
    with reporter(progress, f"Auditing {material.name}") as report:
        found = evidence.assemble(material, lambda done, total: report(int(done / total * _EVIDENCE_SHARE), 100))
        content = forms.canonical(found)
        digest = hashlib.sha256(content).hexdigest()
        files = forms.drawn(content, wanted)
        files[MANIFEST] = forms.canonical(forms.manifest(found, digest, files))
        report(_EVIDENCE_SHARE + 8, 100)
        _write(folder, files)
        report(100, 100)
    return Report(folder, tuple(sorted(files)), found, digest, hashlib.sha256(files[MANIFEST]).hexdigest())


def _formats(formats: Sequence[str]) -> tuple[str, ...]:
    given = (formats,) if isinstance(formats, str) else tuple(formats)
    for one in given:
        if one not in FORMATS:
            raise unknown("report format", one, FORMATS)
    if not given:
        raise InvalidInput(f"No format was asked for; name at least one of {', '.join(FORMATS)}.")
    return tuple(one for one in FORMATS if one in given)


def _date(date: str | datetime.date | None) -> str:
    if date is None:
        return datetime.datetime.now(datetime.UTC).date().isoformat()
    try:
        day = date.date() if isinstance(date, datetime.datetime) else date
        return (day if isinstance(day, datetime.date) else datetime.date.fromisoformat(str(day))).isoformat()
    except ValueError:
        raise InvalidInput(f"{date!r} is not a date; write it as in 2026-05-31.") from None


def _source(source: str | os.PathLike[str] | None) -> Path | None:
    if source is not None and not Path(source).is_file():
        raise InvalidInput(f"source={str(source)!r} is no file; name the one file that the data were read from, or leave it out.")
    return None if source is None else Path(source)


def _material(model: Any, data: Any, labels: Any, profile: Mapping[str, Any], given_groups: Any, units: Any, favourable: Any,
              reference: Any, reference_labels: Any, sample: int | None, name: str | None,
              asked: Mapping[str, Any]) -> Material:  # fmt: skip
    wrapped = wrap(model)
    rows = wrapped.canonical(data)
    if asked["cases"] < 0 or (sample is not None and sample < 1):
        raise InvalidInput(f"cases must be 0 or more and sample 1 or more; cases={asked['cases']}, sample={sample} came.")
    if reference_labels is not None and reference is None:
        raise InvalidInput("reference_labels came without reference; pass the reference data too.")
    known = None if reference is None else wrapped.canonical(reference)
    known_labels = None if known is None else read_labels(reference_labels, wrapped, len(known), "reference_labels")
    read = read_labels(labels, wrapped, len(rows), "labels")
    numbered, unit = groups.units_of(units, len(rows))
    return Material(
        model=wrapped,
        data=rows,
        whole=whole_table(data, read, wrapped),
        labels=read,
        groups=None if given_groups is None else groups.frame_of(given_groups, len(rows)),
        units=numbered,
        unit=unit,
        reference=known,
        reference_labels=known_labels,
        whole_reference=None if known is None else whole_table(reference, known_labels, wrapped),
        sample=int(sample or attributions.SAMPLE[wrapped.modality]),
        favourable=groups.favourable_of(favourable, wrapped.task, wrapped.class_names),
        name=evidence.clean(name or wrapped.name),
        profile=profile,
        **asked,
    )


def whole_table(data: Any, labels: np.ndarray | None, model: Model) -> Any:
    """A table with all the columns that came, those the model reads first; None where it reads all. The labels are not of them."""
    frame = as_frame(data)
    if model.modality != "tabular" or not model.feature_names or not hasattr(frame, "columns"):
        return None
    unread = [name for name in frame.columns if name not in model.feature_names and not _repeats(frame[name], labels, model)]
    return frame.loc[:, [*model.feature_names, *unread]] if unread else None


def _repeats(column: Any, labels: np.ndarray | None, model: Model) -> bool:
    try:
        return labels is not None and np.array_equal(read_labels(column, model, len(labels), str(column.name)), labels)  # type: ignore[arg-type]
    except InvalidInput:
        return False


def read_labels(labels: Any, model: Model, rows: int, what: str) -> np.ndarray | None:
    """Labels as class indices ``(n,)`` int64, or as numbers for a regression. Raises InvalidInput."""
    if labels is None:
        return None
    array = np.asarray(labels.to_numpy() if hasattr(labels, "to_numpy") else labels)
    if array.shape != (rows,):
        raise InvalidInput(f"{what} has shape {array.shape} for {rows} rows of data; pass one label per row.")
    if model.task == "regression":
        return _numbers(array, what, "labels are numbers")
    k = len(model.class_names)
    valid = f"labels are class indices 0 to {k - 1} or class names ({', '.join(model.class_names[:12])})"
    named = {name: i for i, name in enumerate(model.class_names)}
    if array.dtype.kind in "OUS" and all(str(v) in named for v in array):
        return np.array([named[str(v)] for v in array], dtype=np.int64)
    if array.dtype.kind in "OUS" and any(str(v) in named for v in array):
        _present(array, what)
        _refuse(array, np.array([str(v) not in named for v in array]), what, valid)
    numbers = _numbers(array, what, valid)
    _refuse(array, (numbers != np.round(numbers)) | (numbers < 0) | (numbers >= k), what, valid)
    return numbers.astype(np.int64)


def _numbers(array: np.ndarray, what: str, valid: str) -> np.ndarray:
    _present(array, what)
    _refuse(array, np.array([not _is_number(v) for v in array]), what, valid)
    return array.astype(float)


def _is_number(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _present(array: np.ndarray, what: str) -> None:
    import pandas as pd

    missing = np.flatnonzero(pd.isna(array))
    if len(missing):
        raise InvalidInput(f"{what} row {missing[0]} is missing ({len(missing)} in all); drop the rows without a label.")


def _refuse(array: np.ndarray, bad: np.ndarray, what: str, valid: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InvalidInput(f"{what} row {row} is {array[row]!r}; {valid}.")


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"


def _refuse_foreign(folder: Path) -> None:
    """Only an empty place or an earlier report is written to; a person's other files are never replaced or removed."""
    if folder.is_file():
        raise InvalidInput(f"{folder} is a file; name a folder for the report.")
    present = {p.name for p in folder.iterdir()} if folder.is_dir() else set()
    if not present:
        return
    ours = listed_files(folder)
    foreign = sorted(present - ours)
    if foreign:
        kind = "an earlier report and other files" if ours else "files that are not a report"
        raise InvalidInput(f"{folder} holds {kind} ({', '.join(foreign[:5])}); name an empty folder, or move these files away.")


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files beside the folder, then swap it in: a reader finds the old report or the new one, never a mixture."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    old = fresh.with_name(fresh.name + ".old")
    try:
        for name, content in files.items():
            with open(fresh / name, "wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
        fresh.chmod(0o755)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise
    finally:
        for leftover in (fresh, old):
            with contextlib.suppress(OSError):
                if leftover.exists():
                    shutil.rmtree(leftover)
