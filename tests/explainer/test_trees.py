import functools
import itertools
import math
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from games import frame, wavy
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

import explainer
from explainer.errors import Unsupported
from explainer.features import build
from explainer.methods import forest as forests
from explainer.methods.ensemble import Ensemble, from_table
from explainer.methods.trees import tree_interactions
from explainer.target import resolve

lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
COLUMNS = [f"x{j}" for j in range(6)]
HistClassifier = functools.partial(HistGradientBoostingClassifier, max_iter=12, min_samples_leaf=5)
HistRegressor = functools.partial(HistGradientBoostingRegressor, max_iter=12, min_samples_leaf=5)
LGBMClassifier = functools.partial(lightgbm.LGBMClassifier, n_estimators=12, num_leaves=12, min_child_samples=5, verbose=-1)
LGBMRegressor = functools.partial(lightgbm.LGBMRegressor, n_estimators=12, num_leaves=12, min_child_samples=5, verbose=-1)
REGRESSORS = {
    "tree": DecisionTreeRegressor, "extra tree": ExtraTreeRegressor,
    "forest": functools.partial(RandomForestRegressor, 9), "extra trees": functools.partial(ExtraTreesRegressor, 9, max_depth=5),
    "boosting": functools.partial(GradientBoostingRegressor, n_estimators=12), "histogram": HistRegressor,
    "xgboost": functools.partial(xgboost.XGBRegressor, n_estimators=12), "lightgbm": LGBMRegressor,
    "xgboost forest": functools.partial(xgboost.XGBRFRegressor, n_estimators=9),
    "dart": functools.partial(xgboost.XGBRegressor, n_estimators=9, booster="dart", rate_drop=0.5),
    "lightgbm forest": functools.partial(LGBMRegressor, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7),
    "counts": functools.partial(HistRegressor, loss="poisson"),
}  # fmt: skip
CLASSIFIERS = {
    "tree": functools.partial(DecisionTreeClassifier, max_depth=6), "extra tree": ExtraTreeClassifier,
    "forest": functools.partial(RandomForestClassifier, 9), "extra trees": functools.partial(ExtraTreesClassifier, 9, max_depth=5),
    "boosting": functools.partial(GradientBoostingClassifier, n_estimators=8), "histogram": HistClassifier,
    "xgboost": functools.partial(xgboost.XGBClassifier, n_estimators=8), "lightgbm": LGBMClassifier,
}  # fmt: skip
BOOSTED = ("boosting", "histogram", "xgboost", "lightgbm")
TAKE_MISSING = ("tree", "forest", "extra trees", "histogram", "xgboost", "lightgbm")
TOLERANCE = {"xgboost": 1e-5, "xgboost forest": 1e-5, "dart": 1e-5}  # its leaves and sums are float32


def table(rows: int = 150, missing: float = 0.0, seed: int = 0) -> pd.DataFrame:
    data = frame(rows, COLUMNS, seed)
    return data.mask(np.random.default_rng(seed + 1).random(data.shape) < missing) if missing else data


@functools.cache
def fitted(name: str, classes: int = 0, missing: float = 0.0):
    """A model of 12 background rows, trained on 150 rows; regression without classes."""
    data, kind = table(missing=missing), (CLASSIFIERS if classes else REGRESSORS)[name]
    y = wavy(data.fillna(0.5).to_numpy())
    y = np.exp(y / 3) if name == "counts" else np.digitize(y, np.quantile(y, np.arange(1, classes) / classes)) if classes else y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = kind(random_state=0).fit(data, y)
    scale = {"returns": "logit"} if classes > 2 and name in BOOSTED else {}
    return explainer.wrap(estimator, background=data[:12], **scale)


def expected_value(forest: forests.Forest, x: np.ndarray, members: tuple[int, ...]) -> np.ndarray:
    """Lundberg et al. (2020), algorithm 1: the margins when only the columns ``members`` are known."""

    def node(tree: forests.Tree, v: int) -> np.ndarray:
        if tree.left[v] < 0:
            return tree.value[v]
        left, right = tree.left[v], tree.right[v]
        if tree.feature[v] in members:
            value = x[tree.feature[v]]
            goes_left = bool(tree.missing_left[v]) if np.isnan(value) else value <= tree.threshold[v]
            return node(tree, left if goes_left else right)
        both = tree.cover[left] + tree.cover[right]
        return (tree.cover[left] * node(tree, left) + tree.cover[right] * node(tree, right)) / both

    total = np.array(forest.base, dtype=float)
    for tree in forest.trees:
        total[tree.output : tree.output + tree.value.shape[1]] += node(tree, 0)
    return total


