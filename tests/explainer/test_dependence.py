"""Partial dependence, ICE and ALE: scikit-learn's numbers, a slow ALE written from the paper, and functions whose answer is known."""

from __future__ import annotations

import games
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.inspection import partial_dependence as sklearn_dependence
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.dependence import Dependence, partial_dependence


def mixed(n: int = 150, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 9, n)
    return pd.DataFrame({
        "age": age, "town": np.where(age + rng.normal(0, 9, n) > 44, "west", rng.choice(["north", "south"], n)),
        "children": rng.integers(0, 5, n), "owner": rng.random(n) < 0.4,
    })  # fmt: skip


def of_table(function, data: pd.DataFrame, **options) -> explainer.Model:
    return explainer.wrap(
        lambda table: np.asarray(function(table), dtype=float).reshape(len(table), -1), modality="tabular", task="regression",
        feature_names=list(data.columns), **{"class_names": ["value"], **options},
    )  # fmt: skip


# -- partial dependence and ICE ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["b", ("a", "d")])
def test_a_regressors_curves_are_scikit_learns(columns):
    data = games.frame(120)
    estimator = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(data, games.wavy(data.to_numpy()))
    kind = "ice" if isinstance(columns, str) else "pdp"
    ours = partial_dependence(explainer.wrap(estimator), data, columns, kind=kind, grid=25)
    theirs = sklearn_dependence(estimator, data, list(columns), kind="both", grid_resolution=25, method="brute")
    np.testing.assert_allclose(ours.values, theirs["average"], atol=1e-10)
    for axis, grid in zip(ours.grid, theirs["grid_values"], strict=True):
        np.testing.assert_allclose(axis, grid, atol=1e-12)
    if kind == "ice":
        np.testing.assert_allclose(ours.curves, theirs["individual"], atol=1e-10)
        curves = theirs["individual"][0]
        np.testing.assert_allclose(ours.stderr[0], curves.std(axis=0, ddof=1) / np.sqrt(120), atol=1e-10)
        np.testing.assert_array_equal(ours.own, data["b"])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_classifiers_curves_are_scikit_learns_for_numbers_and_categories(classes):
    data = mixed().drop(columns=["children", "owner"])
    labels = np.digitize(data["age"] + 9 * (data["town"] == "west"), [42, 50][: classes - 1])
    encode = ColumnTransformer([("c", OneHotEncoder(), ["town"])], remainder="passthrough")
    estimator = make_pipeline(encode, RandomForestClassifier(8, random_state=0)).fit(data, labels)
    model = explainer.wrap(estimator)
    for column in ("age", "town"):
        ours = partial_dependence(model, data, column, grid=12)
        theirs = sklearn_dependence(estimator, data, [column], grid_resolution=12, categorical_features=["town"], method="brute")
        np.testing.assert_allclose(ours.values, theirs["average"], atol=1e-10)
        assert list(ours.grid[0]) == list(theirs["grid_values"][0])
    assert len(ours.labels) == (1 if classes == 2 else 3)
    pair = partial_dependence(model, data, ["town", "age"], grid=5)
    theirs = sklearn_dependence(estimator, data, ["town", "age"], grid_resolution=5, categorical_features=["town"], method="brute")
    np.testing.assert_allclose(pair.values, theirs["average"], atol=1e-10)


def test_columns_keep_their_type_and_the_callers_rows_stay():
    data = mixed()
    data["town"] = data["town"].astype("category")
    data["age"] = data["age"].astype("float32")
    seen = []

    def score(table):
        seen.append(table.dtypes.to_dict())
        return table["children"].to_numpy() + (table["town"] == "west")

    before = data.copy(deep=True)
    for column in data.columns:
        for kind in ("pdp", "ale"):
            found = partial_dependence(of_table(score, data), data, column, kind=kind, grid=3)
            assert len(found.grid[0]) >= 2
    assert all(types == data.dtypes.to_dict() for types in seen)
    pd.testing.assert_frame_equal(data, before)
    whole = partial_dependence(of_table(score, data), data, "children", grid=3)
    assert (whole.grid[0] == np.rint(whole.grid[0])).all()
    np.testing.assert_allclose(np.diff(whole.values[0]), np.diff(whole.grid[0]))


