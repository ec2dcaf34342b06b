"""Drift: its measures against scipy and brute force, and what differs only when columns are taken together."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from explainer.checks.drift import compare, jensen_shannon, stability, wasserstein
from explainer.checks.together import discrepancy, matrix

spec = importlib.util.spec_from_file_location("checks_clean_data", Path(__file__).parent / "conftest.py")
clean = importlib.util.module_from_spec(spec)
spec.loader.exec_module(clean)
images, table, texts = clean.images, clean.table, clean.texts

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "m"), [(50, 50), (700, 300), (5000, 40)])
def test_wasserstein_is_that_of_scipy_over_the_spread(n, m):
    a, b = RNG.normal(size=n), np.round(RNG.normal(0.3, 2, size=m), 1)
    assert wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b) / b.std())
    assert wasserstein(b, b) == 0
    assert wasserstein(a + 5, a) == pytest.approx(5 / a.std())


def test_jensen_shannon_is_that_of_scipy():
    a, b = RNG.integers(0, 50, 12), RNG.integers(1, 50, 12)
    assert jensen_shannon(a, b) == pytest.approx(jensenshannon(a, b, base=2))
    assert jensen_shannon(np.array([5, 0]), np.array([0, 5])) == 1


def test_stability_is_its_formula_and_finite():
    a, b = np.array([400.0, 600.0]), np.array([500.0, 500.0])
    p, q = (a + 0.5) / 1001, (b + 0.5) / 1001
    assert stability(a, b) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert np.isfinite(stability(np.array([10, 0]), np.array([0, 10])))


def test_each_column_has_its_measures_side_by_side():
    numbers = compare(pd.Series(RNG.normal(size=400)), pd.Series(RNG.normal(1, 1, size=400)))[0]
    assert {"distance", "p", "Wasserstein / spread", "Jensen-Shannon", "PSI"} <= set(numbers)
    assert numbers["Wasserstein / spread"] == pytest.approx(1, abs=0.2)
    assert numbers["PSI"] > 0.25
    words = [pd.Series(pd.Categorical(RNG.choice(["a", "b", "c"], 400, p=p))) for p in ([0.6, 0.2, 0.2], [0.2, 0.6, 0.2])]
    found = compare(*words)[0]
    assert found["Jensen-Shannon"] > 0.2
    assert found["most changed"] in "ab"


def test_discrepancy_is_that_of_the_formula():
    x, y = RNG.normal(size=(40, 3)), RNG.normal(0.5, 1, size=(40, 3))
    points = np.concatenate([x, y]).astype(np.float32)
    square, p = discrepancy(points, np.arange(80) >= 40, np.random.default_rng(0))
    apart = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    kernel = np.exp(-apart / np.median(apart[np.triu_indices(80, 1)]) / 2)
    np.fill_diagonal(kernel, 0)
    brute = kernel[:40, :40].sum() / (40 * 39) + kernel[40:, 40:].sum() / (40 * 39) - 2 * kernel[:40, 40:].mean()
    assert square == pytest.approx(brute, rel=1e-3)
    assert p < 0.05


def test_discrepancy_of_one_source_has_p_values_spread_evenly():
    p = [discrepancy(RNG.normal(size=(80, 2)).astype(np.float32), np.arange(80) >= 40, np.random.default_rng(s))[1] for s in range(60)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_a_matrix_has_numbers_categories_and_what_is_missing():
    frame = pd.DataFrame({"x": [1.0, 2.0, np.nan, 4.0], "k": pd.Categorical(["a", "b", None, "a"]), "same": [1.0] * 4})
    points, owner = matrix(frame, frame)
    assert points.shape == (8, 5)
    assert owner.tolist() == [0, 0, 1, 1, 1]


def torn(n, seed=0):
    """Columns that each stay as they were, two of which no longer go together."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 5)), columns=list("abcde"))
    frame["b"] = frame["a"] + rng.normal(0, 0.3, n)
    frame["k"] = rng.choice(["u", "v"], n)
    return frame


def test_columns_that_no_longer_go_together_are_drift_together_and_not_apart(found):
    here, there = torn(800), torn(800, 1)
    here["b"] = here["b"].sample(frac=1, random_state=0).to_numpy()
    assert found("drift", here, reference=there).state == "pass"
    finding = found("drift, all together", here, reference=there)
    assert finding.state == "fail"
    assert set(finding.columns[:2]) == {"a", "b"}
    assert finding.p is not None
    assert finding.p < 0.01
    assert finding.value > 0.6
    assert {"maximum mean discrepancy", "classifier", "AUC lost without"} <= set(finding.evidence)


@pytest.mark.parametrize("seed", range(20))
def test_sets_of_one_source_do_not_differ_together(found, seed):
    n = 200 + 100 * (seed % 5)
    assert found("drift, all together", table(n, seed), reference=table(n, seed + 100)).state == "pass"


def test_all_modalities_are_held_together(found):
    assert found("drift, all together", images(120), reference=images(120, 5)).state == "pass"
    assert found("drift, all together", images(120) * 0.6, reference=images(120, 5)).state == "fail"
    assert found("drift, all together", texts(200), reference=texts(200, 5)).state == "pass"


def test_without_enough_to_go_on_it_is_not_run(found):
    assert found("drift, all together", table()).state == "not run"
    assert found("drift, all together", table(20), reference=table()).state == "not run"
    assert found("drift, all together", table()[["n0"]].assign(n0=1.0), reference=table()[["n0"]].assign(n0=1.0)).state == "not run"


def test_the_p_value_stands_in_the_finding():
    from explainer.checks.run import check

    a = pd.DataFrame({"x": RNG.normal(size=300), "z": RNG.normal(size=300)})
    findings = check(
        a + [0.0, 1.0], ["u"] * 250 + ["v"] * 50, reference=a, reference_labels=["u", "v"] * 150, only=["drift", "label drift"]
    )
    for found in findings:
        assert found.state == "fail" and found.p < 0.001
    tests = findings.filter(check="drift")[0].evidence["columns"]
    assert findings.filter(check="drift")[0].p == pytest.approx(tests[0]["adjusted p"], rel=1e-4)
