import itertools

import numpy as np
import pandas as pd
import pytest
from games import COLUMNS, frame, regression, wavy
from lime.lime_base import LimeBase
from lime.lime_tabular import LimeTabularExplainer
from lime.lime_text import LimeTextExplainer
from scipy import stats

import explainer
from explainer.methods.bins import Bins
from explainer.methods.lime import _Kernel, _stability_check, narrowest
from explainer.methods.surrogate import Surrogate, select


def text_scores(texts):
    good = np.array([t.split().count("good") - 2 * t.split().count("bad") + 0.3 * len(t.split()) for t in texts], dtype=float)
    p = 1 / (1 + np.exp(-good))
    return np.stack([1 - p, p], axis=1)


def limes_neighbourhood(samples=1500, row=3):
    """``(kept, scores, weights)`` as lime draws and weights them around a row of a table."""
    data = frame(500).to_numpy()
    peer = LimeTabularExplainer(data, mode="regression", feature_names=COLUMNS, random_state=0)
    kept, inverse = peer._LimeTabularExplainer__data_inverse(data[row], samples)
    distances = np.sqrt(((kept - kept[0]) ** 2).sum(1))
    return kept.astype(bool), wavy(inverse), np.sqrt(np.exp(-(distances**2) / (0.75 * 5**0.5) ** 2))


def wide_neighbourhood(samples=900, d=14):
    rng = np.random.default_rng(0)
    kept = rng.random((samples, d)) < 0.5
    kept[0] = True
    kept[:, 7] = kept[:, 3]  # twins: either may be chosen, but not both for a gain
    signal = kept @ rng.normal(size=d) + kept[:, 0] * kept[:, 1] * 3 + 1e4
    return kept, signal + rng.normal(size=samples), rng.random(samples)


def tied_neighbourhood(samples=700, d=9):
    """Neighbouring parts mostly kept together: the gain of a part depends on those chosen before it."""
    rng = np.random.default_rng(3)
    kept = rng.random((samples, d)) < 0.5
    for j in range(1, d):
        kept[:, j] = np.where(rng.random(samples) < 0.8, kept[:, j - 1], kept[:, j])
    kept[0] = True
    return kept, kept @ rng.normal(size=d) + 0.1 * rng.normal(size=samples), rng.random(samples)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # the twins, on the lasso's path
@pytest.mark.parametrize("num_features", [2, 3, 5, 8])
@pytest.mark.parametrize("selection", ["auto", "forward_selection", "highest_weights", "lasso_path", "none"])
@pytest.mark.parametrize("neighbourhood", [limes_neighbourhood, wide_neighbourhood, tied_neighbourhood])
def test_same_neighbourhood_same_selection_and_coefficients_as_lime(neighbourhood, selection, num_features):
    """lime's own code on the same samples: sklearn's Ridge, refitted for every candidate of a selection."""
    kept, scores, weights = neighbourhood()
    base = LimeBase(lambda distances: weights)
    _, listed, fit, _ = base.explain_instance_with_data(
        kept.astype(float), scores[:, None], np.zeros(len(kept)), 0, num_features, feature_selection=selection
    )
    theirs = np.zeros(kept.shape[1])
    for j, value in listed:
        theirs[j] = value
    ours = Surrogate(kept, weights).fit(scores[:, None], num_features, selection)
    assert set(np.flatnonzero(ours.coefficients[:, 0])) == {j for j, value in listed if value}
    np.testing.assert_allclose(ours.coefficients[:, 0], theirs, atol=1e-8)
    np.testing.assert_allclose(ours.r2[0], fit, atol=1e-8)


def test_forward_selection_takes_the_parts_in_limes_order():
    kept, scores, weights = wide_neighbourhood()
    theirs = LimeBase(lambda d: d).forward_selection(kept.astype(float), scores, weights, 6)
    x = kept - np.average(kept, axis=0, weights=weights)
    y = scores - np.average(scores, weights=weights)
    assert select((x * weights[:, None]).T @ x, x.T @ (weights * y), 6, "forward_selection").tolist() == theirs.tolist()