def test_rows_are_drawn_with_the_seed_and_the_error_says_what_other_rows_would_give():
    data = games.frame(4000)
    model = of_table(lambda t: t["a"] * (1 + t["b"] ** 2), data)
    draws = [partial_dependence(model, data, "a", grid=[0.5, 1.0], rows=200, seed=seed) for seed in range(60)]
    assert draws[0].rows == 200
    spread = np.std([d.values[0, 1] for d in draws])
    assert np.mean([d.stderr[0, 1] for d in draws]) == pytest.approx(spread, rel=0.3)
    again = partial_dependence(model, data, "a", grid=[0.5, 1.0], rows=200, seed=0)
    np.testing.assert_array_equal(again.values, draws[0].values)
    np.testing.assert_allclose(again.high - again.low, 2 * 1.96 * again.stderr)


@pytest.mark.parametrize("rows", [None, 9000])
def test_many_rows_and_few_give_the_same_curve(rows, monkeypatch):
    from explainer.inspection import dependence, tables

    data = games.frame(300)
    model = of_table(lambda t: t["a"] ** 2 * t["b"], data)
    whole = partial_dependence(model, data, ("a", "b"), grid=6, rows=rows)
    monkeypatch.setattr(dependence, "ROWS_AT_ONCE", 70)
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 70)
    np.testing.assert_array_equal(partial_dependence(model, data, ("a", "b"), grid=6, rows=rows).values, whole.values)


# -- ALE ---------------------------------------------------------------------------------------------------------------


def slow_ale(f, x: np.ndarray, j: int, edges: np.ndarray) -> np.ndarray:
    """Equations 15 and 16 of Apley & Zhu, one row at a time."""
    effects, counts = [0.0], []
    for k in range(1, len(edges)):
        rows = [r for r in x if (edges[k - 1] < r[j] <= edges[k]) or (k == 1 and r[j] == edges[0])]
        counts.append(len(rows))
        change = 0.0
        for r in rows:
            low, high = r.copy(), r.copy()
            low[j], high[j] = edges[k - 1], edges[k]
            change += f(high[None])[0] - f(low[None])[0]
        effects.append(effects[-1] + change / len(rows))
    effects = np.array(effects)
    centre = sum(n * (a + b) / 2 for n, a, b in zip(counts, effects[:-1], effects[1:], strict=True)) / len(x)
    return effects - centre


@pytest.mark.parametrize("column", ["a", "c"])
def test_ale_of_one_column_is_the_papers(column):
    data = games.frame(90)
    found = partial_dependence(games.regression(games.wavy), data, column, kind="ale", grid=12)
    slow = slow_ale(games.wavy, data.to_numpy(), "abcde".index(column), found.grid[0])
    np.testing.assert_allclose(found.values[0], slow, atol=1e-12)
    assert len(found.grid[0]) == 13 and set(found.grid[0]) <= set(data[column])


def test_ale_of_an_additive_function_is_the_centred_effect_whatever_the_columns_do_together():
    rng = np.random.default_rng(0)
    a = rng.normal(size=3000)
    data = pd.DataFrame({"a": a, "b": a + 0.1 * rng.normal(size=3000)})
    model = of_table(lambda t: t["a"] ** 2 + 5 * t["b"], data)
    found = partial_dependence(model, data, "a", kind="ale", grid=30, rows=None)
    effect = found.grid[0] ** 2
    np.testing.assert_allclose(np.diff(found.values[0]), np.diff(effect), atol=1e-10)
    middle = (found.values[0, 1:] + found.values[0, :-1]) / 2
    assert middle[np.clip(np.searchsorted(found.grid[0], a) - 1, 0, 29)].mean() == pytest.approx(0, abs=1e-10)
    assert found.stderr.max() < 1e-10
    # Outside the data the model is wild; ALE never goes there, partial dependence does.
    wild = of_table(lambda t: t["a"] + 1000 * (np.abs(t["a"] - t["b"]) > 1.5), data)
    assert np.abs(partial_dependence(wild, data, "a", kind="ale").values).max() < 5
    assert np.abs(partial_dependence(wild, data, "a", kind="pdp").values).max() > 100


