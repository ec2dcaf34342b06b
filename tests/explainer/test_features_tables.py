"""Tables: columns, groups, and what stands in for an absent column; against slow loops and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from games import frame, regression, wavy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import RandomForestRegressor

import explainer
from explainer.errors import InvalidInput, UnknownName
from explainer.features import build
from explainer.features.conditional import Copula, Neighbours, _shrunk, nearest_count
from explainer.features.groups import associations, correlated, one_hot
from explainer.features.tabular import Columns, mean_row

GAUSS = np.array([[1.0, 0.8, 0.3, 0.0], [0.8, 1.0, 0.5, 0.0], [0.3, 0.5, 1.0, -0.6], [0.0, 0.0, -0.6, 1.0]])
MEAN = np.array([1.0, -2.0, 0.0, 5.0])


def gaussian(rows: int, seed: int = 0) -> pd.DataFrame:
    """Normal rows whose sample mean and covariance are exactly MEAN and GAUSS."""
    raw = np.random.default_rng(seed).standard_normal((rows, 4))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(raw.T @ raw / rows)).T
    return pd.DataFrame(white @ np.linalg.cholesky(GAUSS).T + MEAN, columns=list("abcd"))


def mixed(rows: int = 60, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 9, rows).astype(np.float32),
            "town": rng.choice(["north", "south", "west"], rows),
            "visits": rng.integers(0, 9, rows),
            "member": rng.random(rows) > 0.4,
            "plan": pd.Categorical(rng.choice(["s", "m", "l"], rows), categories=["s", "m", "l"], ordered=True),
            "income": np.where(rng.random(rows) > 0.2, rng.lognormal(3, 1, rows), np.nan),
        }
    )


def slow_rows(table: pd.DataFrame, background: pd.DataFrame, i: int, masks: np.ndarray) -> list[list]:
    """Row by row and cell by cell."""
    return [
        [table.iloc[i, j] if mask[j] else background.iloc[r, j] for j in range(table.shape[1])]
        for mask in masks
        for r in range(len(background))
    ]


@pytest.mark.parametrize("make", [mixed, lambda: frame(9), lambda: frame(9).astype(np.float32), lambda: frame(9).round().astype(int)])
@pytest.mark.parametrize("size", [1, 4])
def test_rows_are_what_a_slow_loop_builds_and_keep_their_types(make, size):
    table = make()
    inputs, background = table.iloc[:3].reset_index(drop=True), table.iloc[3 : 3 + size].reset_index(drop=True)
    parts = Columns(inputs, background)
    rng = np.random.default_rng(0)
    asks = [(i, rng.random((5 + i, table.shape[1])) > 0.5) for i in (2, 0, 1)]
    rows = parts.rows_of(asks)
    wanted = pd.DataFrame([row for i, masks in asks for row in slow_rows(inputs, background, i, masks)], columns=table.columns)
    assert dict(rows.dtypes) == dict(table.dtypes)
    pd.testing.assert_frame_equal(rows, wanted, check_dtype=False, check_categorical=False)
    assert parts.row_bytes(0) > 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 5))
def test_bits_are_neither_lost_nor_rounded(seed, columns, size):
    rng = np.random.default_rng(seed)
    odd = np.array([np.nan, np.inf, -0.0, 1e-310, 1e300, 0.1])
    table = pd.DataFrame(rng.choice(odd, (2 + size, columns)), columns=[f"x{j}" for j in range(columns)])
    parts = Columns(table.iloc[:2], table.iloc[2:])
    masks = rng.random((4, columns)) > 0.5
    every = table.to_numpy()
    wanted = np.where(masks[:, None], every[1], every[None, 2:]).reshape(-1, columns)
    assert parts.rows(1, masks).to_numpy().tobytes() == wanted.tobytes()


def test_rows_do_not_depend_on_what_is_asked_for_beside_them():
    background = gaussian(200)
    inputs = gaussian(40, seed=1).iloc[:4]
    masks = np.random.default_rng(0).random((40, 4)) > 0.5
    for baseline in ("auto", "copula", "neighbours", "median"):
        model = regression(lambda x: x.sum(1), list("abcd"), background)
        whole, alone = (build(model, x, baseline=baseline, seed=3) for x in (inputs, inputs.iloc[[2]]))
        together = whole.rows_of([(0, masks), (2, masks)]).iloc[40 * whole.repeats :].reset_index(drop=True)
        one_by_one = pd.concat([alone.rows(0, masks[k : k + 1]) for k in range(40)], ignore_index=True)
        pd.testing.assert_frame_equal(together, one_by_one)


# -- conditional absence ---------------------------------------------------------------------------------------------------


def normal_law(x: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the absent columns given the present ones, by the textbook's formula."""
    s, a = np.flatnonzero(present), np.flatnonzero(~present)
    weights = GAUSS[np.ix_(a, s)] @ np.linalg.inv(GAUSS[np.ix_(s, s)]) if len(s) else np.zeros((len(a), 0))
    return MEAN[a] + weights @ (x[s] - MEAN[s]), GAUSS[np.ix_(a, a)] - weights @ GAUSS[np.ix_(s, a)]