def all_coalitions(game, d: int) -> np.ndarray:
    return np.array([game(tuple(j for j in range(d) if s >> j & 1)) for s in range(2**d)])


def marginal_game(model, row: np.ndarray, output: str = "raw") -> np.ndarray:
    """Mean scores over the background rows for all coalitions ``(2**d, outputs)``, straight from the model."""
    d, background = len(row), model.background.to_numpy(dtype=float)
    masks = np.arange(2**d)[:, None] >> np.arange(d) & 1 == 1
    rows = np.where(masks[:, None], row, background).reshape(-1, d)
    scores = model.scores(pd.DataFrame(rows, columns=list(model.feature_names)), output)
    return scores.reshape(2**d, len(background), -1).mean(axis=1)


# --- the path-dependent game


@pytest.mark.parametrize("name", REGRESSORS)
def test_path_dependent_values_are_those_of_shap(name):
    import shap

    model, x = fitted(name), table(40, seed=5)
    if name == "counts":
        with pytest.raises(Unsupported, match="not a sum over its trees"):
            explainer.explain(model, x, "tree_shap")
        return
    ex = explainer.explain(model, x, "tree_shap", verify=False)
    peer = shap.TreeExplainer(model.estimator).shap_values(x, check_additivity=False)
    peer = peer / 12 if name == "lightgbm forest" else peer  # LightGBM's own algorithm, which shap asks, adds trees that are averaged
    np.testing.assert_allclose(ex.values, peer, atol=TOLERANCE.get(name, 1e-10))
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=TOLERANCE.get(name, 1e-10))
    assert ex.provenance.parameters["algorithm"] == "tree (path-dependent)"


@pytest.mark.parametrize(("name", "classes"), [(n, k) for n in CLASSIFIERS for k in (2, 3) if (n, k) != ("boosting", 3)])  # shap refuses it
def test_path_dependent_values_of_classes_are_those_of_shap(name, classes):
    import shap

    model, x = fitted(name, classes), table(30, seed=5)
    ex = explainer.explain(model, x, "tree_shap", target="all", output="logit" if name in BOOSTED else "probability", verify=False)
    peer = np.asarray(shap.TreeExplainer(model.estimator).shap_values(x, check_additivity=False)).reshape(30, 6, -1)
    if peer.shape[2] == 1:
        peer = np.concatenate([-peer, peer], axis=2)
    tolerance = TOLERANCE.get(name, 1e-10)
    np.testing.assert_allclose(ex.values, peer, atol=tolerance)
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=10 * tolerance)


@pytest.mark.parametrize("name", TAKE_MISSING)
def test_path_dependent_values_follow_the_definition_with_missing_values(name):
    model, x = fitted(name, missing=0.3), table(3, missing=0.4, seed=8)
    ex = explainer.explain(model, x, "tree_shap", verify=False)
    forest = forests.read(model.estimator)
    for i in range(3):
        row = forest.columns(x)[i]
        game = all_coalitions(functools.partial(expected_value, forest, row), 6)
        np.testing.assert_allclose(ex.values[i], from_table(game)[0][:, 0], atol=1e-10)
        np.testing.assert_allclose(ex.base_values[i], game[0], atol=1e-10)


def test_path_dependent_values_of_three_boosted_classes_follow_the_definition():
    model, x = fitted("boosting", 3), table(2, seed=8)
    ex = explainer.explain(model, x, "tree_shap", target="all", output="logit", verify=False)
    forest = forests.read(model.estimator)
    for i in range(2):
        game = all_coalitions(functools.partial(expected_value, forest, forest.columns(x)[i]), 6)
        np.testing.assert_allclose(ex.values[i], from_table(game)[0], atol=1e-10)


# --- the interventional game


