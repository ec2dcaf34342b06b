"""Anchors: rules known by construction, the search's bounds against slow ones, and what is said where there is no rule."""

import itertools

import numpy as np
import pandas as pd
import pytest
from games import COLUMNS, frame, regression
from scipy import stats

import explainer
from explainer.methods.rules import Draws, bounds, clopper_pearson

DATA = frame(400)


def corner(x):
    """Class "yes" where the first column is high and the fourth is low."""
    yes = ((x[:, 0] > DATA["a"].quantile(0.75)) & (x[:, 3] <= DATA["d"].quantile(0.25))).astype(float)
    return np.stack([1 - yes, yes], axis=1)


def classifier(function, **options):
    return explainer.wrap(
        lambda t: function(t.to_numpy()), modality="tabular", class_names=["no", "yes"], feature_names=COLUMNS, background=DATA, **options
    )


def inside():
    return DATA[corner(DATA.to_numpy())[:, 1] == 1][:3].reset_index(drop=True)


def test_the_rule_that_made_the_prediction_is_found_on_a_table():
    ex = explainer.explain(classifier(corner), inside(), "anchors")
    for i in range(3):
        assert ex.extras["anchor"][i].tolist() == [True, False, False, True, False]
        assert ex.extras["rule"][i].startswith("if a > ") and " and d <= " in ex.extras["rule"][i] and "stays yes" in ex.extras["rule"][i]
        assert ex.extras["precision"][i] == 1.0 and ex.extras["precision interval"][i][1] == 1.0
        # Both columns are needed: 1/4 x 1/4 agree by chance, all of them under the rule.
        assert ex.values[i].sum() == pytest.approx(1 - 1 / 16, abs=0.03)
        expected = ((DATA["a"] > DATA["a"].quantile(0.75)) & (DATA["d"] <= DATA["d"].quantile(0.25))).mean()
        assert ex.extras["coverage"][i] == pytest.approx(expected)
        assert ex[i].verdict.checks["precision"].status == "pass"


def test_the_words_that_made_the_prediction_are_found_in_a_text():
    def score(texts):
        yes = np.array([float("not" in t.split() and "bad" in t.split()) for t in texts])
        return np.stack([1 - yes, yes], axis=1)

    model = explainer.wrap(score, modality="text", class_names=["no", "yes"])
    ex = explainer.explain(model, ["this film is really not as bad as they say"], "anchors")
    assert [n for n, a in zip(ex.feature_names[0], ex.extras["anchor"][0], strict=True) if a] == ["not", "bad"]
    assert ex.extras["rule"][0] == 'if "not", "bad" are kept, then the prediction stays yes'
    assert ex.extras["coverage"][0] == 0.25
    np.testing.assert_allclose(ex.values[0].sum(), 0.75, atol=0.06)


def test_a_shortest_rule_is_preferred_where_one_part_is_enough():
    ex = explainer.explain(classifier(corner), DATA[DATA["a"] < -1][:1], "anchors")
    # "no" holds already wherever the first column is not high, and in 15 of 16 copies of any kind.
    assert ex.extras["anchor"][0].sum() <= 1 and ex.extras["precision"][0] > 0.9


def test_the_measured_precision_is_the_true_one():
    """By construction: under the rule's bins, the share of agreeing copies is known in closed form."""

    def score(x):
        yes = ((x[:, 0] > DATA["a"].quantile(0.5)) & (x[:, 1] > DATA["b"].quantile(0.25))).astype(float)
        return np.stack([1 - yes, yes], axis=1)

    row = DATA[(DATA["a"] > 1) & (DATA["b"] > 1)][:1]
    misses = 0
    for seed in range(20):
        ex = explainer.explain(classifier(score), row, "anchors", parts=1, precision=0.9, seed=seed, budget=400, verify=False)
        low, high = ex.extras["precision interval"][0]
        (part,) = np.flatnonzero(ex.extras["anchor"][0])
        truth = {0: 0.75, 1: 0.5}[part]
        misses += not low <= truth <= high
    assert misses <= 3
    check = explainer.explain(classifier(score), row, "anchors", parts=1, precision=0.9).verdict.checks["precision"]
    assert check.status == "fail" and "No rule within these limits" in check.reason


