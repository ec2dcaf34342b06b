"""Intervals of rows that are not independent: whole units are resampled."""

from __future__ import annotations

import numpy as np
import pytest
from audited import drawn_in_units
from scipy.stats import t

from explainer import metrics


def sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(size=(n, 3))
    logits[np.arange(n), labels] += 1
    return labels, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_rows_that_are_copies_say_no_more_than_the_rows_they_are_copies_of() -> None:
    labels, probabilities = sample(40)
    once = metrics.intervals(labels, probabilities)
    copied = np.repeat(labels, 25), np.repeat(probabilities, 25, axis=0)
    whole = metrics.intervals(*copied, units=np.repeat([f"person {k}" for k in range(100, 140)], 25))
    for name, found in once.items():
        assert whole[name] == pytest.approx(found, abs=1e-9), name
    alone = metrics.intervals(*copied)["accuracy"]
    assert alone[2] - alone[1] < (once["accuracy"][2] - once["accuracy"][1]) / 4  # five times too narrow


def test_the_interval_of_units_is_that_of_their_means_and_its_ends_do_not_depend_on_the_order_of_rows() -> None:
    rng = np.random.default_rng(1)
    means, size = rng.normal(size=200), 30
    values, units = (means[:, None] + 0.3 * rng.normal(size=(200, size))).ravel(), np.repeat(np.arange(200), size)
    _, low, high = metrics.intervals(None, values[:, None], units=units)["mean"]
    per_unit = values.reshape(200, size).mean(1)
    half = metrics.Z * per_unit.std() / np.sqrt(200)
    assert high - low == pytest.approx(2 * half, rel=0.1)
    order = rng.permutation(len(values))
    assert metrics.intervals(None, values[order, None], units=units[order])["mean"] == pytest.approx((values.mean(), low, high))


def test_units_of_one_row_each_are_no_units() -> None:
    labels, probabilities = sample(60)
    assert metrics.intervals(labels, probabilities, units=np.arange(60)) == metrics.intervals(labels, probabilities)


def test_the_interval_of_alike_rows_holds_the_truth_about_19_times_in_20() -> None:
    """Forty patients of 25 beats, each patient with a rate of errors of its own around .3."""
    inside, rng = {"units": 0, "rows": 0}, np.random.default_rng(2)
    units, trials = np.repeat(np.arange(40), 25), 200
    for trial in range(trials):
        wrong = (rng.random((40, 25)) < rng.beta(3, 7, (40, 1))).ravel()
        probabilities = np.eye(2)[wrong.astype(int)]
        for name, given in (("units", units), ("rows", None)):
            _, low, high = metrics.intervals(np.zeros(1000, dtype=int), probabilities, trial, 200, given)["accuracy"]
            inside[name] += low <= 0.7 <= high
    assert 0.89 <= inside["units"] / trials <= 0.99
    assert inside["rows"] / trials < 0.8


def test_units_without_an_error_are_as_many_as_they_are() -> None:
    z2 = metrics.Z**2
    labels, units = np.repeat([0, 1], [60, 40]), np.repeat(np.arange(10), 10)  # six units of the one class, four of the other
    found = metrics.intervals(labels, np.eye(2)[labels], units=units)
    assert found["accuracy"] == pytest.approx((1, 10 / (10 + z2), 1))
    assert found["balanced_accuracy"] == pytest.approx((1, 8 / (8 + z2), 1))
    assert found["roc_auc"] == pytest.approx((1, 4 / (4 + z2), 1))


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
    few = (t.ppf(0.975, 599) / t.ppf(0.975, 11)) ** 2  # few units say little of their spread
    assert metrics.worth(np.repeat(hits[:12], 50), np.repeat(np.arange(12), 50)) == pytest.approx(11 * 600 / 599 * few)
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