@pytest.mark.parametrize(("name", "missing"), [*((n, 0.0) for n in REGRESSORS), *((n, 0.3) for n in TAKE_MISSING)])
def test_interventional_values_follow_the_definition(name, missing):
    model, x = fitted(name, missing=missing), table(2, missing, seed=8)
    ex = explainer.explain(model, x, "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == ("tree (all coalitions)" if name == "counts" else "tree (interventional)")
    for i in range(2):
        expected = from_table(marginal_game(model, x.to_numpy()[i]))[0][:, 0]
        np.testing.assert_allclose(ex.values[i], expected, atol=TOLERANCE.get(name, 1e-10))
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=TOLERANCE.get(name, 1e-10))
    assert ex.stderr is None


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(("name", "output"), [*((n, "probability") for n in CLASSIFIERS), *((n, "logit") for n in BOOSTED)])
def test_interventional_values_of_classes_on_both_scales(name, output, classes):
    """Shares and logits by the trees' closed forms; probabilities of boosted models from all coalitions scored on the trees."""
    model, x = fitted(name, classes), table(1, seed=8)
    ex = explainer.explain(model, x, "shap", target="all", output=output, verify=False)
    summed = (output == "logit") == (name in BOOSTED)
    assert ex.provenance.parameters["algorithm"] == ("tree (interventional)" if summed else "tree (all coalitions)")
    expected = from_table(marginal_game(model, x.to_numpy()[0], output))[0]
    np.testing.assert_allclose(ex.values[0], expected, atol=TOLERANCE.get(name, 1e-10))


@pytest.mark.parametrize("depth", [3, 12])
def test_interventional_values_are_those_of_shap(depth):
    import shap

    data = frame(400, [f"x{j}" for j in range(12)])
    estimator = RandomForestRegressor(10, max_depth=depth, random_state=0).fit(data, wavy(data.to_numpy()))
    model = explainer.wrap(estimator, background=data[:30])
    ex = explainer.explain(model, data[100:160], "shap", verify=False)
    peer = shap.TreeExplainer(estimator, data[:30]).shap_values(data[100:160], check_additivity=False)
    np.testing.assert_allclose(ex.values, peer, atol=1e-6)  # shap keeps single precision here


def test_groups_of_columns_are_one_player_each():
    model, x = fitted("forest", 3), table(2, seed=8)
    groups = {"first": ["x0", "x3"], "second": ["x1", "x5"]}
    for output in ("probability", "logit"):
        by_tree, exact = (
            explainer.explain(model, x, "shap", output=output, features=groups, algorithm=algorithm, verify=False)
            for algorithm in ("tree", "exact")
        )
        assert by_tree.feature_names[0] == ("first", "second", "x2", "x4")
        np.testing.assert_allclose(by_tree.values, exact.values, atol=1e-10)


def test_a_function_as_target():
    model, x = fitted("boosting", 2), table(2, seed=8)
    for target in (lambda scores: scores[:, 1] ** 2, lambda scores: 2 * scores[:, 1] - 1):
        by_tree, exact = (
            explainer.explain(model, x, "shap", target, algorithm=algorithm, output="logit", verify=False)
            for algorithm in ("tree", "exact")
        )
        np.testing.assert_allclose(by_tree.values, exact.values, atol=1e-10)
    linear = explainer.explain(model, x, "tree_shap", lambda scores: 2 * scores[:, 1] - 1, output="logit", verify=False)
    plain = explainer.explain(model, x, "tree_shap", 1, output="logit", verify=False)
    np.testing.assert_allclose(linear.values, 2 * plain.values, atol=1e-10)
    np.testing.assert_allclose(linear.base_values, 2 * plain.base_values - 1, atol=1e-8)
    with pytest.raises(Unsupported, match="this function is not"):
        explainer.explain(model, x, "tree_shap", lambda scores: np.maximum(scores[:, 1], 0.5), output="logit")


# --- interactions


@pytest.mark.parametrize("name", ["forest", "boosting", "histogram"])
def test_path_dependent_interactions_are_those_of_shap(name):
    import shap

    model, x = fitted(name), table(5, seed=8)
    ensemble = Ensemble(model, [x], "raw", np.arange(6))
    ours = ensemble.interactions(x, None, lambda done, total: None)[..., 0]
    np.testing.assert_allclose(ours, shap.TreeExplainer(model.estimator).shap_interaction_values(x).reshape(5, 6, 6), atol=1e-10)


