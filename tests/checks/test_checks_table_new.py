"""Missingness, dates, units and categories: each defect is found and named, clean tables are left alone, over 20 seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from explainer.checks import missingness, units
from explainer.checks.missingness import little_mcar

SEEDS = range(20)


def table(seed=0, n=400):
    """Light and heavy tails, whole numbers, categories, dates; one value in twelve missing at random in four columns."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "height": rng.normal(170, 10, n),
            "temperature": rng.normal(36.8, 0.5, n),
            "income": rng.lognormal(10, 0.5, n),
            "wealth": rng.pareto(1.5, n) + 1,
            "x": rng.normal(size=n),
            "age": rng.integers(18, 90, n),
            "city": rng.choice(["Roma", "Paris", "Berlin"], n, p=[0.6, 0.3, 0.1]),
            "job": [f"job {min(v, 900)}" for v in rng.zipf(1.5, n)],
            "flag": rng.random(n) < 0.3,
            "start": pd.to_datetime("2012-01-01") + pd.to_timedelta(rng.integers(0, 2000, n), unit="D"),
        }
    )
    frame["end"] = frame["start"] + pd.to_timedelta(rng.integers(0, 90, n), unit="D")
    frame["visit"] = [f"{d:02d}.{m:02d}.{y}" for d, m, y in rng.integers((1, 1, 1990), (28, 13, 2023), (n, 3))]
    for name in ("income", "x", "city", "age"):
        frame[name] = frame[name].mask(pd.Series(rng.random(n) < 1 / 12))
    return frame


NEW = ("missingness pattern", "impossible dates", "unit jumps", "rare categories", "unseen categories")


def test_clean_tables_pass(found):
    wrong = []
    for seed in SEEDS:
        frame, labels = table(seed), np.random.default_rng(seed).integers(0, 2, 400)
        for name in NEW:
            finding = found(name, frame, labels, reference=table(seed + 1000))
            assert finding.state in ("pass", "fail"), finding.message
            wrong += [(name, seed, finding.message)] if finding.state == "fail" else []
    assert not wrong


def hide(frame, seed, where):
    """Half of the incomes that are there lost where ``where``."""
    return frame.assign(income=frame["income"].mask(where & (np.random.default_rng(seed).random(len(frame)) < 0.5)))


@pytest.mark.parametrize(
    ("other", "where"),
    [
        ("age", lambda f, y: f["age"] > 60),
        ("city", lambda f, y: f["city"] == "Paris"),
        ("the label", lambda f, y: y == 1),
        ("the row number", lambda f, y: np.arange(len(f)) > 280),
    ],
)
def test_values_missing_for_a_reason(other, where, found):
    hits = 0
    for seed in SEEDS:
        frame, y = table(seed), np.random.default_rng(seed).integers(0, 2, 400)
        finding = found("missingness pattern", hide(frame, seed, where(frame, y)), y)
        pairs = finding.evidence["pairs"]
        hits += finding.state == "fail" and "income" in finding.columns and any(p["other"] == other for p in pairs)
    assert hits >= 19, hits


def test_missingness_is_not_judged_on_a_few_values_and_nothing_missing_passes(found):
    frame = table().dropna()
    assert found("missingness pattern", frame).state == "pass"
    frame.iloc[:4, 0] = np.nan
    assert found("missingness pattern", frame).state == "not run"


def test_rank_tests_agree_with_scipy():
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.integers(0, 9, 300), rng.normal(size=300)]).astype(float)
    values[rng.random(300) < 0.1, 1] = np.nan
    lost = rng.random((300, 1)) < 0.3
    for test, column in zip(missingness._rank_tests(["a"], lost, ["b", "c"], values), values.T, strict=True):
        known = ~np.isnan(column)
        one, two = column[known & lost[:, 0]], column[known & ~lost[:, 0]]
        expected = stats.mannwhitneyu(one, two, method="asymptotic", use_continuity=False)
        assert test["p"] == pytest.approx(expected.pvalue)
        assert test["effect"] == pytest.approx(abs(2 * expected.statistic / (len(one) * len(two)) - 1))


def test_littles_p_is_uniform_at_random_and_tiny_otherwise():
    ps, powers = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 3))
        at_random = x.copy()
        at_random[rng.random(x.shape) < 0.15] = np.nan
        ps.append(little_mcar(at_random)[2])
        if seed < 20:
            x[(x[:, 0] > 0) & (rng.random(300) < 0.5), 1] = np.nan
            powers.append(little_mcar(x)[2])
    assert stats.kstest(ps, "uniform").pvalue > 0.01
    assert max(powers) < 1e-4


