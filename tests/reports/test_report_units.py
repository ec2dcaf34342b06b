"""Rows of one person are alike: intervals and tests count persons."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from audited import DATE, NAMES, drawn_in_units, make, small
from typer.testing import CliRunner

import explainer
from explainer import sources
from explainer.cli import app
from explainer.errors import InvalidInput, UnknownName
from explainer.reports import fairness, groups, performance


def test_calibration_of_alike_rows_is_not_held_against_the_chance_of_single_ones() -> None:
    rng = np.random.default_rng(3)
    warned = []
    for _ in range(40):
        labels, units = drawn_in_units(rng, 40, 25)
        p = np.tile([0.3, 0.7], (len(labels), 1))  # calibrated: what a person will do is not known
        found = [performance.calibration(labels.astype(int), p, NAMES, 0, one) for one in (units, None)]
        bins = [one["bins"][0]["high"] - one["bins"][0]["low"] for one in found]
        assert bins[0] > 2 * bins[1]
        warned.append([one["ece"] > one["chance"] for one in found] + [abs(one["z"]) > 1.96 for one in found])
    shares = np.mean(warned, axis=0)
    assert shares[0] <= 0.2 and shares[1] > 0.5  # of units, of rows
    assert shares[2] <= 0.2 and shares[3] > 0.5


def test_rare_outcomes_and_few_units_are_no_error_of_calibration() -> None:
    p, units = np.tile([0.99, 0.01], (200, 1)), np.repeat(np.arange(40), 5)
    found = performance.calibration(np.zeros(200, dtype=int), p, NAMES, 0, units)  # none of 200 at 1 %: nothing strange
    assert found["ece"] <= found["chance"] and abs(found["z"]) < 1.96 and found["told"]
    few = performance.calibration(np.zeros(200, dtype=int), np.tile([0.2, 0.8], (200, 1)), NAMES, 0, np.repeat(np.arange(4), 50))
    assert not few["told"]  # four units that all err alike: sign flips cannot say so


def test_what_was_seen_in_one_unit_alone_stays_seen() -> None:
    units = np.r_[np.repeat(np.arange(40), 51), 40 + np.arange(1000)]
    selected = np.r_[np.arange(2040) < 51, np.arange(1000) < 30]
    found = groups.by_group(pd.DataFrame({"g": ["a"] * 2040 + ["b"] * 1000}), groups.Decisions(selected, units=units))[0][0]
    fairness.compare(found)
    for row in found["groups"]:
        assert np.isfinite(row["p"]) if row["p"] is not None else row["ratio"] == 1
        assert row["ratio"] == 1 or 0 < row["ratio_low"] < row["ratio"] < row["ratio_high"] < np.inf


def test_residuals_of_alike_rows_are_as_sure_as_their_units() -> None:
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(20), 30)
    predictions = rng.normal(size=600)
    labels = predictions + rng.normal(size=20)[units]
    by_unit, by_row = (performance.regression(labels, predictions, 0, one)["bins"][3] for one in (units, None))
    assert by_unit["mean"] == by_row["mean"] and by_unit["high"] - by_unit["low"] > 1.2 * (by_row["high"] - by_row["low"])


def test_zoo_data_bring_their_units() -> None:
    rows = pd.DataFrame({"site": ["a", "b"]})
    test = SimpleNamespace(inputs=rows, labels=None, groups=rows, units=pd.Series([1, 1], name="patient"))
    specimen = SimpleNamespace(data=SimpleNamespace(test=test))
    for unit, name in ((None, "patient"), ("patient", "patient"), ("site", "site")):
        assert sources._tested(specimen, [], unit, "zoo:x")["units"].name == name
    with pytest.raises(UnknownName, match="site"):
        sources._tested(specimen, [], "sites", "zoo:x")


def test_of_what_was_seen_and_not_some_is_left_for_the_test() -> None:
    def hits(share: float) -> list[int]:
        return fairness._hits({"r": share, "r_n": 500, "r_worth": 9.7}, "r").tolist()

    assert [hits(share) for share in (0.0, 0.01, 0.5, 0.99, 1.0)] == [[0, 10], [1, 9], [5, 5], [9, 1], [10, 0]]


def test_groups_of_few_units_are_not_judged_and_tests_count_units() -> None:
    rng = np.random.default_rng(1)
    parts = [drawn_in_units(rng, 40, 50, p, alike=0.9) for p in (0.75, 0.5)]
    selected = np.r_[parts[0][0], parts[1][0]]
    units = np.r_[parts[0][1], 40 + parts[1][1]]
    frame = pd.DataFrame({"g": ["a"] * 2000 + ["b"] * 2000})
    told = (groups.Decisions(selected, right=selected), groups.Decisions(selected, right=selected, units=units, counted="units (person)"))
    by_row, by_unit = (groups.by_group(frame, one)[0][0] for one in told)
    fairness.compare(by_row)
    fairness.compare(by_unit)
    lowest = [next(row for row in one["groups"] if row["p"] is not None) for one in (by_row, by_unit)]
    assert lowest[0]["p"] < 1e-6 < 0.001 < lowest[1]["p"]
    assert lowest[1]["ratio_high"] - lowest[1]["ratio_low"] > 3 * (lowest[0]["ratio_high"] - lowest[0]["ratio_low"])
    assert lowest[1]["units"] == 40 and lowest[1]["selection"] == lowest[0]["selection"] and lowest[1]["n"] == 2000
    gaps = [fairness.gaps([one])[0] for one in (by_row, by_unit)]
    assert gaps[0]["text"].partition(" (")[0].endswith("of 2000") and "of 2000" in gaps[1]["text"]
    few = groups.by_group(frame, groups.Decisions(selected, units=units // 2, counted="units (person)"))[0][0]
    fairness.compare(few)
    assert few["status"] == "not run" and "at least 30 units (person)" in few["reason"]
    tiny = groups.by_group(frame, groups.Decisions(selected, units=units // 5))[0][0]["groups"]
    assert all(row["suppressed"] and "selection" not in row for row in tiny)  # 8 persons of 250 rows each


def test_a_report_says_whose_the_rows_are(model: explainer.Model, tmp_path: Path) -> None:
    sex = make(60, 1)[2]
    patients = pd.Series(np.arange(60) // 4, name="patient")
    found = small(model, tmp_path / "a", units=patients, groups=sex)
    part = found.evidence["sections"]["performance"]
    assert part["units"] == {"name": "patient", "count": 15, "few": True}
    page = (found.path / "report.html").read_text()
    assert found.evidence["sections"]["groups"]["units"] == part["units"] and "Groups under 30 units" in page
    assert "of 15 whole units, patient)" in page and "tend to be too narrow all the same" in page
    assert "units" in found.evidence["inputs"] and explainer.verify(found.path).ok
    plain = small(model, tmp_path / "b", groups=sex)
    assert "Independence of rows in the data checks" in found.not_assessed
    three = small(model, tmp_path / "d", units=patients // 5)
    assert "Calibration" in three.not_assessed and not [o for o in three.evidence["outcomes"] if o["topic"] == "Calibration"]
    assert "Whether rows are independent" in plain.not_assessed and "Whether rows are independent" not in found.not_assessed
    once = small(model, tmp_path / "c", groups=sex, units=list(range(60)))
    assert once.evidence["sections"]["performance"]["metrics"] == plain.evidence["sections"]["performance"]["metrics"]
    assert once.evidence["sections"]["performance"]["units"]["name"] == "unit"


def test_every_row_four_times_by_person_is_as_sure_as_once(model: explainer.Model, tmp_path: Path) -> None:
    frame, labels, _ = make(60, 1)
    once = small(model, tmp_path / "once").evidence["sections"]["performance"]
    often = explainer.audit(
        model, frame.loc[np.repeat(np.arange(60), 4)].reset_index(drop=True), np.repeat(labels, 4), units=np.repeat(np.arange(60), 4),
        out=tmp_path / "often", date=DATE, cases=1, sample=5,
    ).evidence["sections"]["performance"]  # fmt: skip
    assert often["metrics"] == once["metrics"]
    for a, b in zip(often["by_class"], once["by_class"], strict=True):
        assert a["sensitivity"] == b["sensitivity"] and a["sensitivity_low"] == pytest.approx(b["sensitivity_low"], abs=0.02)


@pytest.mark.parametrize(
    ("units", "said"),
    [
        (np.arange(59), r"units has shape \(59,\) for 60 rows"),
        ([None, *range(59)], r"units row 0 is missing \(1 in all\)"),
        (pd.DataFrame({"a": range(60), "b": range(60)}), r"units has shape \(60, 2\)"),
        (7, r"units has shape \(1,\)"),
        ([["p1"]] * 60, "units must name whom each row is of"),
    ],
)
def test_units_that_do_not_fit_are_refused(model: explainer.Model, tmp_path: Path, units: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        small(model, tmp_path / "r", units=units)


def test_the_shell_names_a_column(tmp_path: Path) -> None:
    frame, labels, _ = make(60, 1)
    frame.assign(outcome=[NAMES[k] for k in labels], patient=np.arange(60) // 4).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "model.py").write_text(
        "import explainer, numpy as np, pandas as pd\nfrom audited import score\n"
        "def load():\n    background = pd.DataFrame(np.eye(3), columns=['income', 'debt', 'age'])\n"
        "    return explainer.wrap(score, modality='tabular', class_names=['no', 'yes'], background=background)\n"
    )
    asked = ["audit", f"{tmp_path}/model.py:load", f"{tmp_path}/rows.csv", "--labels", "outcome", "--out", f"{tmp_path}/report"]
    wrong = CliRunner().invoke(app, [*asked, "--unit", "patiend"])
    assert wrong.exit_code == 2 and "patient" in wrong.output
    done = CliRunner().invoke(app, [*asked, "--unit", "patient"])
    assert done.exit_code in (0, 1), done.output
    found = json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["sections"]["performance"]["units"]["count"] == 15
