import numpy as np
import pandas as pd
import pytest
from games import COLUMNS, brute_force, frame, regression, wavy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor

import explainer
from explainer.errors import UnknownName, Unsupported


def test_exact_equals_the_definition():
    model, x = regression(wavy), frame(3)
    ex = explainer.explain(model, x, "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == "exact"
    for i in range(3):
        expected = brute_force(wavy, x.to_numpy()[i], model.background.to_numpy())
        np.testing.assert_allclose(ex.values[i], expected, atol=1e-9)


def test_ten_features_on_a_classifier_equal_brute_force():
    columns = [f"x{j}" for j in range(8)]
    data = frame(200, columns)
    forest = RandomForestClassifier(10, max_depth=4, random_state=0).fit(data, wavy(data.to_numpy()) > 0)
    model = explainer.wrap(forest, background=data[:15])
    ex = explainer.explain(model, data[50:51], "shap", target=1, algorithm="exact", verify=False)
    expected = brute_force(
        lambda rows: forest.predict_proba(pd.DataFrame(rows, columns=columns))[:, 1], data.to_numpy()[50], data.to_numpy()[:15]
    )
    np.testing.assert_allclose(ex.values[0], expected, atol=1e-6)


def test_sampled_values_converge_to_shap_and_to_the_truth():
    import shap

    columns = [f"x{j}" for j in range(13)]
    background, x = frame(10, columns, seed=1), frame(2, columns, seed=2)
    model = regression(wavy, columns, background)
    exact = explainer.explain(model, x, "shap", algorithm="exact", verify=False)
    sampled = explainer.explain(model, x, "shap", budget=20_000, algorithm="permutation", verify=False)
    integrated = explainer.explain(model, x, "shap", budget=2000, algorithm="gaussian", verify=False)
    peer = shap.KernelExplainer(wavy, background.to_numpy()).shap_values(x.to_numpy(), nsamples=2**13, l1_reg=False, silent=True)
    np.testing.assert_allclose(exact.values, peer, atol=1e-6)
    assert np.linalg.norm(integrated.values - exact.values) < 0.02 * np.linalg.norm(exact.values)
    assert np.linalg.norm(sampled.values - exact.values) < 0.03 * np.linalg.norm(exact.values)


def threshold(x):
    return (x.sum(1) > 0.5).astype(float)


def squashed(x):
    return 1 / (1 + np.exp(-2 * x.sum(1)))


@pytest.mark.parametrize("game", [wavy, threshold, squashed])
@pytest.mark.parametrize(("algorithm", "budget"), [("gaussian", 200), ("gaussian", 700), ("gaussian", 2400), ("permutation", 900)])
def test_intervals_cover_the_exact_value(game, algorithm, budget):
    """Games of 13 players: the 95 % intervals must hold what they promise, at small and large budgets, over seeds."""
    columns = [f"x{j}" for j in range(13)]
    model, x = regression(game, columns, frame(1, columns, seed=3)), frame(6, columns)
    exact = explainer.explain(model, x, "shap", algorithm="exact", verify=False).values
    inside = []
    for seed in range(4):
        ex = explainer.explain(model, x, "shap", algorithm=algorithm, budget=budget, seed=seed, verify=False)
        used = ex.stderr > 1e-12
        inside.append((np.abs(ex.values - exact) <= 1.96 * ex.stderr)[used])
    assert np.concatenate(inside).mean() >= 0.88


def test_the_process_is_closer_than_permutations_at_equal_evaluations():
    columns = [f"x{j}" for j in range(13)]
    model, x = regression(wavy, columns, frame(1, columns, seed=3)), frame(8, columns)
    exact = explainer.explain(model, x, "shap", algorithm="exact", verify=False).values

    def error(algorithm):
        ex = explainer.explain(model, x, "shap", algorithm=algorithm, budget=512, verify=False)
        return np.median(np.linalg.norm(ex.values - exact, axis=1) / np.linalg.norm(exact, axis=1))

    assert error("gaussian") < 0.5 * error("permutation")


@pytest.mark.parametrize("size", [1, 3, 5])
def test_the_process_knows_products(size):
    """The product over an odd set of +-1 players gives 2 / size to each of them: the closed form under the kernel."""
    from explainer.methods.quadrature import odd_process

    process = odd_process(9, 255, 0)  # every pair
    x = 2.0 * process.coalitions - 1
    phi, _ = process.values(np.array([-1.0]), np.array([1.0]), x[:, :size].prod(axis=1)[:, None])
    np.testing.assert_allclose(phi[:, 0], np.where(np.arange(9) < size, 2 / size, 0), atol=0.02)


def triples():
    """Products of three of ten players and no more: once every one of them is seen, the values are known almost exactly."""
    rng = np.random.default_rng(5)
    terms = [rng.choice(10, 3, replace=False) for _ in range(40)]
    return list(zip(terms, rng.normal(size=40), strict=True))


def of_triples(x):
    return sum(w * x[:, t].prod(axis=1) for t, w in triples())


@pytest.mark.parametrize("relevance", [False, True])
def test_intervals_shrink_with_the_error_where_a_game_turns_out_simple(relevance):
    from explainer.methods.quadrature import odd_process

    exact, inside = np.zeros((10, 1)), []
    for members, weight in triples():
        exact[members] += 2 / 3 * weight
    for seed in range(4):
        process = odd_process(10, 400, seed).fitted(refine=relevance)
        ends = np.array([[-1.0] * 10, [1.0] * 10])
        masks = 2.0 * process.coalitions - 1
        empty, full = of_triples(ends)[:, None]
        phi, error = process.values(empty, full, of_triples(masks)[:, None])
        assert np.median(error) < 1e-3
        assert np.median(np.abs(phi - exact)) > 0.05 * np.median(error)  # no wider than some times the error made
        inside.append(np.abs(phi - exact) <= 1.96 * error + 1e-9)
    assert np.mean(inside) >= 0.9


def test_rows_left_out_are_as_if_predicted_from_the_others():
    """The closed form against a fit of all rows but one."""
    from scipy.linalg import cholesky

    from explainer.methods.relevance import left_out

    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 40))
    gram, g = root @ root.T / 40 + 0.01 * np.eye(30), rng.normal(size=30)
    factor = cholesky(gram, lower=True)
    last, size = left_out(factor, 12)
    found = last.T @ np.linalg.solve(factor, g)[-12:] / size
    for j in range(12):
        i, rest = 18 + j, np.delete(np.arange(30), 18 + j)
        weights = np.linalg.solve(gram[np.ix_(rest, rest)], gram[rest, i])
        assert abs(found[j] - (g[i] - weights @ g[rest]) / np.sqrt(gram[i, i] - weights @ gram[rest, i])) < 1e-9