def test_what_the_search_found_lucky_is_measured_afresh():
    """On noise every rule is right half of the time; the best of many looks better than that, but not on fresh draws."""
    wide = [f"w{j}" for j in range(12)]
    rough = np.random.default_rng(0).normal(size=12)
    table = frame(300, wide)
    model = explainer.wrap(
        lambda t: np.stack([np.sin(3000 * (t.to_numpy() @ rough)) < 0, np.sin(3000 * (t.to_numpy() @ rough)) >= 0], axis=1).astype(float),
        modality="tabular", class_names=["no", "yes"], feature_names=wide, background=table,
    )  # fmt: skip
    runs = [explainer.explain(model, table[:1], "anchors", seed=seed, budget=400, parts=3, verify=False) for seed in range(24)]
    assert np.mean([run.extras["precision"][0] for run in runs]) == pytest.approx(0.5, abs=0.03)
    assert sum(run.extras["precision interval"][0][0] > 0.5 for run in runs) <= 3


def test_a_regression_keeps_its_value_within_the_tolerance():
    model = regression(lambda x: 10.0 * (x[:, 2] > DATA["c"].quantile(0.75)) + 0.01 * x[:, 0], background=DATA)
    row = DATA[DATA["c"] > 1][:1]
    for options in ({}, {"tolerance": 1.0}):
        ex = explainer.explain(model, row, "anchors", **options)
        assert np.flatnonzero(ex.extras["anchor"][0]).tolist() == [2]
        assert "the value stays within" in ex.extras["rule"][0]
    tight = explainer.explain(model, row, "anchors", tolerance=1e-5)
    assert tight.verdict.checks["precision"].status == "fail"


def test_margins_keep_their_side_and_functions_of_one_class_are_that_class():
    model, row = classifier(corner), inside()[:1]
    margin = explainer.explain(model, row, "anchors", target=("margin", "yes", "no"), verify=False)
    assert "yes stays ahead of no" in margin.extras["rule"][0]
    function = explainer.explain(model, row, "anchors", target=lambda scores: scores[:, 1], verify=False)
    assert "stays yes" in function.extras["rule"][0]
    curved = explainer.explain(model, row, "anchors", target=lambda scores: scores[:, 1] ** 2, verify=False)
    assert "within" in curved.extras["rule"][0]
    every = explainer.explain(model, row, "anchors", target="all", verify=False)
    assert "stays yes" in every.extras["rule"][0][1] and "does not become no" in every.extras["rule"][0][0]


def test_grouped_columns_enter_a_rule_together():
    ex = explainer.explain(classifier(corner), inside()[:1], "anchors", features={"pair": ["a", "d"]}, verify=False)
    assert ex.extras["anchor"][0].tolist() == [name == "pair" for name in ex.feature_names[0]]


def test_every_draw_counts_for_every_rule_it_is_fair_to():
    """Tallies from shared draws against the exact conditional precision of a small game."""
    d, rng = 4, np.random.default_rng(0)
    table = rng.random(2**d) < 0.5
    weigh = 2 ** np.arange(d)
    under = rng.random((60_000, d)) < rng.choice([0.0, 0.3, 0.6], 60_000)[:, None]
    kept = under | (rng.random(under.shape) < 0.5)
    draws = Draws(under, kept, table[kept @ weigh])
    for members in itertools.product([False, True], repeat=d):
        rule = np.array(members)
        hits, total = draws.tally(rule[None])
        copies = [np.array(z) | rule for z in itertools.product([False, True], repeat=d)]
        assert hits[0] / total[0] == pytest.approx(np.mean([table[z @ weigh] for z in copies]), abs=4 * 0.5 / np.sqrt(total[0]))


def test_bounds_are_where_the_divergence_reaches_the_level():
    hits, total = np.array([0.0, 3, 50, 100, 0]), np.array([10.0, 10, 100, 100, 0])
    low, high = bounds(hits, total, 2.0)
    assert low[0] == low[4] == 0 and high[3] == high[4] == 1
    for j in (1, 2):
        p = hits[j] / total[j]
        for q in (low[j], high[j]):
            assert total[j] * stats.entropy([p, 1 - p], [q, 1 - q]) == pytest.approx(2.0, abs=1e-6)
    for hit, of in ((0, 20), (7, 20), (20, 20), (0, 0)):
        exact = stats.binomtest(hit, of).proportion_ci(0.95) if of else (0.0, 1.0)
        np.testing.assert_allclose(clopper_pearson(hit, of), tuple(exact), atol=1e-12)


