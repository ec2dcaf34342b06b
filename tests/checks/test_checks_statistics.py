"""The figures beneath the checks, against scipy, scikit-learn, brute force, and their own promises."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from explainer.checks import outliers
from explainer.checks.drift import benjamini_hochberg, compare, compare_counts, compare_numbers
from explainer.checks.leakage import auc_by_fold, auc_by_size, binned
from explainer.checks.neighbours import close_texts, shingles, signatures
from explainer.checks.outliers import tail_limits
from explainer.checks.pictures import shrink
from explainer.checks.run import check

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "m"), [(40, 60), (400, 300), (5000, 800)])
def test_numbers_are_compared_as_scipy_compares_them(n, m):
    a, b = RNG.normal(size=n), RNG.normal(0.2, 1.1, size=m)
    distance, p = compare_numbers(a, b)
    assert distance == pytest.approx(stats.ks_2samp(a, b).statistic)
    assert p == pytest.approx(stats.ks_2samp(a, b).pvalue, rel=0.1, abs=1e-12)


def test_counts_are_compared_as_scipy_compares_them():
    a, b = np.array([120, 60, 20]), np.array([100, 90, 30])
    distance, p = compare_counts(a, b)
    assert p == pytest.approx(stats.chi2_contingency([a, b], correction=False).pvalue, rel=1e-12)
    assert distance == pytest.approx(0.5 * np.abs(a / a.sum() - b / b.sum()).sum())


def test_rare_counts_are_pooled_so_that_chi_square_holds():
    a, b = np.array([100, 100, *[1] * 10]), np.array([100, 100, *[0] * 10])
    _, p = compare_counts(a, b)
    assert p == pytest.approx(stats.chi2_contingency([[100, 100, 10], [100, 100, 0]], correction=False).pvalue)


def test_adjusted_p_values_are_those_of_scipy():
    p = RNG.random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p, method="bh"))


def test_a_column_is_compared_by_the_test_that_fits_it():
    numbers, few = pd.Series(RNG.normal(size=100)), pd.Series(RNG.integers(0, 3, 100).astype(float))
    words = pd.Series(pd.Categorical(RNG.choice(["a", "b"], 100)))
    assert [t["test"] for t in compare(numbers, numbers)] == ["Kolmogorov-Smirnov"]
    assert [t["test"] for t in compare(few, few)] == ["chi-square"]
    assert [t["test"] for t in compare(words, words)] == ["chi-square"]
    assert [t["test"] for t in compare(numbers.where(numbers > 0), numbers)] == ["chi-square of missing", "Kolmogorov-Smirnov"]


def test_power_of_one_feature_is_its_auc():
    x = RNG.integers(0, 6, 3000)
    y = (RNG.random(3000) < x / 8 + 0.1).astype(int)
    fold = np.arange(3000) % 5
    table = np.zeros((5, 6, 2))
    np.add.at(table, (fold, x, y), 1)
    by_fold = [roc_auc_score(y[fold == f], x[fold == f]) for f in range(5)]
    assert auc_by_fold(table, 1) == pytest.approx(np.mean(by_fold), abs=1e-3)


def test_a_feature_of_pure_chance_has_no_power_however_many_values_it_has():
    x = pd.Series(pd.Categorical([f"v{i}" for i in RNG.integers(0, 300, 2000)]))
    y = RNG.integers(0, 2, 2000)
    codes, _ = binned(x)
    table = np.zeros((5, codes.max() + 1, 2))
    np.add.at(table, (np.arange(2000) % 5, codes, y), 1)
    assert auc_by_fold(table, 1) == pytest.approx(0.5, abs=0.05)


def test_the_size_of_a_number_tells_a_small_class_that_bins_would_mix():
    y = np.repeat([0, 1], [240, 10])
    values = np.where(y == 1, 5.0, 0.0) + RNG.uniform(size=250)
    assert auc_by_size(values, y, [0, 1]) == {0: 1.0, 1: 1.0}
    assert auc_by_size(-values, y, [1]) == {1: 1.0}
    assert auc_by_size(RNG.normal(size=250), y, [0])[0] < 0.8
    assert auc_by_size(np.where(y == 1, np.nan, values), y, [1]) == {1: 1.0}


def test_bins_keep_missing_values_apart_and_whole_codes_whole():
    codes, coded = binned(pd.Series([1.0, 2.0, np.nan, 2.0, 5.0]))
    assert coded
    assert codes.tolist() == [0, 1, 3, 1, 2]
    codes, coded = binned(pd.Series(RNG.normal(size=1000)))
    assert not coded
    assert np.bincount(codes).min() >= 1000 // 32 - 2


@pytest.mark.parametrize("draw", [RNG.normal, RNG.uniform, RNG.exponential, lambda size: RNG.poisson(8, size).astype(float),
                                  lambda size: np.exp(RNG.normal(size=size)), lambda size: np.exp(2 * RNG.normal(size=size)),
                                  lambda size: RNG.pareto(1.5, size)],
                         ids=["normal", "uniform", "exponential", "counts", "lognormal", "wide lognormal", "pareto"])  # fmt: skip
def test_clean_columns_hold_no_outlying_value_in_95_of_100_sets(draw):
    flagged = 0
    for _ in range(100):
        values = draw(size=1000)
        low, high = tail_limits(values)
        flagged += bool(((values < low) | (values > high)).any())
    assert flagged <= 5


def test_limits_of_many_figures_lie_further_out_than_those_of_one():
    values = RNG.normal(size=1000)
    one, many = tail_limits(values), tail_limits(values, 60)
    assert many[0] < one[0]
    assert many[1] > one[1]


@pytest.mark.parametrize("sign", [1, -1])
def test_ten_deviations_in_normal_data_are_outlying(sign):
    found = 0
    for _ in range(50):
        values = np.append(RNG.normal(size=500), sign * 10.0)
        low, high = tail_limits(values)
        found += not low <= sign * 10.0 <= high
    assert found >= 48


def test_departures_are_mahalanobis_distances_from_the_other_points(monkeypatch):
    monkeypatch.setattr(outliers, "STEPS", 0)
    points = RNG.normal(size=(2000, 3)) @ RNG.normal(size=(3, 3))
    points[:5] *= 3
    far, *_ = outliers.departures(points.astype(np.float32))
    for i in range(50):
        rest = np.delete(points, i, axis=0)
        away = points[i] - rest.mean(axis=0)
        assert far[i] == pytest.approx(away @ np.linalg.inv(np.cov(rest.T)) @ away / 3, rel=0.02)


def test_a_tenth_that_lies_far_out_does_not_hide_itself():
    points = RNG.normal(size=(1000, 3))
    points[:90] += [6, 0, 0]
    far, *_ = outliers.departures(points.astype(np.float32))
    assert far[:90].min() > np.quantile(far[90:], 0.99)


@pytest.mark.parametrize("skewed", [False, True])
def test_an_item_that_breaks_what_two_figures_have_in_common_is_named_with_both(skewed):
    """Each of its figures is plausible; where figures grow by factors, it is seen in their logarithms."""
    first = RNG.normal(size=800)
    table = np.stack([first, first + RNG.normal(size=800) * 0.1, *RNG.normal(size=(2, 800))], axis=1)
    table[5, :2] = [0.4, -0.4]
    frame = pd.DataFrame(np.exp(1.5 * table) if skewed else table, columns=["income", "rent", "x", "y"])
    finding = check(frame, only=["outlying items"])[0]
    assert list(finding.rows) == [5]
    assert {said.split(" = ")[0] for said in finding.evidence["strangest figures"]["5"][:2]} == {"income", "rent"}


def test_a_rare_value_of_a_column_is_no_odd_combination():
    frame = pd.DataFrame(RNG.normal(size=(600, 4))).assign(rare=(np.arange(600) % 120 == 0).astype(float) * 7.5)
    assert check(frame, only=["outlying items"])[0].state == "pass"


def test_signatures_estimate_the_shared_share_of_pieces():
    errors = []
    for shared in (20, 50, 80, 95):
        pool = RNG.integers(0, 2**60, 300).astype(np.uint64)
        a, b = np.unique(pool[: 100 + shared // 2]), np.unique(pool[100 - shared : 200])
        exact = len(np.intersect1d(a, b)) / len(np.union1d(a, b))
        marks = signatures([a, b])
        errors.append((marks[0] == marks[1]).mean() - exact)
    assert np.abs(errors).max() < 0.15


def test_likeness_of_texts_is_jaccard_of_their_pieces():
    a = "the quick brown fox jumps over the lazy dog and runs far away into the woods before the night falls"
    b = a.replace("falls", "comes")
    pieces = lambda t: {t[i : i + 5] for i in range(len(t) - 4)}  # noqa: E731 - one line of brute force
    exact = len(pieces(a) & pieces(b)) / len(pieces(a) | pieces(b))
    assert exact > 0.8
    assert close_texts([shingles(a), shingles(b)]) == [(0, 1, pytest.approx(exact))]


def test_near_texts_above_the_threshold_are_nearly_all_found():
    words = np.array([f"w{i}x{i * 31}" for i in range(500)])
    texts = []
    for _ in range(150):
        text = RNG.choice(words, 60)
        twin = text.copy()
        twin[RNG.integers(60, size=2)] = "other"
        texts += [" ".join(text), " ".join(twin)]
    found = {(i, j) for i, j, _ in close_texts([shingles(t) for t in texts])}
    assert len(found & {(2 * k, 2 * k + 1) for k in range(150)}) >= 148
    assert len(found) <= 150


def test_shrinking_keeps_the_mean_brightness():
    images = RNG.random((3, 30, 41))
    np.testing.assert_allclose(shrink(images, 8).mean(axis=(1, 2)), images.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(shrink(images[:, :16, :16], 8)[:, 0, 0], images[:, :2, :2].mean(axis=(1, 2)), rtol=1e-5)