def test_the_shared_process_leaves_rows_out_the_same_way():
    from explainer.methods.quadrature import NUGGET, STRENGTHS, SUM_NOISE, odd_process

    process, rng = odd_process(6, 20, 0), np.random.default_rng(0)
    x = np.concatenate([np.ones((1, 6)), 2.0 * process.masks - 1])
    rho, lin = STRENGTHS[2]
    odd = np.array([bin(t).count("1") % 2 == 1 for t in range(64)])
    products = np.stack([np.prod(x[:, [j for j in range(6) if t >> j & 1]], axis=1) for t in range(64)], axis=1)[:, odd]
    weight = np.array([rho ** bin(t).count("1") for t in range(64)])[odd]
    noise = np.diag([SUM_NOISE] + [NUGGET] * (len(x) - 1))
    inverse = np.linalg.inv((products * weight / weight.sum()) @ products.T + lin / 6 * x @ x.T + noise)
    g = rng.normal(size=len(x))
    np.testing.assert_allclose(process.fits[2].left_out @ g, (inverse @ g / np.sqrt(np.diag(inverse)))[1:], rtol=1e-6)


@pytest.mark.parametrize(("d", "pairs"), [(3, 3), (6, 20), (10, 300), (15, 50), (40, 700), (200, 1000)])
def test_no_coalition_is_drawn_twice(d, pairs):
    from explainer.methods.quadrature import design

    masks = design(d, pairs)
    both = np.concatenate([masks, ~masks])
    assert len(masks) == pairs
    assert len(np.unique(both, axis=0)) == 2 * pairs
    assert not both.all(axis=1).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_axioms_on_random_games(seed):
    rng = np.random.default_rng(seed)
    main, pairs = rng.normal(size=5), np.triu(rng.normal(size=(5, 5)), 1)
    main[4] = 0
    pairs[:, 4] = 0  # column 4 plays no part
    main[1], pairs[0, 1] = main[0], rng.normal()
    pairs[1, 2:], pairs[0, 2:] = pairs[0, 2:], pairs[0, 2:]  # columns 0 and 1 are interchangeable
    zero = pd.DataFrame(np.zeros((1, 5)), columns=COLUMNS)

    def game(x):
        return x @ main + np.einsum("ni,ij,nj->n", x, pairs, x)

    one = pd.DataFrame(np.ones((1, 5)), columns=COLUMNS)
    for algorithm in ("exact", "permutation", "gaussian"):
        ex = explainer.explain(
            regression(game, background=zero), one, "shap", algorithm=algorithm, budget=30 if algorithm == "gaussian" else 400, verify=False
        )
        phi = ex.values[0]
        np.testing.assert_allclose(phi.sum() + ex.base_values[0], ex.scores[0], atol=1e-9)  # efficiency
        np.testing.assert_allclose(phi[4], 0, atol=0.05 if algorithm == "gaussian" else 1e-12)  # dummy
        if algorithm == "exact":
            np.testing.assert_allclose(phi[0], phi[1], atol=1e-9)  # symmetry


