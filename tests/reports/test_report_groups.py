from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from explainer.errors import InvalidInput, UnknownName
from explainer.reports import groups


def table(frame: pd.DataFrame, selected: np.ndarray, good: np.ndarray | None = None, right: np.ndarray | None = None) -> dict:
    return groups.by_group(frame, selected, good, right, None)[0]


def two(a: tuple[int, int], b: tuple[int, int]) -> tuple[pd.DataFrame, np.ndarray]:
    """Groups "a" and "b" with (selected, rows) each."""
    frame = pd.DataFrame({"g": ["a"] * a[1] + ["b"] * b[1]})
    return frame, np.array([True] * a[0] + [False] * (a[1] - a[0]) + [True] * b[0] + [False] * (b[1] - b[0]))


def test_rates_ratio_and_p_by_hand() -> None:
    frame, selected = two((30, 50), (24, 80))
    good = np.array([True] * 25 + [False] * 25 + [True] * 40 + [False] * 40)
    found = table(frame, selected, good, selected == good)
    a, b = found["groups"]
    assert (a["selection"], b["selection"]) == (0.6, 0.3)
    assert b["ratio"] == pytest.approx(0.5)
    assert a["true_positive"] == 1.0 and a["false_positive"] == pytest.approx(5 / 25)
    assert b["true_positive"] == pytest.approx(24 / 40) and b["false_positive"] == 0
    assert a["accuracy"] == pytest.approx(45 / 50)
    assert b["p"] == pytest.approx(fisher_exact([[24, 56], [30, 20]])[1])
    half = 1.959964 * np.sqrt(1 / 24 - 1 / 80 + 1 / 30 - 1 / 50)
    assert (b["ratio_low"], b["ratio_high"]) == pytest.approx((0.5 * np.exp(-half), 0.5 * np.exp(half)), rel=1e-4)
    assert found["status"] == "fail" and found["best"] == "a" and found["lowest"] == "b"


def test_under_four_fifths_without_significance_warns_and_above_it_passes() -> None:
    assert table(*two((20, 40), (14, 40)))["status"] == "warn"  # 0.7, p = 0.26
    assert table(*two((20, 40), (17, 40)))["status"] == "pass"  # 0.85
    assert table(*two((500, 1000), (400, 1000)))["status"] == "pass"  # exactly four fifths
    assert table(*two((500, 1000), (390, 1000)))["status"] == "fail"  # 0.78, significant


def test_small_groups_are_marked_not_judged_and_tiny_ones_suppressed() -> None:
    frame = pd.DataFrame({"g": ["a"] * 100 + ["b"] * 100 + ["c"] * 20 + ["d"] * 5 + [None] * 12})
    selected = np.r_[np.ones(50), np.zeros(50), np.ones(45), np.zeros(55), np.zeros(20), np.zeros(5), np.zeros(12)].astype(bool)
    found = table(frame, selected)
    rows = {row["group"]: row for row in found["groups"]}
    assert rows["c"]["small"] and rows["c"]["ratio"] == 0
    assert rows["d"]["suppressed"] and "selection" not in rows["d"]
    assert found["unknown"] == 12 and "ratio" not in rows["unknown"]
    assert found["status"] == "pass" and found["lowest"] == "b"


def test_a_group_under_two_percent_is_not_judged() -> None:
    frame = pd.DataFrame({"g": ["a"] * 1000 + ["b"] * 1000 + ["c"] * 35})
    selected = np.r_[np.ones(500), np.zeros(500), np.ones(480), np.zeros(520), np.zeros(35)].astype(bool)
    assert table(frame, selected)["status"] == "pass"


def test_one_judged_group_only_or_nobody_selected_is_not_run() -> None:
    assert table(pd.DataFrame({"g": ["a"] * 60}), np.ones(60, dtype=bool))["status"] == "not run"
    frame, selected = two((0, 50), (0, 50))
    assert table(frame, selected)["status"] == "not run"


def test_numbers_are_cut_into_quarters_and_missing_stays_unknown() -> None:
    values, note = groups.values_of(pd.Series([*np.arange(100.0), np.nan]))
    names, counts = np.unique(values.astype(str), return_counts=True)
    assert dict(zip(names, counts, strict=True)) == {
        "0 to 24.75": 25,
        "over 24.75 to 49.5": 25,
        "over 49.5 to 74.25": 25,
        "over 74.25 to 99": 25,
        "unknown": 1,
    }
    assert note


def test_pairs_of_attributes_are_tabulated() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": rng.choice(["f", "m"], 400), "race": rng.choice(["x", "y"], 400)})
    tables = groups.by_group(frame, rng.random(400) < 0.5, None, None, None)
    assert [t["attribute"] for t in tables] == ["sex", "race", "sex × race"]
    both = {row["group"]: row["n"] for row in tables[2]["groups"]}
    assert both["f × x"] == int(((frame.sex == "f") & (frame.race == "x")).sum())


def test_favourable_class_is_named_assumed_or_unknown() -> None:
    assert groups.favourable_index(None, ("no", "yes")) == 1
    assert groups.favourable_index("no", ("no", "yes")) == 0
    assert groups.favourable_index(None, ("a", "b", "c")) is None
    with pytest.raises(UnknownName, match="yes"):
        groups.favourable_index("yess", ("no", "yes"))


def test_groups_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 rows and the data 4"):
        groups.frame_of(pd.DataFrame({"g": [1, 2, 3]}), 4)


def test_exactly_four_fifths_passes_whatever_the_last_bit() -> None:
    found = table(*two((45, 100), (36, 100)))
    assert found["groups"][1]["ratio"] == pytest.approx(0.8) and found["status"] == "pass"
