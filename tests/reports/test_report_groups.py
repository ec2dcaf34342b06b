from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import fisher_exact

from explainer.errors import InvalidInput, UnknownName
from explainer.reports import fairness, groups


def table(frame: pd.DataFrame, selected: np.ndarray, good: np.ndarray | None = None, right: np.ndarray | None = None) -> dict:
    found = groups.by_group(frame, groups.Decisions(selected, good, right))[0][0]
    fairness.compare(found)
    return found


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
    tables, lacking = groups.by_group(frame, groups.Decisions(rng.random(400) < 0.5))
    assert lacking == []
    assert [t["attribute"] for t in tables] == ["sex", "race", "sex × race"]
    both = {row["group"]: row["n"] for row in tables[2]["groups"]}
    assert both["f × x"] == int(((frame.sex == "f") & (frame.race == "x")).sum())


def test_the_favourable_outcome_is_named_and_never_guessed() -> None:
    assert groups.favourable_of(None, "classification", ("no", "yes")) is None
    assert groups.favourable_of("no", "classification", ("no", "yes")) == 0
    assert groups.favourable_of("low", "regression", ("price",)) == "low"
    with pytest.raises(UnknownName, match="yes"):
        groups.favourable_of("yess", "classification", ("no", "yes"))
    with pytest.raises(UnknownName, match="high"):
        groups.favourable_of("price", "regression", ("price",))


def test_a_regression_selects_the_favourable_side_of_the_median() -> None:
    scores = np.array([[1.0], [2.0], [3.0], [4.0], [5.0]])
    assert groups.estimates(scores, None, "high").selected.tolist() == [False, False, False, True, True]
    assert groups.estimates(scores, None, "low").selected.tolist() == [True, True, False, False, False]
    assert groups.estimates(scores, None, None).selected is None


def test_without_a_favourable_class_what_is_predicted_is_shown_per_class() -> None:
    frame = pd.DataFrame({"g": ["a"] * 20 + ["b"] * 20})
    scores = np.zeros((40, 3))
    scores[np.arange(40), [0] * 15 + [1] * 5 + [2] * 10 + [0] * 10] = 1
    a, b = groups.by_group(frame, groups.decisions(scores, None, None, ("x", "y", "z")))[0][0]["groups"]
    assert [v["rate"] for v in a["predicted"].values()] == [0.75, 0.25, 0] and [v["rate"] for v in b["predicted"].values()] == [0.5, 0, 0.5]
    assert "selection" not in a


def test_groups_selected_alike_are_told_so_and_never_held_against_themselves() -> None:
    for hits, status in ((50, "pass"), (0, "not run"), (25, "pass")):
        found = table(*two((hits, 50), (hits, 50)))
        assert found["status"] == status and "All groups of g are selected alike" in found["reason"] and found["best"] is None


def test_an_error_rate_of_too_few_rows_is_not_shown_but_counted() -> None:
    frame, selected = two((30, 50), (24, 80))
    good = np.array([True] * 41 + [False] * 9 + [True] * 40 + [False] * 40)
    a, b = table(frame, selected, good)["groups"]
    assert a["false_positive"] is None and a["false_positive_low"] is None and a["false_positive_n"] == 9
    assert a["true_positive"] == pytest.approx(30 / 41) and b["false_positive_n"] == 40


def test_a_gap_in_error_rates_is_judged_by_fishers_test_corrected_for_all_comparisons() -> None:
    frame, selected = two((30, 60), (20, 80))
    good = np.array([True] * 10 + [False] * 50 + [True] * 40 + [False] * 40)  # false positives 20 of 50 and 0 of 40
    (found,) = fairness.gaps(groups.by_group(frame, groups.Decisions(selected, good, selected == good))[0])
    false, true = fisher_exact([[20, 30], [0, 40]])[1], fisher_exact([[10, 0], [20, 20]])[1]
    assert found["status"] == "warn" and "false positive rate of g “a” is 40.0\u00a0% of 50, of “b” 0.0\u00a0% of 40" in found["text"]
    assert false < 0.001 < true and "Fisher's exact p < 0.001, p < 0.001 corrected for 2 comparisons" in found["text"]
    assert fairness.holm([true, false]) == pytest.approx([true, 2 * false])


def test_one_gap_of_many_that_chance_may_give_does_not_warn() -> None:
    """26 of 46 refused applicants approved against 3 of 15: unlikely alone, not so among the comparisons of seven attributes."""
    frame, selected = two((126, 146), (103, 115))
    good = selected & ~np.r_[np.ones(26), np.zeros(120), np.ones(3), np.zeros(112)].astype(bool)
    p = fisher_exact([[26, 20], [3, 12]])[1]
    (alone,) = fairness.gaps(groups.by_group(frame, groups.Decisions(selected, good))[0])
    assert alone["status"] == "warn" and f"p = {p:.2g}, p = {2 * p:.2g} corrected for 2 comparisons" in alone["text"]
    rng = np.random.default_rng(0)
    for k in range(6):
        frame[f"other {k}"] = rng.choice(["x", "y"], 261)
    many = fairness.gaps(groups.by_group(frame, groups.Decisions(selected, good))[0][:7])
    assert [one["status"] for one in many] == ["pass"] * 7 and f"p = {14 * p:.2g} corrected for 14 comparisons" in many[0]["text"]


@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.9]])
def test_holm_by_its_definition(p: list[float]) -> None:
    order, m = np.argsort(p, kind="stable"), len(p)
    expected = [max(min(1, (m - j) * p[order[j]]) for j in range(list(order).index(i) + 1)) for i in range(m)]
    assert fairness.holm(p) == pytest.approx(expected)


def test_of_many_attributes_those_with_the_fewest_and_evenest_groups_are_paired_and_the_others_named() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"rare": [1] * 5 + [0] * 395, "many": rng.choice(list("pqrst"), 400)})
    for name in ("sex", "old", "married"):
        frame[name] = rng.choice([0, 1], 400)
    tables, (lacking,) = groups.by_group(frame, groups.Decisions(np.ones(400, dtype=bool)))
    assert [t["attribute"] for t in tables[5:]] == ["sex × old", "sex × married", "old × married"]
    assert "Of 5 attributes only" in lacking["reason"] and "never three together" in lacking["reason"]


def test_groups_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(InvalidInput, match="3 rows and the data 4"):
        groups.frame_of(pd.DataFrame({"g": [1, 2, 3]}), 4)


def test_exactly_four_fifths_passes_whatever_the_last_bit() -> None:
    found = table(*two((45, 100), (36, 100)))
    assert found["groups"][1]["ratio"] == pytest.approx(0.8) and found["status"] == "pass"