def test_ale_of_categories_moves_rows_to_their_neighbours_only():
    data = mixed(200)
    data["town"] = pd.Categorical(data["town"], ["north", "south", "west"], ordered=True)
    level = {"north": 0.0, "south": 1.0, "west": 5.0}
    model = of_table(lambda t: t["town"].map(level).astype(float) * (1 + t["age"] / 40), data)
    found = partial_dependence(model, data, "town", kind="ale")
    factor = 1 + data["age"] / 40
    first = factor[data["town"].isin(["north", "south"])].mean()
    second = 4 * factor[data["town"].isin(["south", "west"])].mean()
    wanted = np.cumsum([0, first, second])
    share = np.array([(data["town"] == t).mean() for t in level])
    np.testing.assert_allclose(found.values[0], wanted - share @ wanted, atol=1e-12)
    assert list(found.grid[0]) == list(level)


def test_categories_without_an_order_are_put_in_one_by_likeness():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 4, 800)
    names = np.array(["c", "a", "d", "b"])  # lie at 0, 1, 2, 3 along the other column
    data = pd.DataFrame({"kind": names[group], "x": group + 0.3 * rng.normal(size=800)})
    found = partial_dependence(of_table(lambda t: (t["kind"] == "d") * 1.0, data), data, "kind", kind="ale")
    assert list(found.grid[0]) in (["c", "a", "d", "b"], ["b", "d", "a", "c"])
    assert np.ptp(found.values[0]) == pytest.approx(1)


def test_the_error_of_ale_is_that_of_other_rows():
    rng = np.random.default_rng(1)

    def draw(n):
        a = rng.normal(size=n)
        return pd.DataFrame({"a": a, "b": rng.normal(size=n), "kind": rng.choice(["x", "y", "z"], n)})

    model = of_table(lambda t: t["a"] * t["b"] + (t["kind"] == "y") * t["b"] + (t["kind"] == "z") * t["b"] ** 2, draw(5))
    for column, grid in (("a", [-3, -1, 0, 1, 3]), ("kind", ["x", "y", "z"])):
        draws = [partial_dependence(model, draw(150), column, kind="ale", grid=grid) for _ in range(100)]
        orders = [list(d.grid[0]) for d in draws]
        same = [d for d, order in zip(draws, orders, strict=True) if order == orders[0]]
        spread = np.std([d.values[0] for d in same], axis=0)
        np.testing.assert_allclose(np.mean([d.stderr[0] for d in same], axis=0), spread, rtol=0.35)