def test_many_scores_on_one_design_are_as_each_alone():
    kept, scores, weights = wide_neighbourhood()
    both = Surrogate(kept, weights).fit(np.stack([scores, kept[:, 4] * 2.0], axis=1), 4)
    for j, alone in enumerate([scores, kept[:, 4] * 2.0]):
        one = Surrogate(kept, weights).fit(alone[:, None], 4)
        np.testing.assert_allclose(both.coefficients[:, j], one.coefficients[:, 0], atol=1e-12)
        np.testing.assert_allclose(both.stderr[:, j], one.stderr[:, 0], rtol=1e-4, atol=1e-12)
        assert both.overlap[j] == one.overlap[0]


def test_standard_errors_are_the_sandwichs():
    kept, scores, weights = wide_neighbourhood(300, 9)
    fit = Surrogate(kept, weights).fit(scores[:, None])
    x = kept - np.average(kept, axis=0, weights=weights)
    residual = scores - np.average(scores, weights=weights) - x @ fit.coefficients[:, 0]
    bread = np.linalg.inv((x * weights[:, None]).T @ x + np.eye(9))
    slow = np.sqrt(np.diag(bread @ (x.T * (weights * residual) ** 2) @ x @ bread))
    np.testing.assert_allclose(fit.stderr[:, 0], slow, rtol=1e-4)


def test_resampled_agreement_tells_what_another_seed_would_say():
    """Overlap between resamples of one run, against the overlap between independent runs."""

    def draw(seed, noise):
        rng = np.random.default_rng(seed)
        kept = rng.random((400, 20)) < 0.5
        return kept, kept @ (0.8 ** np.arange(20)) + noise * rng.normal(size=400)

    for noise, least, most in ((0.3, 0.9, 1.0), (1.0, 0.6, 0.9), (4.0, 0.2, 0.45)):
        runs = [Surrogate(kept, np.ones(400)).fit(y[:, None]) for kept, y in (draw(seed, noise) for seed in range(30))]
        tops = [set(np.argsort(-np.abs(run.coefficients[:, 0]))[:5]) for run in runs]
        seeds = np.mean([len(a & b) / len(a | b) for a, b in itertools.pairwise(tops)])
        told = np.mean([run.overlap[0] for run in runs])
        assert least <= seeds <= most and told == pytest.approx(seeds, abs=0.1)


@pytest.mark.parametrize(("modality", "style"), [("text", "lime"), ("image", "lime")])
def test_kernels_are_limes(modality, style):
    import sklearn.metrics

    kept = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 0, 1]], dtype=float)
    distance = sklearn.metrics.pairwise.pairwise_distances(kept, kept[:1], metric="cosine").ravel()
    peer = LimeTextExplainer().base.kernel_fn(distance * 100) if modality == "text" else np.sqrt(np.exp(-(distance**2) / 0.25**2))
    np.testing.assert_allclose(_Kernel(modality, False, style, None)(kept.astype(bool)), peer, atol=1e-12)


def test_the_narrowest_kernel_leaves_the_effective_samples_asked_for():
    distance = np.linspace(0, 3, 2000)
    for wanted in (50, 500, 1500):
        weights = np.exp(-(distance**2) / (2 * narrowest(distance, np.ones(2000), wanted) ** 2))
        assert weights.sum() ** 2 / (weights**2).sum() == pytest.approx(wanted, rel=1e-6)


def test_bins_are_limes_and_so_is_the_law_inside_them():
    data = frame(300)
    data["few"] = np.random.default_rng(5).integers(0, 3, 300)
    data["skewed"] = np.exp(2 * data["a"])
    data["count"] = np.random.default_rng(6).poisson(20, 300)  # many values on the edges themselves
    peer = LimeTabularExplainer(
        data.to_numpy(), mode="regression", feature_names=list(data.columns), categorical_features=[5], random_state=0
    )
    bins = Bins(data, data)
    codes = peer.discretizer.discretize(data.to_numpy())
    for j in (0, 1, 2, 3, 4, 6, 7):
        np.testing.assert_array_equal(bins.background[:, j], codes[:, j])
    rng = np.random.default_rng(0)
    drawn = bins.draw(40_000, rng)
    ours = bins.frame(drawn, rng)
    theirs = peer._LimeTabularExplainer__data_inverse(data.to_numpy()[0], 40_000)[1][1:]
    for j, name in enumerate(data.columns):
        assert stats.ks_2samp(ours[name], theirs[:, j]).pvalue > 1e-3, name
    # And each value lies in the bin it was drawn for.
    np.testing.assert_array_equal(np.stack([b.background for b in Bins(ours, ours)._columns], 1)[:, 5], ours["few"].factorize()[0])
    again = peer.discretizer.discretize(ours.to_numpy())
    np.testing.assert_array_equal(again[:, [0, 6]], drawn[:, [0, 6]])


