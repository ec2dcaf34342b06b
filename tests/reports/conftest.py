from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from audited import DATE, NAMES, make, score

import explainer
import explainer.reports.audit


@pytest.fixture(scope="session")
def model() -> explainer.Model:
    frame, _, _ = make(20, 9)
    return explainer.wrap(score, modality="tabular", class_names=NAMES, background=frame, name="toy 🙂 借款")


@pytest.fixture(scope="session")
def report(model: explainer.Model, tmp_path_factory: pytest.TempPathFactory) -> explainer.reports.audit.Report:
    frame, labels, sex = make(160, 1)
    known, known_labels, _ = make(200, 2)
    return explainer.audit(
        model, frame, labels, profile="finance", groups=sex, favourable="yes", reference=known, reference_labels=known_labels,
        out=tmp_path_factory.mktemp("report") / "toy", date=DATE, card="# Toy\n\nMade up. <script>alert(1)</script> #panic(\"x\")\n",
        record={"seed": 3, "metrics": {"accuracy": {"value": 0.8, "low": 0.7, "high": 0.9}}},
    )  # fmt: skip


@pytest.fixture
def copy(report: explainer.reports.audit.Report, tmp_path: Path) -> Path:
    return Path(shutil.copytree(report.path, tmp_path / "copy"))