@pytest.mark.parametrize("present", [m for m in itertools.product([False, True], repeat=4) if not all(m)])
def test_copula_draws_have_the_conditional_mean_and_covariance_of_a_normal_law(present):
    present = np.array(present)
    background, x = gaussian(4000), pd.DataFrame([[2.0, -1.5, 0.8, 4.4]], columns=list("abcd"))
    parts = Columns(x, background, donors=Copula(x, background, 2000, seed=0))
    drawn = parts.rows(0, present[None]).to_numpy()
    mean, covariance = normal_law(x.to_numpy()[0], present)
    np.testing.assert_array_equal(drawn[:, present], np.broadcast_to(x.to_numpy()[0, present], drawn[:, present].shape))
    np.testing.assert_allclose(drawn[:, ~present].mean(axis=0), mean, atol=0.05)
    np.testing.assert_allclose(np.atleast_2d(np.cov(drawn[:, ~present].T)), covariance, atol=0.1)


def test_copula_keeps_any_marginal_law_and_its_values():
    rng = np.random.default_rng(0)
    z = gaussian(3000).to_numpy() - MEAN
    background = pd.DataFrame({"a": np.exp(z[:, 0]), "b": np.round(2 * z[:, 1]).astype(int), "c": z[:, 2] > 0.5, "d": rng.random(3000)})
    x = background.iloc[[7]].reset_index(drop=True)
    parts = Columns(x, background, donors=Copula(x, background, 1000, seed=0))
    drawn = parts.rows(0, np.zeros((1, 4), dtype=bool))
    assert dict(drawn.dtypes) == dict(background.dtypes)
    for name in background:
        assert set(drawn[name]) <= set(background[name])
    assert np.median(drawn["a"]) == pytest.approx(1, rel=0.1) and drawn["c"].mean() == pytest.approx(background["c"].mean(), abs=0.05)
    assert drawn["a"].corr(drawn["b"], method="spearman") == pytest.approx(
        background["a"].corr(background["b"], method="spearman"), abs=0.08
    )
    high = parts.rows(0, np.array([[True, False, False, False]]))["b"].mean()
    assert np.sign(high - background["b"].mean()) == np.sign(x["a"][0] - np.median(background["a"]))


def test_copula_takes_no_news_from_a_missing_value_and_draws_none():
    background = gaussian(500)
    background.loc[::5, "a"] = np.nan
    x = pd.DataFrame([[np.nan, -1.0, 0.0, 5.0]], columns=list("abcd"))
    parts = Columns(x, background, donors=Copula(x, background, 50, seed=0))
    rows = parts.rows(0, np.array([[True, False, False, False], [False, False, False, False], [False, True, True, True]]))
    np.testing.assert_array_equal(rows.iloc[:50, 1:], rows.iloc[50:100, 1:])
    assert rows.iloc[:50]["a"].isna().all() and not rows.iloc[50:]["a"].isna().any()


def test_copula_refuses_names_without_an_order():
    model = regression(lambda x: np.ones(len(x)), list(mixed().columns), mixed())
    with pytest.raises(InvalidInput, match="town hold names.*neighbours"):
        build(model, mixed(3, seed=1), baseline="copula")
    two = mixed()[["age", "plan", "member"]].assign(sex=["f", "m"] * 30)
    parts = build(regression(lambda x: np.ones(len(x)), list(two.columns), two), two.iloc[:2], baseline=("copula", 8))
    assert parts.repeats == 8 and set(parts.rows(0, np.zeros((1, 4), dtype=bool))["sex"]) == {"f", "m"}