@pytest.mark.parametrize(
    ("name", "output"), [("forest", "probability"), ("boosting", "logit"), ("boosting", "probability"), ("lightgbm", "logit")]
)
def test_interactions_follow_the_definition(name, output):
    model, x = fitted(name, 2), table(2, seed=8)
    target = resolve(1, model.scores(x, output), model.class_names)
    matrices, base = tree_interactions(model, x, target, output, build(model, x))
    values = explainer.explain(model, x, "shap", 1, output=output, verify=False)
    np.testing.assert_allclose(matrices.sum(axis=2)[..., 0], values.values, atol=1e-10)
    np.testing.assert_allclose(base[:, 0], values.base_values, atol=1e-10)
    game = marginal_game(model, x.to_numpy()[1], output)[:, 1]
    v = {tuple(j for j in range(6) if s >> j & 1): game[s] for s in range(64)}
    for i, j in itertools.combinations(range(6), 2):
        rest = [k for k in range(6) if k not in (i, j)]
        total = 0.0
        for size in range(5):
            for s in itertools.combinations(rest, size):
                joined = [tuple(sorted((*s, *more))) for more in ((i, j), (i,), (j,), ())]
                total += math.factorial(size) * math.factorial(4 - size) / 120 * (v[joined[0]] - v[joined[1]] - v[joined[2]] + v[joined[3]])
        np.testing.assert_allclose(matrices[1, i, j, 0], total / 2, atol=1e-10)
        assert matrices[1, i, j, 0] == matrices[1, j, i, 0]


# --- shapes of trees


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 5))
def test_random_trees_follow_both_definitions(seed, leaves, columns):
    """Any shape, thresholds that many rows share, columns that return on a path, two outputs at once."""
    rng = np.random.default_rng(seed)
    names = [f"x{j}" for j in range(columns)]
    data = pd.DataFrame(rng.integers(-3, 4, (60, columns)), columns=names)
    estimator = ExtraTreeRegressor(max_leaf_nodes=max(2, leaves), random_state=seed).fit(data, rng.normal(size=(60, 2)))
    model = explainer.wrap(estimator, background=data[:5])
    x = data[7:9]
    ensemble = Ensemble(model, [x], "raw", np.arange(columns))
    quiet = lambda done, total: None  # noqa: E731
    path, mixed = ensemble.values(x, None, quiet), ensemble.values(x, model.background, quiet)
    pairs = ensemble.interactions(x, None, quiet), ensemble.interactions(x, model.background, quiet)
    for i in range(2):
        row = x.to_numpy(dtype=float)[i]
        by_cover = all_coalitions(functools.partial(expected_value, ensemble.forest, row), columns)
        for values, both, game in ((path, pairs[0], by_cover), (mixed, pairs[1], marginal_game(model, row))):
            phi, interaction = from_table(game)
            np.testing.assert_allclose(values[i], phi, atol=1e-10)
            off = ~np.eye(columns, dtype=bool)
            np.testing.assert_allclose(both[i][off], interaction[off] / 2, atol=1e-10)
            np.testing.assert_allclose(both[i].sum(axis=1), phi, atol=1e-10)


def test_from_table_follows_the_definition():
    game = np.random.default_rng(0).normal(size=(2**4, 2))
    phi, pairs = from_table(game)
    for i in range(4):
        total, crossed = np.zeros(2), np.zeros((4, 2))
        for order in itertools.permutations(range(4)):
            before = sum(1 << j for j in order[: order.index(i)])
            total += game[before | 1 << i] - game[before]
        np.testing.assert_allclose(phi[i], total / 24, atol=1e-12)
        for j in set(range(4)) - {i}:
            for s in range(16):
                if not s >> i & 1 and not s >> j & 1:
                    weight = math.factorial(s.bit_count()) * math.factorial(2 - s.bit_count()) / 6
                    crossed[j] += weight * (game[s | 1 << i | 1 << j] - game[s | 1 << i] - game[s | 1 << j] + game[s])
        np.testing.assert_allclose(pairs[i], crossed, atol=1e-12)