@pytest.mark.parametrize(("kind", "output"), [(RandomForestClassifier, "probability"), (GradientBoostingClassifier, "logit")])
def test_trees_agree_with_enumeration(kind, output):
    data = frame(300)
    labels = (wavy(data.to_numpy()) > 0).astype(int)
    model = explainer.wrap(kind(n_estimators=15, random_state=0).fit(data, labels), background=data[:20])
    by_tree = explainer.explain(model, data[30:34], "shap", target="all", output=output)
    exact = explainer.explain(model, data[30:34], "shap", target="all", output=output, algorithm="exact")
    assert by_tree.provenance.parameters["algorithm"].startswith("tree")
    np.testing.assert_allclose(by_tree.values, exact.values, atol=1e-5)
    np.testing.assert_allclose(by_tree.base_values, exact.base_values, atol=1e-6)
    assert by_tree.axes == ("instance", "column", "output")


def test_boosted_probabilities_are_not_left_to_rescaled_margins():
    """shap's probability values of boosted trees sum up, yet are not Shapley values; ours are."""
    import shap

    data = frame(300)
    boosted = GradientBoostingClassifier(n_estimators=15, random_state=0).fit(data, (wavy(data.to_numpy()) > 0).astype(int))
    model = explainer.wrap(boosted, background=data[:20])
    ex = explainer.explain(model, data[30:31], "shap", target=1, verify=False)
    expected = brute_force(
        lambda rows: boosted.predict_proba(pd.DataFrame(rows, columns=COLUMNS))[:, 1], data.to_numpy()[30], data.to_numpy()[:20]
    )
    np.testing.assert_allclose(ex.values[0], expected, atol=1e-9)
    peer = shap.TreeExplainer(boosted, data[:20], model_output="probability").shap_values(data[30:31])
    assert np.abs(peer[0] - expected).max() > 1e-3


def test_regression_forest_goes_to_trees():
    data = frame(200)
    model = explainer.wrap(RandomForestRegressor(10, random_state=0).fit(data, wavy(data.to_numpy())), background=data[:20])
    ex = explainer.explain(model, data[:2])
    assert ex.method == "shap"
    np.testing.assert_allclose(ex.base_values + ex.values.sum(1), ex.scores, atol=1e-5)


def test_groups_move_together():
    def game(x):
        return x[:, 0] * x[:, 1] + x[:, 2]

    zero = pd.DataFrame(np.zeros((1, 5)), columns=COLUMNS)
    one = pd.DataFrame(np.ones((1, 5)), columns=COLUMNS)
    ex = explainer.explain(regression(game, background=zero), one, "shap", features={"pair": ["a", "b"]}, verify=False)
    assert ex.feature_names[0] == ("pair", "c", "d", "e")
    np.testing.assert_allclose(ex.values[0], [1, 1, 0, 0], atol=1e-12)


def test_parts_that_change_nothing_are_worth_exactly_nothing():
    columns = [f"x{j}" for j in range(14)]
    x, background = frame(1, columns), frame(1, columns, seed=2)
    x[columns[4:]] = background[columns[4:]].to_numpy()
    ex = explainer.explain(regression(wavy, columns, background), x, "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == "exact"  # four live columns: 16 coalitions
    assert ex.provenance.evaluations == 16
    assert (ex.values[0][4:] == 0).all()


def test_error_budget_is_kept():
    columns = [f"x{j}" for j in range(12)]
    model = regression(lambda x: np.sin(2 * x.sum(1)) + x[:, 0], columns, frame(1, columns, seed=3))
    loose, tight = (
        explainer.explain(model, frame(1, columns), "shap", algorithm="gaussian", budget=b, verify=False) for b in ("60% error", "3% error")
    )
    assert tight.provenance.evaluations > loose.provenance.evaluations
    assert (1.96 * tight.stderr).max() <= 0.03 * np.abs(tight.values).max()


def test_seed_and_batch_do_not_matter():
    columns = [f"x{j}" for j in range(14)]
    model, x = regression(wavy, columns), frame(3, columns)
    together = explainer.explain(model, x, "shap", budget=300, seed=5, verify=False)
    alone = explainer.explain(model, x[1:2], "shap", budget=300, seed=5, verify=False)
    np.testing.assert_array_equal(together.values[1], alone.values[0])
    assert not np.array_equal(together.values, explainer.explain(model, x, "shap", budget=300, seed=6, verify=False).values)


def test_refusals():
    model = regression(wavy)
    with pytest.raises(UnknownName, match="'permutation'"):
        explainer.explain(model, frame(1), "shap", algorithm="permutations")
    with pytest.raises(Unsupported, match="not a tree ensemble"):
        explainer.explain(model, frame(1), "shap", algorithm="tree")
    wide = [f"x{j}" for j in range(25)]
    with pytest.raises(Unsupported, match=r"2\^25"):
        explainer.explain(regression(wavy, wide), frame(1, wide), "shap", algorithm="exact")