def test_the_correlation_is_shrunk_as_scikit_learn_does_it():
    z = frame(30, [f"x{j}" for j in range(12)]).to_numpy()
    z = (z - z.mean(axis=0)) / z.std(axis=0)
    np.testing.assert_allclose(_shrunk(z), ledoit_wolf(z, assume_centered=True)[0], atol=1e-12)


def test_copula_of_two_equal_and_one_constant_column():
    background = frame(1000, list("ab")).assign(c=lambda t: t["a"], k=3.0)
    parts = build(regression(lambda x: x.sum(1), list("abck"), background), background.iloc[:1], baseline="copula")
    rows = parts.rows(0, np.array([[True, False, False, False]]))
    assert np.abs(rows["c"] - background["a"][0]).max() < 0.3
    assert (rows["k"] == 3).all() and parts.idle(0).tolist() == [False, False, False, True]


def slow_neighbours(x: pd.Series, background: pd.DataFrame, present: np.ndarray) -> np.ndarray:
    """Gower's distance, one cell at a time."""
    distances = []
    for r in range(len(background)):
        total = 0.0
        for j in np.flatnonzero(present):
            a, column = x.iloc[j], background.iloc[:, j]
            b = column.iloc[r]
            if pd.isna(a) or pd.isna(b):
                total += float(pd.isna(a) != pd.isna(b))
            elif isinstance(a, str) or column.dtype == bool:
                total += float(a != b)
            else:
                total += min(1.0, abs(float(a) - float(b)) / float(column.max() - column.min()))
        distances.append(total)
    return np.array(distances)


def test_neighbours_are_those_a_slow_loop_finds():
    table = mixed(80)
    inputs, background = table.iloc[:4].reset_index(drop=True), table.iloc[4:].reset_index(drop=True)
    inputs.loc[1, "income"] = np.nan
    found = Neighbours(inputs, background, 7, seed=0)
    masks = np.random.default_rng(1).random((12, 6)) > 0.4
    masks[0] = True
    for i in range(4):
        for present, chosen in zip(masks, found.pick(i, masks), strict=True):
            distance = slow_neighbours(inputs.iloc[i], background, present)
            assert len(set(chosen)) == 7
            np.testing.assert_allclose(distance[chosen], np.sort(distance)[:7], atol=1e-5)
    nothing = found.pick(0, np.zeros((1, 6), dtype=bool))[0]
    assert len(set(nothing)) == 7 and set(nothing) != set(range(7))
    assert [nearest_count(n) for n in (3, 10, 1000, 10**6)] == [3, 5, 32, 50]


def shapley(v, d: int) -> np.ndarray:
    """From the definition, by orders of all players."""
    phi = np.zeros(d)
    for order in itertools.permutations(range(d)):
        for k in range(d):
            before, after = frozenset(order[:k]), frozenset(order[: k + 1])
            phi[order[k]] += (v(after) - v(before)) / math.factorial(d)
    return phi


def test_conditional_shapley_values_of_a_linear_model_have_their_closed_form():
    weights = np.array([2.0, 0.0, 1.0, 0.5])
    background, inputs = gaussian(4000), pd.DataFrame([[2.0, -1.5, 0.8, 4.4], [0.2, -3.0, -1.0, 6.0]], columns=list("abcd"))
    model = regression(lambda x: x @ weights, list("abcd"), background)
    ex = explainer.explain(model, inputs, "shap", baseline="copula", algorithm="exact")
    marginal = explainer.explain(model, inputs, "shap", algorithm="exact")
    for i, x in enumerate(inputs.to_numpy()):

        def v(members: frozenset, x: np.ndarray = x) -> float:
            present = np.isin(np.arange(4), list(members))
            full = x.copy()
            full[~present] = normal_law(x, present)[0]
            return float(full @ weights)

        wanted = shapley(v, 4)
        np.testing.assert_allclose(ex.values[i], wanted, atol=0.06)
        assert abs(marginal.values[i][1]) < 1e-9
    assert abs(ex.values[1][1]) > 0.1  # a column that the model does not read tells of those it reads
    assert "Gaussian copula of 4000 background rows" in ex.provenance.parameters["absence"]