def test_little_by_hand_where_the_likelihood_has_a_closed_form():
    """Two columns, the second missing in some rows: the likelihood factors, so mean and variances have closed forms (Anderson, 1957)."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.6], [0, 0.8]])
    x[:60, 1] = np.nan
    full, first = x[60:], x[:, 0]
    slope = np.cov(full.T, bias=True)[0, 1] / full[:, 0].var()
    variance = first.var() * 200 / 199
    mean = np.array([first.mean(), full[:, 1].mean() + slope * (first.mean() - full[:, 0].mean())])
    rest = (full[:, 1] - full[:, 1].mean() - slope * (full[:, 0] - full[:, 0].mean())).var()
    cov = np.array([[first.var(), slope * first.var()], [slope * first.var(), rest + slope**2 * first.var()]]) * 200 / 199
    off = full.mean(axis=0) - mean
    expected = 140 * off @ np.linalg.solve(cov, off) + 60 * (x[:60, 0].mean() - mean[0]) ** 2 / variance
    statistic, freedom, p = little_mcar(x)
    assert freedom == 1
    assert statistic == pytest.approx(expected, rel=1e-4)
    assert p == pytest.approx(stats.chi2.sf(expected, 1), rel=1e-3)


DATES = {
    "of a day that does not exist": lambda f, r: f.assign(visit=f["visit"].where(~r, "30.02.2021")),
    "not written as dates": lambda f, r: f.assign(visit=f["visit"].where(~r, "soon after")),
    "before 1900": lambda f, r: f.assign(visit=f["visit"].where(~r, "04.05.1066")),
    "in the future": lambda f, r: f.assign(visit=f["visit"].where(~r, "04.05.2199")),
    "on 1970-01-01, a default": lambda f, r: f.assign(start=f["start"].where(~r, pd.Timestamp("1970-01-01"))),
    "on 1900-01-01, a default": lambda f, r: f.assign(visit=f["visit"].where(~r, "01.01.1900")),
    "before 'start'": lambda f, r: f.assign(end=f["end"].where(~r, f["start"] - pd.Timedelta(days=40))),
}


@pytest.mark.parametrize("reason", DATES)
def test_impossible_dates(reason, found):
    for seed in SEEDS:
        rows = np.isin(np.arange(400), np.random.default_rng(seed).choice(400, 6, replace=False))
        finding = found("impossible dates", DATES[reason](table(seed), rows))
        assert finding.state == "fail", (seed, finding.message)
        assert finding.rows == tuple(np.flatnonzero(rows))
        assert reason in next(iter(finding.evidence.values()))


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y/%m/%d %H:%M", "%d.%m.%Y", "%m/%d/%Y", "%d %b %Y", "%B %d, %Y", "%Y-%m-%dT%H:%M:%SZ"])
def test_dates_are_read_in_the_forms_people_write(form, found):
    days = pd.date_range("2010-01-01", periods=400, freq="D").strftime(form).tolist()
    assert found("impossible dates", pd.DataFrame({"day": days, "x": range(400)})).state == "pass"
    days[7] = days[7].replace("2010", "1066")
    assert found("impossible dates", pd.DataFrame({"day": days, "x": range(400)})).rows == (7,)


def test_dates_written_as_whole_numbers_under_the_name_of_a_date(found):
    days = pd.Series(pd.date_range("2010-01-01", periods=400, freq="D").strftime("%Y%m%d").astype(int))
    assert found("impossible dates", pd.DataFrame({"order_date": days})).state == "pass"
    days[5] = 20100230
    assert found("impossible dates", pd.DataFrame({"order_date": days})).rows == (5,)
    assert found("impossible dates", pd.DataFrame({"part": days})).state == "not run"


def test_a_column_of_times_to_come_or_of_long_ago_is_what_it_is(found):
    future = pd.date_range("2190-01-01", periods=60, freq="D").strftime("%Y-%m-%d").tolist() + ["2020-01-05"] * 340
    assert found("impossible dates", pd.DataFrame({"due date": future[40:] + future[:40]})).state == "pass"
    assert found("impossible dates", pd.DataFrame({"day": pd.date_range("1700-01-01", periods=400, freq="D")})).state == "pass"
    monthly = pd.DataFrame({"month": np.repeat(pd.date_range("1965-01-01", periods=120, freq="MS"), 5)})
    assert found("impossible dates", monthly).state == "pass"  # 1970-01-01 is one of them


def test_a_birth_comes_before_everything(found):
    frame = pd.DataFrame({"birth_date": pd.date_range("1950-01-01", periods=50), "admission": pd.date_range("2000-01-01", periods=50)})
    assert found("impossible dates", frame).state == "pass"
    frame.loc[3, "admission"] = pd.Timestamp("1949-05-05")
    assert found("impossible dates", frame).rows == (3,)


UNITS = {
    "height": (lambda v: v / 2.54, "2.54"),
    "temperature": (lambda v: v * 1.8 + 32, "Fahrenheit"),
    "income": (lambda v: v / 1000, "1,000"),
}


@pytest.mark.parametrize("column", UNITS)
@pytest.mark.parametrize("how", ["single rows", "block"])
def test_values_in_another_unit(column, how, found):
    convert, named = UNITS[column]
    hits = 0
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        rows = rng.choice(400, 40, replace=False) if how == "single rows" else np.arange(40) + rng.integers(360)
        frame = table(seed).assign(income=lambda f: f["income"].fillna(f["income"].median()))
        frame.loc[rows, column] = convert(frame.loc[rows, column])
        finding = found("unit jumps", frame)
        hits += finding.columns == (column,) and named in finding.message and len(set(finding.rows) & set(rows)) >= 36
    assert hits >= 19, hits


@pytest.mark.parametrize("factor", [10, 2.2046, 3.281])
def test_a_block_in_another_unit_is_found_in_a_wide_column(factor, found):
    hits = 0
    for seed in SEEDS:
        frame = table(seed, 2000)
        start = np.random.default_rng(seed).integers(1700)
        frame.loc[start : start + 299, "income"] *= factor
        hits += found("unit jumps", frame).columns == ("income",)
    assert hits >= 19, hits


def test_another_population_is_no_other_unit(found):
    """Children among adults: smaller by some factor, and different in other columns too."""
    frame = table(3)
    rows = np.arange(100, 160)
    frame.loc[rows, "height"] /= 2.54
    frame.loc[rows, "x"] = frame.loc[rows, "x"].fillna(0) + 1.3
    assert found("unit jumps", frame).state == "pass"


def test_unit_jumps_need_measured_columns(found):
    assert found("unit jumps", table()[["city", "flag"]]).state == "not run"


def test_the_gap_test_keeps_its_level_on_heavy_tails():
    false = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        for x in (rng.pareto(1, 300) + 1, rng.lognormal(0, 2, 300), np.abs(rng.standard_cauchy(300)), rng.exponential(1, 300)):
            false += np.isfinite(units._gap(np.unique(np.log(x))))
    assert false <= 2, false  # of 800, at one in ten thousand


def test_kuipers_tail():
    assert units._kuiper(1.747) == pytest.approx(0.05, abs=2e-4)
    assert units._kuiper(2.001) == pytest.approx(0.01, abs=2e-4)


def test_rare_categories(found):
    for seed in SEEDS:
        frame = table(seed)
        frame.loc[[5, 50, 300], "city"] = "Rmoa"
        finding = found("rare categories", frame)
        assert finding.rows == (5, 50, 300)
        assert finding.columns == ("city",)
        assert finding.evidence["city"] == {"Rmoa": 3}
    assert found("rare categories", table()[["height"]]).state == "not run"


def test_unseen_categories(found):
    for seed in SEEDS:
        frame, reference = table(seed), table(seed + 1000)
        frame.loc[[5, 50, 300], "city"] = "Oslo"
        finding = found("unseen categories", frame, reference=reference)
        assert finding.rows == (5, 50, 300)
        assert finding.columns == ("city",)
        assert finding.evidence["city"]["not in the reference"] == ["Oslo"]
    assert found("unseen categories", frame).state == "not run"
    assert found("unseen categories", frame[["height"]], reference=reference).state == "not run"


def test_unseen_codes_are_found_and_counts_may_go_on(found):
    rng = np.random.default_rng(0)
    reference = pd.DataFrame({"chest pain": rng.integers(1, 5, 400), "children": rng.poisson(1.0, 400)})
    frame = pd.DataFrame({"chest pain": rng.integers(1, 5, 400), "children": rng.poisson(1.0, 400)})
    frame.loc[9, "children"] = 8
    assert found("unseen categories", frame, reference=reference).state == "pass"
    frame.loc[3, "chest pain"] = 0
    finding = found("unseen categories", frame, reference=reference)
    assert (finding.columns, finding.rows) == (("chest pain",), (3,))