def test_a_shared_table_gives_each_row_what_it_gets_alone():
    data = frame(200)
    model = regression(wavy, background=data)
    whole = explainer.explain(model, data[:4], "lime", style="lime", budget=500, verify=False)
    assert whole.provenance.evaluations == 503
    for i in range(4):
        alone = explainer.explain(model, data[i : i + 1], "lime", style="lime", budget=500, verify=False)
        np.testing.assert_allclose(whole[i].values, alone.values, atol=1e-12)


@pytest.mark.parametrize("style", ["lime", "local"])
def test_a_linear_function_of_the_parts_gives_its_coefficients(style):
    words = ["a0", "b1", "c2", "d3", "e4", "f5"]
    planted = np.array([0.3, -0.2, 0.1, 0.0, 0.05, -0.05])

    def score(texts):
        p = np.array([0.4 + sum(planted[words.index(w)] for w in t.split()) for t in texts])
        return np.stack([1 - p, p], axis=1)

    model = explainer.wrap(score, modality="text", class_names=["no", "yes"])
    ex = explainer.explain(model, [" ".join(words)], "lime", target="yes", style=style, budget=4000, verify=False)
    np.testing.assert_allclose(ex.values[0], planted, atol=0.01)
    assert np.abs(ex.values[0] - planted).max() > 0  # the ridge's own shrinkage is still there


def test_an_unstable_order_fails_the_verdict():
    wide = [f"w{j}" for j in range(12)]
    rough = np.random.default_rng(0).normal(size=(12, 60))
    model = regression(lambda x: np.sin(40 * (x @ rough)).sum(axis=1), wide, background=frame(200, wide))
    check = explainer.explain(model, frame(1, wide), "lime", budget=200).verdict.checks["top-k stability"]
    assert check.status == "fail" and "Do not rely" in check.reason
    steady = regression(lambda x: 3 * (x[:, 0] > 0) + (x[:, 1] > 0), background=frame(200))
    assert explainer.explain(steady, frame(1), "lime", budget=8192).verdict.checks["top-k stability"].status == "pass"


def test_stability_is_judged_by_the_weaker_of_the_set_and_the_first():
    assert _stability_check(0.9, 0.3).status == _stability_check(0.3, 0.9).status == "fail"
    assert _stability_check(0.9, 0.6).status == "warn" and _stability_check(0.9, 0.9).status == "pass"


def test_rows_without_a_score_are_left_out_and_counted():
    data = frame(200)
    holes = regression(lambda x: np.where(x[:, 4] > 1.5, np.nan, x[:, 0]), background=data)
    row = data[(data["e"] < 0)][:1]
    ex = explainer.explain(holes, row, "lime", style="lime", verify=False)
    assert int(np.argmax(np.abs(ex.values[0]))) == 0
    assert any("no finite score" in note for note in ex.provenance.notes)


def test_a_budget_in_percent_stops_when_the_error_is_small_enough():
    model, x = (
        regression(lambda x: 3 * x[:, 0] + x[:, 1] * x[:, 2], background=frame(200)),
        pd.DataFrame([[2.0, 1, 1, 0, 0]], columns=COLUMNS),
    )
    ex = explainer.explain(model, x, "lime", budget="8% error", verify=False)
    assert (1.96 * ex.stderr <= 0.08 * np.abs(ex.values).max()).all()
    assert 1024 <= ex.provenance.evaluations < 50_000