def slow_pair(f, x: np.ndarray, a: int, b: int, edges_a: np.ndarray, edges_b: np.ndarray) -> np.ndarray:
    """Second-order ALE as the authors' code has it, with loops."""
    rows, columns = len(edges_a) - 1, len(edges_b) - 1
    counts, mean = np.zeros((rows, columns)), np.zeros((rows, columns))
    for r in x:
        i = max(k for k in range(rows) if k == 0 or r[a] > edges_a[k])
        j = max(k for k in range(columns) if k == 0 or r[b] > edges_b[k])

        def at(p, q, r=r):
            moved = r.copy()
            moved[a], moved[b] = p, q
            return f(moved[None])[0]

        counts[i, j] += 1
        mean[i, j] += (at(edges_a[i + 1], edges_b[j + 1]) - at(edges_a[i + 1], edges_b[j])) - (
            at(edges_a[i], edges_b[j + 1]) - at(edges_a[i], edges_b[j])
        )
    assert (counts > 0).all()
    mean /= counts
    g = np.zeros((rows + 1, columns + 1))
    g[1:, 1:] = mean.cumsum(0).cumsum(1)
    first, second = np.zeros(rows + 1), np.zeros(columns + 1)
    for i in range(rows):
        steps = [counts[i, j] * ((g[i + 1, j] - g[i, j]) + (g[i + 1, j + 1] - g[i, j + 1])) / 2 for j in range(columns)]
        first[i + 1] = first[i] + sum(steps) / counts[i].sum()
    for j in range(columns):
        steps = [counts[i, j] * ((g[i, j + 1] - g[i, j]) + (g[i + 1, j + 1] - g[i + 1, j])) / 2 for i in range(rows)]
        second[j + 1] = second[j] + sum(steps) / counts[:, j].sum()
    g = g - first[:, None] - second[None]
    corners = (g[:-1, :-1] + g[1:, :-1] + g[:-1, 1:] + g[1:, 1:]) / 4
    return g - (counts * corners).sum() / counts.sum()


def test_ale_of_two_columns_is_the_papers():
    data = games.frame(400)
    found = partial_dependence(games.regression(games.wavy), data, ("a", "b"), kind="ale", grid=5)
    slow = slow_pair(games.wavy, data.to_numpy(), 0, 1, *found.grid)
    np.testing.assert_allclose(found.values[0], slow, atol=1e-12)
    assert found.values.shape == (1, 6, 6) and (found.stderr > 0).any()


def test_ale_of_two_columns_is_what_they_do_together():
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.random((4000, 3)), columns=["a", "b", "c"])
    alone = partial_dependence(of_table(lambda t: t["a"] ** 2 - 3 * t["b"] + t["c"], data), data, ("a", "b"), kind="ale", grid=6)
    np.testing.assert_allclose(alone.values, 0, atol=1e-10)
    product = partial_dependence(of_table(lambda t: t["a"] * t["b"] + t["a"], data), data, ("a", "b"), kind="ale", grid=6, rows=None)
    a, b = product.grid
    np.testing.assert_allclose(product.values[0], np.outer(a - 0.5, b - 0.5), atol=0.02)
    sparse = data[(data["a"] - data["b"]).abs() < 0.2]  # most pairs of intervals hold no row
    assert np.isfinite(partial_dependence(of_table(lambda t: t["a"] * t["b"], data), sparse, ("a", "b"), kind="ale", grid=8).values).all()


# -- rows that fail, files, misuse -------------------------------------------------------------------------------------


def test_missing_values_are_left_out_of_ale_and_replaced_in_pdp():
    data = games.frame(50)
    data.loc[::5, "a"] = np.nan
    model = of_table(lambda t: 2 * t["a"] + t["b"], data)
    for kind in ("pdp", "ale"):
        found = partial_dependence(model, data, "a", kind=kind, grid=5)
        np.testing.assert_allclose(np.diff(found.values[0]), 2 * np.diff(found.grid[0]))


def test_rows_the_model_cannot_score_are_left_out_and_said():
    data = games.frame(50)

    def score(table):
        if (table["b"] > 1.5).any():
            raise ValueError("b is too large")
        return table["a"]

    count = int((data["b"] > 1.5).sum())
    assert count
    found = partial_dependence(of_table(score, data), data, "a", grid=4)
    np.testing.assert_allclose(found.values[0], found.grid[0])
    assert f"{4 * count} of 200 rows could not be scored" in found.provenance.notes[0] and "b is too large" in found.provenance.notes[0]
    with pytest.raises(InvalidInput, match="none of the rows"):
        partial_dependence(of_table(lambda t: t["a"] * np.nan, data), data, "a")