def test_neighbours_follow_a_strong_dependence():
    background = gaussian(3000)
    x = pd.DataFrame([[2.5, 0.0, 0.0, 0.0]], columns=list("abcd"))
    parts = build(regression(lambda t: t.sum(1), list("abcd"), background), x, baseline=("neighbours", 30))
    given_a = parts.rows(0, np.array([[True, False, False, False]]))
    assert parts.repeats == 30 and parts.conditional
    assert given_a["b"].mean() == pytest.approx(normal_law(x.to_numpy()[0], np.array([True, False, False, False]))[0][0], abs=0.35)


def test_draws_depend_on_the_seed():
    model = regression(wavy, background=frame(600))
    masks = np.zeros((1, 5), dtype=bool)
    for baseline in ("auto", "copula", "neighbours"):
        one, same, other = (build(model, frame(2, seed=9), baseline=baseline, seed=s).rows(0, masks) for s in (0, 0, 1))
        pd.testing.assert_frame_equal(one, same)
        assert not np.array_equal(one, other)


def test_one_row_stands_in():
    background = mixed()
    model = explainer.wrap(lambda t: t["age"].to_numpy(), modality="tabular", task="regression", class_names=["v"], background=background)
    row = mean_row(background).iloc[0]
    assert row["age"] == pytest.approx(background["age"].mean()) and row["town"] == background["town"].mode()[0]
    assert row["visits"] == pytest.approx(background["visits"].mean()) and row["member"] == background["member"].mode()[0]
    for baseline, words in (("mean", "mean row"), ("median", "median row"), (background.iloc[[3]], "baseline row")):
        parts = build(model, background.iloc[:2], baseline=baseline)
        assert parts.repeats == 1 and words in parts.absence and not parts.conditional
    assert parts.rows(0, np.zeros((1, 6), dtype=bool))["age"][0] == background["age"][3]


# -- groups ----------------------------------------------------------------------------------------------------------------


def test_correlated_columns_are_found_and_named():
    rng = np.random.default_rng(0)
    a, t = rng.normal(size=400), rng.choice(list("xyz"), 400)
    table = pd.DataFrame(
        {"a": a, "b": rng.normal(size=400), "a3": a**3 + rng.normal(size=400) * 0.05, "t": t,
         "t2": pd.Series(t).map({"x": "u", "y": "v", "z": "w"}),
         "n": pd.Series(t).map({"x": 0.0, "y": 5.0, "z": 9.0}) + rng.normal(size=400) * 0.1, "c": 1.0}
    )  # fmt: skip
    assert correlated(table) == {"a + a3": ["a", "a3"], "t + t2 + n": ["t", "t2", "n"]}
    assert correlated(table[["a", "b"]]) == {} and correlated(table[["a"]]) == {}
    strength = associations(table)
    np.testing.assert_allclose(strength, strength.T)
    assert strength[0, 2] == pytest.approx(abs(table["a"].corr(table["a3"], method="spearman")))
    assert strength[3, 4] == pytest.approx(1, abs=0.01) and strength[3, 0] < 0.2 and (strength[6, :6] == 0).all()
    holed = table.mask(pd.DataFrame(rng.random(table.shape) < 0.1, columns=table.columns))
    both = holed[["a", "a3"]].dropna()
    assert associations(holed)[0, 2] == pytest.approx(abs(both["a"].corr(both["a3"], method="spearman")))


def test_the_correlation_ratio_and_cramers_v_against_their_definitions():
    rng = np.random.default_rng(1)
    kinds = rng.choice(list("xyz"), 90)
    numbers = rng.normal(size=90) + (kinds == "x")
    other = np.where(rng.random(90) < 0.6, kinds, rng.choice(list("xyz"), 90))
    found = associations(pd.DataFrame({"k": kinds, "n": numbers, "o": other}))
    ranks = pd.Series(numbers).rank()
    between = sum((kinds == k).sum() * (ranks[kinds == k].mean() - ranks.mean()) ** 2 for k in "xyz")
    assert found[0, 1] == found[1, 0] == pytest.approx(math.sqrt(between / ((ranks - ranks.mean()) ** 2).sum()))
    table = pd.crosstab(kinds, other).to_numpy()
    from scipy.stats import chi2_contingency

    phi = max(0, chi2_contingency(table, correction=False)[0] / 90 - 4 / 89)
    assert found[0, 2] == pytest.approx(math.sqrt(phi / (3 - 4 / 89 - 1)))