def test_a_model_of_leaves_only_gives_nothing_to_anyone():
    data = table()
    for estimator in (
        RandomForestRegressor(3),
        GradientBoostingRegressor(n_estimators=2),
        LGBMRegressor(),
        xgboost.XGBRegressor(n_estimators=2),
    ):
        model = explainer.wrap(estimator.fit(data, np.full(150, 2.5)), background=data[:5])
        for method in ("shap", "tree_shap"):
            ex = explainer.explain(model, data[:3], method, verify=False)
            assert (ex.values == 0).all()
            np.testing.assert_allclose(ex.base_values, 2.5, atol=1e-6)


def test_deep_trees_and_constant_columns():
    import shap

    data = frame(1500, [f"x{j}" for j in range(30)], seed=3)
    data["x7"] = 1.0
    y = np.sin(np.arange(1500))  # nothing to learn: paths are as long as they get
    estimator = DecisionTreeRegressor(splitter="random", random_state=0).fit(data, y)
    assert estimator.get_depth() > 20
    model = explainer.wrap(estimator, background=data[:20])
    path, mixed = (explainer.explain(model, data[50:60], method, verify=False) for method in ("tree_shap", "shap"))
    np.testing.assert_allclose(path.values, shap.TreeExplainer(estimator).shap_values(data[50:60]), atol=1e-10)
    for ex in (path, mixed):
        assert (ex.values[:, 7] == 0).all()
        np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-10)


def test_an_instance_is_explained_alike_in_any_batch():
    model, x = fitted("forest"), table(70, seed=5)
    for method in ("shap", "tree_shap"):
        together = explainer.explain(model, x, method, verify=False).values
        np.testing.assert_array_equal(explainer.explain(model, x[33:34], method, verify=False).values[0], together[33])
        np.testing.assert_array_equal(explainer.explain(model, x, method, verify=False).values, together)


def test_early_stopping_is_read_as_the_model_predicts():
    data = table(300)
    y = wavy(data.to_numpy())
    boosted = xgboost.XGBRegressor(n_estimators=60, learning_rate=0.8, early_stopping_rounds=3)
    boosted.fit(data[:200], y[:200], eval_set=[(data[200:], y[200:])], verbose=False)
    assert boosted.best_iteration + 1 < len(boosted.get_booster().get_dump())
    light = LGBMRegressor(n_estimators=60, learning_rate=0.8)
    light.fit(data[:200], y[:200], eval_set=[(data[200:], y[200:])], callbacks=[lightgbm.early_stopping(3, verbose=False)])
    for estimator in (boosted, light):
        ex = explainer.explain(explainer.wrap(estimator, background=data[:20]), data[:5], "shap", verify=False)
        assert ex.provenance.parameters["algorithm"] == "tree (interventional)"
        np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-5)


def test_thresholds_are_compared_as_the_library_does():
    """Rows that lie exactly on thresholds, which XGBoost sends right and the others left."""
    data = pd.DataFrame(np.random.default_rng(0).integers(0, 5, (200, 6)) / 7, columns=COLUMNS)
    y = wavy(data.to_numpy())
    for kind in (DecisionTreeRegressor(), HistRegressor(), LGBMRegressor(), xgboost.XGBRegressor(n_estimators=10)):
        estimator = kind.fit(data, y)
        forest = forests.read(estimator)
        on = data.copy()
        for j in range(6):
            cuts = np.unique(np.concatenate([t.threshold[(t.left >= 0) & (t.feature == j)] for t in forest.trees]))
            at = np.resize(cuts, 200) if len(cuts) else np.zeros(200)
            on[f"x{j}"] = np.where(np.arange(200) % 2, at, np.nextafter(at.astype(np.float32), np.float32(9)).astype(float))
        model = explainer.wrap(estimator, background=on[:10])
        np.testing.assert_allclose(Ensemble(model, [on], "raw", np.arange(6)).margins(on), model.scores(on), atol=1e-5)


# --- what is refused, and where it goes instead