@pytest.mark.parametrize(("columns", "kind"), [("age", "ice"), ("town", "ale"), (("town", "children"), "pdp")])
def test_results_survive_disk_and_become_frames(columns, kind, tmp_path):
    data = mixed()
    model = of_table(lambda t: t["age"] * (t["town"] == "west") + t["children"], data)
    found = partial_dependence(model, data, columns, kind=kind, grid=4)
    back = Dependence.load(found.save(tmp_path / "curve.json"))
    for name in ("kind", "columns", "types", "labels", "output", "rows", "provenance"):
        assert getattr(back, name) == getattr(found, name), name
    for name in ("values", "stderr", "curves", "own"):
        np.testing.assert_array_equal(getattr(back, name), getattr(found, name))
    assert all(list(a) == list(b) for a, b in zip(back.grid, found.grid, strict=True))
    frame = found.to_frame()
    assert len(frame) == found.values.size and frame["value"].tolist() == found.values.ravel().tolist()
    with pytest.raises(ValueError, match="read-only"):
        found.values[0] = 1


def test_progress_counts_and_outputs_are_chosen():
    data = games.frame(30)
    model = explainer.wrap(LogisticRegression().fit(data, data["a"] > 0), class_names=["low", "high"])
    seen = []
    high = explainer.partial_dependence(model, data, "a", grid=5, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (150, 150) and high.labels == ("high",)
    low = explainer.partial_dependence(model, data, "a", grid=5, target="low")
    np.testing.assert_allclose(low.values, 1 - high.values)
    np.testing.assert_allclose(explainer.partial_dependence(model, data, 0, grid=5, target="all").values[1], high.values[0])
    logit = explainer.partial_dependence(model, data, "a", grid=5, output="logit")
    np.testing.assert_allclose(np.diff(logit.values[0], 2), 0, atol=1e-9)


def test_misuse_is_answered():
    data, model = games.frame(20), games.regression(games.wavy)
    for error, words, arguments in (
        (UnknownName, "column", {"columns": "z"}),
        (InvalidInput, "Name the column", {}),
        (InvalidInput, "two different", {"columns": ["a", "a"]}),
        (InvalidInput, "between 2 and", {"columns": "a", "grid": 1}),
        (InvalidInput, "at least 2 different", {"columns": "a", "grid": [1.0, 1.0]}),
        (InvalidInput, "holds numbers", {"columns": "a", "grid": ["x", "y"]}),
        (UnknownName, "kind", {"columns": "a", "kind": "pd"}),
        (Unsupported, "one column", {"columns": ["a", "b"], "kind": "ice"}),
        (InvalidInput, "predicted", {"columns": "a", "target": "predicted"}),
        (UnknownName, "output", {"columns": "a", "output": "odds"}),
        (InvalidInput, "rows", {"columns": "a", "rows": 0}),
        (InvalidInput, "up to 50", {"columns": ["a", "b"], "kind": "ale", "grid": 90, "rows": None, "data": games.frame(400)}),
    ):
        with pytest.raises(error, match=words):
            partial_dependence(model, **{"data": data, **arguments})
    people = mixed()
    of_people = of_table(lambda t: t["children"], people)
    with pytest.raises(UnknownName, match="value of column 'town'"):
        partial_dependence(of_people, people, "town", grid=["north", "est"])
    with pytest.raises(InvalidInput, match="whole numbers"):
        partial_dependence(of_people, people, "children", grid=[0.5, 1])
    with pytest.raises(InvalidInput, match="1 value"):
        partial_dependence(of_people, people.assign(town="north"), "town")
    with pytest.raises(Unsupported, match="is for tables"):
        partial_dependence(
            explainer.wrap(lambda t: np.ones((len(t), 1)), modality="text", task="regression", class_names=["v"]), ["a"], "a"
        )
    with pytest.raises(InvalidInput, match="brings no rows"):
        partial_dependence(of_people, None, "town")