def test_every_two_of_a_group_are_correlated_not_only_neighbours_in_a_chain():
    rng = np.random.default_rng(0)
    a = rng.normal(size=3000)
    b = a + rng.normal(size=3000) * 0.8
    c = b + rng.normal(size=3000) * 0.8
    table = pd.DataFrame({"a": a, "b": b, "c": c})
    strength = associations(table)
    assert strength[0, 1] > 0.7 and strength[1, 2] > 0.7 > strength[0, 2]
    assert list(correlated(table).values()) in ([["a", "b"]], [["b", "c"]])


def test_one_hot_columns_are_found_by_name_and_value():
    rng = np.random.default_rng(0)
    raw = pd.DataFrame({"town": rng.choice(["new_york", "new_jersey", "boston"], 50), "home_owner": rng.choice(["yes", "no"], 50)})
    table = pd.get_dummies(raw).assign(age=rng.normal(size=50), home_size=rng.integers(0, 2, 50), flag_a=1, flag_b=1)
    groups = one_hot(table.iloc[:5], table.iloc[5:])
    assert {name: set(members) for name, members in groups.items()} == {
        "town": {"town_new_york", "town_new_jersey", "town_boston"},
        "home_owner": {"home_owner_yes", "home_owner_no"},
    }
    two_on = table.copy()
    two_on.loc[20, ["town_boston", "town_new_york"]] = True
    with_note = explainer.explain(
        regression(lambda x: x[:, 0], list(table.columns), table * 1.0), table.iloc[:1] * 1.0, "shap", verify=False
    )
    assert any("town_boston" in note and "features='one-hot'" in note for note in with_note.provenance.notes)
    assert "town" not in one_hot(two_on.iloc[:5], two_on.iloc[5:])


def test_groups_reach_the_result():
    raw = pd.DataFrame({"town": np.tile(["n", "s", "w"], 20)})
    table = pd.get_dummies(raw, dtype=float).assign(age=np.arange(60.0))
    model = regression(lambda x: x @ np.array([1.0, 2.0, 3.0, 0.1]), list(table.columns), table)
    ex = explainer.explain(model, table.iloc[[0, 1]], "shap", features="one-hot")
    assert ex.feature_names[0] == ("town", "age")
    assert ex.values[0][0] == pytest.approx(1 - 2, abs=0.1)
    frame_ = explainer.evaluate(ex, model)
    assert len(frame_) == 2 and np.isfinite(frame_["deletion"]).all()
    wide = table.assign(age2=lambda t: t["age"] * 2)
    model = regression(lambda x: x.sum(1), list(wide.columns), wide)
    ex = explainer.explain(model, wide.iloc[:2], "shap", features="correlated")
    assert "age + age2" in ex.feature_names[0]
    assert any("association of at least 0.7" in note for note in ex.provenance.notes)
    with pytest.raises(InvalidInput, match="one-hot' found no columns"):
        explainer.explain(model, wide.iloc[:2, :], "shap", background=wide.assign(town_n=0.5), features="one-hot")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"baseline": "zeros"}, InvalidInput, "is for images and series, not for tables; use 'auto'"),
        ({"baseline": "copulas"}, UnknownName, "Did you mean 'copula'"),
        ({"baseline": "neighbors"}, UnknownName, "Did you mean 'neighbours'"),
        ({"baseline": ("median", 3)}, InvalidInput, "takes no number.*'copula', 'neighbours' can"),
        ({"baseline": ("neighbours", 0)}, InvalidInput, "above 0"),
        ({"baseline": ("neighbours", "five")}, InvalidInput, "above 0"),
        ({"features": "superpixels"}, InvalidInput, "is for images, not for tables"),
        ({"features": "onehot"}, UnknownName, "Did you mean 'one-hot'"),
        ({"features": ("correlated", 1.5)}, InvalidInput, "at most 1"),
        ({"features": ["a", "b"]}, InvalidInput, "takes a mapping"),
        ({"features": {"g": ["a", "zz"]}}, InvalidInput, "do not exist"),
        ({"features": {"g": ["a"], "h": ["a"]}}, InvalidInput, "two groups"),
        ({"features": {"g": []}}, InvalidInput, "without columns"),
        ({"features": {"b": ["a", "c"]}}, InvalidInput, "choose another name"),
    ],
)
def test_choices_that_do_not_fit(options, error, words):
    with pytest.raises(error, match=words):
        explainer.explain(regression(wavy), frame(1), "shap", **options)