def test_the_methods_name_their_games():
    model, x = fitted("forest"), table(2, seed=8)
    path, mixed = (explainer.explain(model, x, method, verify=False) for method in ("tree_shap", "shap"))
    assert "path-dependent" in " ".join(path.provenance.notes) and "training rows" in path.provenance.parameters["absence"]
    assert mixed.provenance.parameters["absence"] == "mean over 12 background rows"
    assert np.abs(path.values - mixed.values).max() > 1e-3
    alone = explainer.wrap(model.estimator)
    np.testing.assert_array_equal(explainer.explain(alone, x, "tree_shap", verify=False).values, path.values)


def test_path_dependent_refusals():
    data = table()
    y = wavy(data.to_numpy()) > 0
    with pytest.raises(Unsupported, match="output='logit'"):
        explainer.explain(fitted("boosting", 2), data[:2], "tree_shap")
    scaled = explainer.wrap(make_pipeline(StandardScaler(), RandomForestClassifier(3)).fit(data, y), background=data[:5])
    with pytest.raises(Unsupported, match="seen directly"):
        explainer.explain(scaled, data[:2], "tree_shap")
    prepared = explainer.wrap(
        RandomForestClassifier(3).fit(data.to_numpy(), y),
        preprocess=lambda table: table.to_numpy(),
        feature_names=COLUMNS,
        background=data[:5],
    )
    with pytest.raises(Unsupported, match="preprocessed"):
        explainer.explain(prepared, data[:2], "tree_shap")


def test_what_the_trees_cannot_tell_is_sampled_and_says_why():
    wide = frame(200, [f"x{j}" for j in range(20)])
    labels = (wide.sum(axis=1) > 0).astype(int)
    boosted = GradientBoostingClassifier(n_estimators=60, random_state=0).fit(wide, labels)
    ex = explainer.explain(explainer.wrap(boosted, background=wide[:5]), wide[:1], "shap", budget=60, verify=False)
    assert ex.stderr is not None and "not a sum over its trees" in " ".join(ex.provenance.notes)
    data = table()
    started = GradientBoostingRegressor(n_estimators=5, init=LinearRegression()).fit(data, wavy(data.to_numpy()))
    ex = explainer.explain(explainer.wrap(started, background=data[:5]), data[:1], "shap", verify=False)
    assert "LinearRegression" in " ".join(ex.provenance.notes)
    linear = LGBMRegressor(linear_tree=True).fit(data, wavy(data.to_numpy()))
    with pytest.raises(Unsupported, match="linear models in their leaves"):
        explainer.explain(explainer.wrap(linear, background=data[:5]), data[:1], "shap", algorithm="tree")


def test_what_a_library_prints_on_trees_it_cannot_read_reaches_nobody():
    code = (  # it prints from compiled code, and may do so only when the process ends
        "import explainer, numpy as np\n"
        "from lightgbm import LGBMRegressor\n"
        "data = np.random.default_rng(0).normal(size=(60, 3))\n"
        "linear = LGBMRegressor(linear_tree=True, n_estimators=3, verbose=-1).fit(data, data[:, 0])\n"
        "model = explainer.wrap(linear, background=data[:5])\n"
        "explainer.explain(model, data[:1], 'shap', verify=False)\n"
        "try: explainer.explain(model, data[:1], 'tree_shap')\n"
        "except explainer.errors.Unsupported: pass\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "LightGBM" not in ran.stdout + ran.stderr


def test_splits_on_categories_are_refused_or_left_to_shap():
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"town": pd.Categorical(rng.choice(list("abcdef"), 300)), "age": rng.normal(size=300)})
    y = data["town"].isin(["b", "e"]) * 2.0 + data["age"]
    light = LGBMRegressor().fit(data, y)
    model = explainer.wrap(light, background=data[:20])
    with pytest.raises(Unsupported, match="Splits on categories"):
        explainer.explain(model, data[:2], "shap", algorithm="tree")
    ex = explainer.explain(model, data[:2], "tree_shap", verify=False)
    assert ex.provenance.parameters["algorithm"].startswith("shap.TreeExplainer")
    np.testing.assert_allclose(ex.values, light.booster_.predict(data[:2], pred_contrib=True)[:, :-1], atol=1e-10)


