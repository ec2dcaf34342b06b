"""Rows of one person are alike: intervals and tests count persons."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited import DATE, NAMES, make, small
from typer.testing import CliRunner

import explainer
from explainer import metrics
from explainer.cli import app
from explainer.errors import InvalidInput
from explainer.reports import fairness, groups, performance


def drawn_in_units(rng: np.random.Generator, units: int, each: int, p: float = 0.7, alike: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """0/1 rows whose correlation within a unit is ``alike`` (beta-binomial), and their units."""
    spread = (1 - alike) / alike
    chances = rng.beta(p * spread, (1 - p) * spread, units)
    return (rng.random((units, each)) < chances[:, None]).ravel(), np.repeat(np.arange(units), each)


def test_the_standard_error_is_that_of_the_units_sums() -> None:
    values, units = np.array([1.0, 2.0, 6.0, 3.0, 8.0]), np.array([0, 0, 1, 1, 2])
    sums = [-5.0, 1.0, 4.0]  # about the mean of 4
    assert metrics.standard_error(values, units) == pytest.approx(np.sqrt(3 / 2 * np.square(sums).sum()) / 5)
    assert metrics.standard_error(values) == pytest.approx(values.std(ddof=1) / np.sqrt(5))
    assert np.isnan(metrics.standard_error(values, np.zeros(5)))


def test_rows_are_worth_as_much_as_they_differ_within_a_unit() -> None:
    rng = np.random.default_rng(0)
    hits = rng.random(400) < 0.3
    assert metrics.worth(hits) == metrics.worth(hits, np.arange(400)) == 400
    assert metrics.worth(np.repeat(hits, 5), np.repeat(np.arange(400), 5)) == pytest.approx(400, rel=0.02)
    assert metrics.worth(np.repeat(hits[:12], 50), np.repeat(np.arange(12), 50)) < 12  # few units say little of their spread
    alone, units = drawn_in_units(rng, 300, 20, alike=0.2)
    assert metrics.worth(alone, units) == pytest.approx(6000 / (1 + 19 * 0.2), rel=0.2)  # the design effect of equal units (Kish 1965)
    assert metrics.worth(np.ones(60), np.repeat(np.arange(6), 10)) == 6
    assert metrics.worth(hits, np.zeros(400)) == 1 and metrics.worth(np.array([])) == 0


@pytest.mark.parametrize("units", [15, 60])
def test_intervals_cover_where_rows_of_a_unit_are_alike(units: int) -> None:
    rng = np.random.default_rng(units)
    covered = []
    for _ in range(300):
        hits, unit = drawn_in_units(rng, units, 30)
        ends = [metrics.bounds(hits, one) for one in (unit, None)]
        covered.append([low <= 0.7 <= high for low, high in ends])
    by_unit, by_row = np.mean(covered, axis=0)
    assert by_unit > 0.9 and by_row < 0.6


def test_calibration_of_alike_rows_is_not_held_against_the_chance_of_single_ones() -> None:
    rng = np.random.default_rng(3)
    warned = []
    for _ in range(40):
        labels, units = drawn_in_units(rng, 40, 25)
        p = np.tile([0.3, 0.7], (len(labels), 1))  # calibrated: what a person will do is not known
        found = [performance.calibration(labels.astype(int), p, NAMES, 0, one) for one in (units, None)]
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