def test_a_background_given_for_the_explanation_is_used_whole():
    model, rows = regression(wavy), frame(1)
    assert "20 background rows" in explainer.explain(model, rows, "shap").provenance.parameters["absence"]
    many = explainer.explain(model, rows, "shap", background=frame(120, seed=5))
    assert "120 background rows" in many.provenance.parameters["absence"]


def wide(rows: int, seed: int = 0) -> pd.DataFrame:
    return frame(rows, [f"x{j}" for j in range(9)], seed)


def test_a_background_that_is_drawn_from_says_so_and_no_value_passes_for_known():
    model = explainer.wrap(lambda x: np.asarray(x)[:, :3].prod(axis=1), modality="tabular", task="regression", background=wide(130))
    own = explainer.explain(model, wide(1), "shap")
    assert own.provenance.parameters["absence"] == "mean over 100 of 130 background rows"
    assert "100 of the 130 background rows were drawn" in " ".join(own.provenance.notes)
    check = own[0].verdict.checks["sampling error"]
    assert check.status == "not run" and "100 of the 130" in check.reason
    given = explainer.explain(model, wide(1), "shap", background=wide(130))
    assert given.provenance.parameters["absence"] == "mean over 130 background rows" and not given.provenance.notes
    assert np.abs(own.values - given.values).max() > 1e-3
    cut = explainer.explain(model, wide(1), "shap", background=wide(700))
    assert "500 of the 700" in " ".join(cut.provenance.notes)


def test_where_coalitions_are_few_and_on_trees_all_background_rows_are_used():
    few = regression(wavy, background=frame(400, seed=5))
    given = explainer.explain(few, frame(1), "shap", background=frame(400, seed=5))
    np.testing.assert_array_equal(explainer.explain(few, frame(1), "shap").values, given.values)
    forest = RandomForestRegressor(5, random_state=0).fit(wide(200), wide(200).sum(axis=1))
    background = wide(900, seed=5)
    ex = explainer.explain(explainer.wrap(forest, background=background), wide(1), "shap")
    assert ex.provenance.parameters["absence"] == "mean over 900 background rows" and not ex.provenance.notes
    np.testing.assert_allclose(ex.base_values, forest.predict(background).mean())
    shap = pytest.importorskip("shap")
    peer = shap.TreeExplainer(forest, shap.maskers.Independent(background, 900), feature_perturbation="interventional")
    np.testing.assert_allclose(ex.values, peer.shap_values(wide(1)), atol=1e-6)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_a_row_that_knows_fewer_categories_than_the_background_is_the_same_row(library):
    import lightgbm
    import xgboost

    rng = np.random.default_rng(0)
    data = pd.DataFrame({"a": rng.normal(size=300), "town": pd.Categorical(rng.choice(list("uvwx"), 300))})
    made = {
        "lightgbm": lightgbm.LGBMRegressor(n_estimators=5, verbose=-1, n_jobs=1),
        "xgboost": xgboost.XGBRegressor(enable_categorical=True, n_estimators=5, n_jobs=1),
    }[library]
    model = explainer.wrap(made.fit(data, data["a"] + data["town"].isin(["u", "w"])), background=data[:20])
    known = explainer.explain(model, data[30:32], "shap")
    for cells in (pd.Categorical(data["town"][30:32].astype(str)), data["town"][30:32].astype(str)):
        found = explainer.explain(model, data[30:32].assign(town=cells), "shap")
        np.testing.assert_array_equal(found.values, known.values)
    bare = explainer.wrap(made)
    found = explainer.explain(bare, data[30:32].assign(town=pd.Categorical(data["town"][30:32].astype(str))), "shap", background=data[:20])
    np.testing.assert_allclose(found.values, known.values, atol=1e-12)