@pytest.mark.parametrize(
    "kind",
    [functools.partial(xgboost.XGBRegressor, missing=0, n_estimators=20), functools.partial(LGBMRegressor, zero_as_missing=True)],
    ids=["xgboost", "lightgbm"],
)
def test_a_number_that_counts_as_missing_is_read_as_the_library_does(kind):
    rng = np.random.default_rng(2)
    data = table(300).round(1)[COLUMNS[:4]].mask(rng.random((300, 4)) < 0.05, 0.0)
    y = np.where(data.x0 == 0, 5, data.x0) * np.where(data.x1 == 0, -2, 1) + data.x2
    model = explainer.wrap(kind(random_state=0).fit(data, y), background=data[:30])
    ex = explainer.explain(model, data[100:104], "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == "tree (interventional)"
    for i in range(4):
        np.testing.assert_allclose(ex.values[i], from_table(marginal_game(model, data.to_numpy()[100 + i]))[0][:, 0], atol=1e-5)
    np.testing.assert_allclose(ex.base_values, model.scores(model.background).mean(), atol=1e-5)


@pytest.mark.parametrize("reads", [True, False], ids=["read here", "read by shap"])
def test_trees_are_held_against_rows_put_together_from_two(reads, monkeypatch):
    class Mixed(RandomForestRegressor):
        """The sum of its trees on real rows, and another number where the first column is above 0 and the second is not."""

        def predict(self, table):
            table = np.asarray(table)
            return super().predict(table) + 3 * ((table[:, 0] > 0) & (table[:, 1] <= 0))

    Mixed.__name__ = "RandomForestRegressor"
    data = table()
    alike = data[(data.x0 > 0) == (data.x1 > 0)]
    mixed = Mixed(3, random_state=0).fit(data.to_numpy(), wavy(data.to_numpy()))
    model = explainer.wrap(mixed, background=alike[:9], feature_names=COLUMNS)
    if not reads:
        monkeypatch.setattr(forests, "_READERS", (("RandomForest", lambda estimator: int("not a number")),))
    ex = explainer.explain(model, alike[20:21], "shap", verify=False)
    truth = from_table(marginal_game(model, alike.to_numpy()[20]))[0][:, 0]
    np.testing.assert_allclose(ex.values[0], truth, atol=1e-9)
    assert np.abs(truth[:2]).max() > 0.5


def test_shap_is_given_all_background_rows_and_its_base_is_held_against_their_mean(monkeypatch, capfd):
    data = table(300)
    forest = RandomForestRegressor(3, random_state=0).fit(data.to_numpy(), wavy(data.to_numpy()))
    monkeypatch.setattr(forests, "_READERS", (("RandomForest", lambda estimator: int("not a number")),))
    ex = explainer.explain(explainer.wrap(forest, feature_names=COLUMNS), data[:2], "shap", background=data[20:220], verify=False)
    assert ex.provenance.parameters["algorithm"].startswith("shap.TreeExplainer")
    np.testing.assert_allclose(ex.base_values, forest.predict(data[20:220].to_numpy()).mean())
    towns = pd.DataFrame({"town": pd.Categorical(list("abcdef") * 50), "age": data.x0})
    light = LGBMRegressor().fit(towns, towns["town"].isin(["b", "e"]) * 2.0 + towns["age"])
    explainer.explain(explainer.wrap(light, background=towns[:20]), towns[:1], "shap", verify=False)
    assert capfd.readouterr().err == ""


def test_a_regression_through_a_link_is_not_advised_to_ask_for_logits():
    with pytest.raises(Unsupported, match="exponential") as refused:
        explainer.explain(fitted("counts"), table()[:2], "tree_shap")
    assert "logit" not in str(refused.value)


def test_a_model_whose_trees_do_not_add_up_to_its_scores_is_not_believed():
    class Shifted(RandomForestRegressor):
        def predict(self, table):
            return super().predict(table) + table.to_numpy()[:, 0]

    Shifted.__name__ = "RandomForestRegressor"
    data = table()
    model = explainer.wrap(Shifted(3, random_state=0).fit(data, wavy(data.to_numpy())), background=data[:5])
    with pytest.raises(Unsupported, match="do not reproduce"):
        explainer.explain(model, data[:2], "tree_shap")
    ex = explainer.explain(model, data[:2], "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == "exact" and "do not reproduce" in " ".join(ex.provenance.notes)