def test_a_percent_budget_measures_as_finely_and_limits_are_checked():
    ex = explainer.explain(classifier(corner), inside()[:1], "anchors", budget="2% error", verify=False)
    low, high = ex.extras["precision interval"][0]
    assert high - low <= 0.04 and ex.provenance.evaluations > 2401
    for wrong in ({"precision": 1.0}, {"beam": 0}, {"parts": 0}, {"tolerance": -1.0}):
        with pytest.raises(explainer.errors.InvalidInput, match=next(iter(wrong))):
            explainer.explain(classifier(corner), inside()[:1], "anchors", **wrong)


def test_missing_values_and_categories_are_bins_of_their_own():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 10, 300), "town": rng.choice(["x", "y", "z"], 300)})
    table.loc[::4, "age"] = np.nan
    model = explainer.wrap(
        lambda t: np.stack([1.0 - t["age"].isna(), 1.0 * t["age"].isna()], axis=1),
        modality="tabular", class_names=["no", "yes"], feature_names=["age", "town"], background=table,
    )  # fmt: skip
    ex = explainer.explain(model, table[:1], "anchors")
    assert ex.extras["rule"][0] == "if age is missing, then the prediction stays yes"


def test_the_rule_stands_in_the_figure_and_in_the_listing():
    from explainer.listing import explanation_facts, print_explanation

    ex = explainer.explain(classifier(corner), inside()[:1], "anchors")
    figure = explainer.plot(ex)
    assert "if a &gt; " in figure.layout.title.subtitle.text and "copies that agree" in figure.layout.xaxis.title.text
    every = explainer.explain(classifier(corner), inside()[:1], "anchors", target="all", verify=False)
    assert "does not become no" in explainer.plot(every, output="no").layout.title.subtitle.text
    for one in (ex, every):
        facts = explanation_facts(one, [0], 3)
        assert facts["instances"][0]["rule"] == one.extras["rule"][0]
        print_explanation(facts)


def test_a_rule_survives_disk(tmp_path):
    ex = explainer.explain(classifier(corner), inside()[:1], "anchors", verify=False)
    ex.save(tmp_path / "rule")
    back = explainer.load(tmp_path / "rule")
    for key in ("rule", "precision", "precision interval", "coverage"):
        assert back.extras[key] == ex.extras[key]
    np.testing.assert_array_equal(back.extras["anchor"][0], ex.extras["anchor"][0])


def test_a_budget_too_small_for_any_rule_says_what_is_enough():
    model = classifier(corner)
    with pytest.raises(explainer.errors.InvalidInput, match=r"budget=20 is too small for a rule: 32 copies.*about 288 are enough"):
        explainer.explain(model, inside()[:1], "anchors", budget=20)
    few, enough = (explainer.explain(model, inside()[:1], "anchors", budget=b).verdict.checks["precision"] for b in (40, 600))
    assert few.status == "fail" and enough.status == "pass"


def test_a_rule_is_judged_by_what_it_promises():
    ex = explainer.explain(classifier(corner), inside(), "anchors")
    for verdict in ex.verdicts:
        assert verdict.status == "pass" and "keeps what it promises" in verdict.reason
        assert verdict.checks["faithfulness"].status == "not run" and "within ±" in verdict.checks["sampling error"].reason
    always = classifier(lambda x: np.stack([np.zeros(len(x)), np.ones(len(x))], axis=1))
    empty = explainer.explain(always, inside()[:1], "anchors")
    assert not empty.extras["anchor"][0].any() and empty.verdict.status == "pass"


def test_an_error_asked_of_a_precision_and_not_reached_is_said(monkeypatch):
    from explainer.methods.anchors import _Limits

    monkeypatch.setattr(_Limits, "measured", property(lambda self: 400))
    noise = classifier(lambda x: np.stack([np.sin(3000 * x.sum(1)) > 0, np.sin(3000 * x.sum(1)) <= 0], axis=1).astype(float))
    ex = explainer.explain(noise, DATA[:1], "anchors", budget="1% error", parts=1)
    check = ex.verdict.checks["sampling error"]
    assert check.value == pytest.approx(0.05, abs=0.01) and check.status == "warn"
    assert any("1.00%, was not reached for 1 of 1 inputs" in note for note in ex.provenance.notes)


def test_parts_outside_of_the_rule_are_not_listed():
    from explainer.listing import explanation_facts

    for rows, parts in ((inside()[:1], {"a", "d"}), (DATA[DATA["a"] < -1][:1], set())):
        ex = explainer.explain(classifier(corner), rows, "anchors", verify=False, precision=0.9)
        facts = explanation_facts(ex, [0], 12)["instances"][0]
        assert {feature["feature"] for feature in facts["features"]} == parts and facts["features_in_all"] == len(parts)