def test_wrong_words_are_answered_with_the_right_ones():
    with pytest.raises(explainer.errors.UnknownName, match="local"):
        explainer.explain(regression(wavy), frame(1), "lime", style="locale")
    with pytest.raises(explainer.errors.UnknownName, match="highest_weights"):
        explainer.explain(regression(wavy), frame(1), "lime", feature_selection="highest")
    with pytest.raises(explainer.errors.InvalidInput, match="num_features=0"):
        explainer.explain(regression(wavy), frame(1), "lime", num_features=0)
    with pytest.raises(explainer.errors.InvalidInput, match="kernel_width=-1"):
        explainer.explain(regression(wavy), frame(1), "lime", kernel_width=-1)


def test_top_features_agree_with_the_lime_package():
    data = frame(600)
    model = regression(lambda x: 3 * (x[:, 2] > 0) - 2 * (x[:, 0] > 0.5) + 0.1 * x[:, 1], background=data[:300])
    ours = explainer.explain(model, data[400:401], "lime", style="lime", budget=4000, verify=False)
    peer = LimeTabularExplainer(data[:300].to_numpy(), mode="regression", feature_names=COLUMNS, random_state=0)
    listed = peer.explain_instance(
        data.to_numpy()[400], lambda x: 3 * (x[:, 2] > 0) - 2 * (x[:, 0] > 0.5) + 0.1 * x[:, 1], num_samples=4000
    )
    theirs = dict(listed.as_map()[1])
    order = np.argsort(-np.abs(ours.values[0]))[:2]
    assert set(order) == set(sorted(theirs, key=lambda j: -abs(theirs[j]))[:2]) == {0, 2}
    np.testing.assert_allclose(ours.values[0][order], [theirs[j] for j in order], atol=0.15)


def test_planted_words_come_first():
    model = explainer.wrap(text_scores, modality="text", class_names=["no", "yes"])
    ex = explainer.explain(model, ["a good film with a bad end and more"], "lime", target="yes")
    words = ex.feature_names[0]
    assert words[int(np.argmin(ex.values[0]))] == "bad"
    assert words[int(np.argmax(ex.values[0]))] == "good"
    assert ex.extras["spans"][0].tolist()[1] == [2, 6]


def test_a_linear_game_fits_and_a_parity_game_fails():
    linear = explainer.wrap(
        lambda t: np.array([[len(x.split()) / 10, 1 - len(x.split()) / 10] for x in t]), modality="text", class_names=["p", "q"]
    )
    parity = explainer.wrap(
        lambda t: np.array([[len(x.split()) % 2, 1 - len(x.split()) % 2] for x in t], dtype=float), modality="text", class_names=["p", "q"]
    )
    text = ["one two three four five six seven eight"]
    assert explainer.explain(linear, text, "lime", target=0).verdict.checks["fit"].status == "pass"
    check = explainer.explain(parity, text, "lime", target=0).verdict.checks["fit"]
    assert check.status == "fail"
    assert "does not follow" in check.reason


def test_missing_values_and_categories_are_sampled_as_they_are():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 10, 200), "town": rng.choice(["x", "y", None], 200), "old": rng.random(200) < 0.3})
    table.loc[::7, "age"] = np.nan
    seen = []

    def score(rows):
        seen.append(rows)
        return (rows["town"] == "y").to_numpy() * 1.0 + rows["old"].to_numpy().astype(float)

    model = explainer.wrap(score, modality="tabular", task="regression", class_names=["v"], background=table)
    town_y = table[table["town"] == "y"][:1]
    ex = explainer.explain(model, town_y, "lime", verify=False)
    drawn = max(seen, key=len)
    assert set(drawn["town"].dropna()) <= {"x", "y"}
    assert set(map(bool, drawn["old"])) == {True, False}
    assert ex.values[0][1] == pytest.approx(1, abs=0.1)
    assert ex.extras["rules"][0][1] == "town = y"


def test_standard_errors_shrink_with_the_budget():
    model, x = regression(wavy, background=frame(200)), frame(1)
    few, many = (explainer.explain(model, x, "lime", budget=b, verify=False).stderr.mean() for b in (300, 4800))
    assert few / many == pytest.approx(4, rel=0.35)
