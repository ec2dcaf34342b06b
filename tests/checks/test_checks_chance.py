"""What chance gives and what it does not: near rows, gaps in tails, codes, values told and single defaults."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from explainer.checks.frame import TableView
from explainer.checks.neighbours import close_ranks
from explainer.checks.outliers import tail_limits
from explainer.checks.rules import infer_rules
from explainer.checks.run import check

RNG = np.random.default_rng(7)


def amounts(n=500, seed=0):
    """Counts that many rows share beside amounts that none do."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(np.exp(rng.normal(5, 0.5, (n, 4))), columns=list("abcd"))
    return frame.assign(lines=rng.poisson(2.0, n).astype(float), months=rng.choice([180.0, 240.0, 360.0], n, p=[0.1, 0.1, 0.8]))


def test_rows_copied_with_every_number_slightly_changed_are_near_where_many_rows_share_a_value():
    for seed in range(10):
        frame = amounts(seed=seed)
        copies = frame.iloc[:5] * (1 + np.random.default_rng(seed).normal(0, 1e-4, (5, 6)))
        finding = check(pd.concat([frame, copies], ignore_index=True), only=["near duplicates"])[0]
        assert finding.rows == (500, 501, 502, 503, 504), (seed, finding.message)
        assert check(copies, reference=frame, only=["overlap, near"])[0].count == 5
        assert check(frame, only=["near duplicates"])[0].state == "pass"


def close_pairs(frame, width=0.01):
    """Every pair of rows within ``width`` of the ranks in each column, counted one by one."""
    ranks = (frame.rank().to_numpy() - 0.5) / len(frame)
    gaps = np.abs(ranks[:, None] - ranks[None]).max(axis=2)
    return int((gaps[np.triu_indices(len(frame), 1)] <= width).sum())


@pytest.mark.parametrize("columns", [2, 3])
def test_so_many_near_pairs_come_by_chance(columns):
    counted, expected = [], []
    for seed in range(40):
        frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(325, columns)))
        counted.append(close_pairs(frame))
        expected.append(close_ranks(TableView(frame), None)[1])
    assert np.mean(expected) == pytest.approx(np.mean(counted), abs=3 * np.std(counted) / 40**0.5)


def test_near_duplicates_say_how_many_chance_would_give_not_that_values_are_few():
    rng = np.random.default_rng(3)
    amounts = rng.normal(size=294)
    one = pd.DataFrame({"amount": np.append(amounts, amounts[:31]), "fee": np.repeat([0, 1], [294, 31])})
    finding = check(one, only=["near duplicates"])[0]
    assert one["amount"].nunique() == 294
    assert finding.state == "not run"
    assert "few values" not in finding.message
    told = float(re.search(r"Some ([\d,]+) pairs", finding.message)[1].replace(",", ""))
    assert told == pytest.approx(close_pairs(one), rel=0.1)


def test_where_no_two_rows_are_near_that_is_said_though_chance_might_have_given_some():
    none = set()
    for seed in range(30):
        frame = pd.DataFrame(np.random.default_rng(seed).normal(size=(325, 3)))
        finding = check(frame, only=["near duplicates"])[0]
        assert finding.state == "pass"
        near = close_pairs(frame) > 0
        assert ("No two unequal rows" in finding.message, "by chance" in finding.message) == (not near, near)
        none.add(near)
    assert none == {True, False}


def test_so_many_equal_pairs_come_by_chance_between_sets_of_unlike_size():
    told, counted = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        here, there = (pd.DataFrame(rng.integers(0, 6, size=(n, 4))) for n in (60, 900))
        told.append(
            float(re.search(r"give ([\d,.]+) such", check(here, reference=there, only=["overlap, exact"])[0].message)[1].replace(",", ""))
        )
        counted.append(len(here.merge(there, on=list(range(4)))))
    assert np.mean(told) == pytest.approx(np.mean(counted), rel=0.1)


def test_neighbouring_codes_are_not_nearly_equal():
    frame = amounts()
    other = frame.iloc[:5].assign(lines=frame["lines"].iloc[:5] + 1)
    assert check(pd.concat([frame, other], ignore_index=True), only=["near duplicates"])[0].state == "pass"


def test_a_single_default_far_from_all_other_days_is_impossible_and_one_among_them_is_not():
    days = pd.date_range("1990-01-02", periods=300, freq="D").strftime("%Y-%m-%d").tolist()
    assert check(pd.DataFrame({"day": [*days, "1900-01-01"]}), only=["impossible dates"])[0].rows == (300,)
    births = pd.date_range("1920-01-01", periods=300, freq="100D").strftime("%Y-%m-%d").tolist()
    assert check(pd.DataFrame({"born": [*births, "1900-01-01"]}), only=["impossible dates"])[0].state == "pass"


@pytest.mark.parametrize(("rows", "hits", "state"), [(30, 28, "fail"), (30, 24, "pass"), (160, 131, "pass"), (160, 145, "fail")])
def test_a_value_tells_a_rare_label_only_where_that_is_sure(rows, hits, state):
    flag, y = np.zeros(2000), np.zeros(2000, dtype=int)
    flag[:rows], y[:hits], y[rows : rows + 150] = 1, 1, 1
    order = RNG.permutation(2000)
    assert check(pd.DataFrame({"flag": flag[order], "x": RNG.normal(size=2000)}), y[order], only=["label given away"])[0].state == state


def test_codes_with_a_rare_value_may_have_rarer_ones():
    reference = pd.DataFrame({"reports": np.repeat([1, 2, 3], [250, 135, 15]), "pain": np.arange(400) % 4})
    frame = pd.DataFrame({"reports": np.repeat([1, 2, 3, 4], [250, 135, 14, 1]), "pain": np.arange(400) % 4})
    assert check(frame, reference=reference, only=["unseen categories"])[0].state == "pass"


def test_rules_ask_only_what_enough_rows_show():
    rare = np.zeros(450)
    rare[:8] = [3, 5, 9, 12, 17, 20, 25, 28]
    rules = infer_rules(pd.DataFrame({"debt": RNG.permutation(rare), "sum": RNG.integers(0, 9999, 450).astype(float)})).columns
    assert (rules["debt"].low, rules["debt"].high) == (0.0, None)
    assert not rules["sum"].whole
    assert infer_rules(pd.DataFrame({"sum": RNG.integers(0, 9999, 1200).astype(float)})).columns["sum"].whole
    wrong = 0
    for _ in range(50):
        rule = infer_rules(pd.DataFrame({"t": RNG.standard_t(2, 450)})).columns["t"]
        new = RNG.standard_t(2, 600)
        wrong += bool(((new < rule.low) | (new > rule.high)).any())
    assert wrong <= 8  # of the heaviest tails


def test_a_value_beyond_a_wide_gap_is_outlying_in_a_heavy_tail_and_the_largest_of_that_tail_is_not():
    found = clean = 0
    for _ in range(100):
        values = np.exp(RNG.normal(5, 0.6, 600))
        limits = tail_limits(np.append(values, 300 * np.median(values)))
        found += limits[1] < 300 * np.median(values)
        tail = RNG.pareto(2.0, 600)
        clean += bool((tail > tail_limits(tail)[1]).any())
    assert found >= 95
    assert clean <= 5
