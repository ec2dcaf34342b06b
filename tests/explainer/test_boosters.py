"""The native objects of XGBoost and LightGBM are explained as what they predict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer.errors import InvalidInput, Unsupported

lightgbm, xgboost = pytest.importorskip("lightgbm"), pytest.importorskip("xgboost")
COLUMNS = ["age", "income", "debt", "years"]


def data(named: bool, rows: int = 400) -> tuple[Any, np.ndarray]:
    values = np.random.default_rng(0).normal(size=(rows, 4))
    values[::7, 1] = np.nan
    score = np.nan_to_num(values[:, 0] * 2 + values[:, 1] ** 2 - values[:, 2])
    return (pd.DataFrame(values, columns=COLUMNS) if named else values), score


def xgb(objective: str, y: np.ndarray, x: Any, trees: int = 15, **more: Any) -> Any:
    return xgboost.train({"objective": objective, "max_depth": 3, **more}, xgboost.DMatrix(x, y), trees)


def lgb(objective: str, y: np.ndarray, x: Any, trees: int = 15, **more: Any) -> Any:
    settings = {"objective": objective, "num_leaves": 8, "min_data_in_leaf": 5, "verbose": -1, **more}
    return lightgbm.train(settings, lightgbm.Dataset(x, y), trees)


def predicted(booster: Any, x: Any) -> np.ndarray:
    return booster.predict(xgboost.DMatrix(x)) if isinstance(booster, xgboost.Booster) else booster.predict(x)


@pytest.mark.parametrize("named", [True, False], ids=["frame", "array"])
@pytest.mark.parametrize(
    ("train", "objective", "classes", "more"),
    [
        (xgb, "reg:squarederror", 0, {}),
        (xgb, "count:poisson", 0, {}),
        (xgb, "binary:logistic", 2, {}),
        (xgb, "binary:logitraw", 2, {}),
        (xgb, "multi:softprob", 3, {"num_class": 3}),
        (lgb, "regression", 0, {}),
        (lgb, "binary", 2, {}),
        (lgb, "multiclass", 3, {"num_class": 3}),
    ],
)
def test_a_booster_is_scored_as_it_predicts_and_read_as_trees(train: Any, objective: str, classes: int, more: dict, named: bool) -> None:
    x, score = data(named)
    y = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes)) if classes else np.exp(score / 4)
    booster = train(objective, y, x, **more)
    model = explainer.wrap(booster, background=x[:30])
    want = predicted(booster, x[:20])
    want = 1 / (1 + np.exp(-want)) if objective == "binary:logitraw" else want
    np.testing.assert_allclose(model.scores(x[:20]), np.stack([1 - want, want], 1) if classes == 2 else want.reshape(20, -1), atol=1e-6)
    library = "xgboost" if train is xgb else "lightgbm"
    assert model.name == f"{library}.Booster" and "Booster" in repr(model.estimator) and model.unhashed == ""  # type: ignore[attr-defined]
    assert model.task == ("classification" if classes else "regression")
    assert model.feature_names == (tuple(COLUMNS) if named else ("x0", "x1", "x2", "x3"))
    if objective != "count:poisson":  # a number behind a link is no sum of trees
        ex = explainer.explain(model, x[:5], "shap", verify=False, **({"output": "logit"} if classes else {}))
        assert ex.provenance.parameters["algorithm"].startswith("tree (")
    else:
        ex = explainer.explain(model, x[:5], "shap", verify=False)
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=2e-5)


def test_all_trees_of_an_xgboost_booster_count_as_they_do_in_its_predict() -> None:
    x, y = data(named=True)
    parts = [xgboost.DMatrix(x[k : k + 200], y[k : k + 200]) for k in (0, 200)]
    settings = {"eta": 0.9, "max_depth": 4}
    booster = xgboost.train(settings, parts[0], 60, evals=[(parts[1], "held")], early_stopping_rounds=3, verbose_eval=False)
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    model = explainer.wrap(booster, background=x[:30])
    ex = explainer.explain(model, x[:5], "shap", verify=False)
    assert ex.provenance.parameters["algorithm"] == "tree (interventional)"
    np.testing.assert_allclose(ex.scores, booster.predict(xgboost.DMatrix(x[:5])), atol=1e-6)
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-5)
    assert booster.attr("best_iteration") is not None  # the person's own is as it was


def test_a_lightgbm_booster_stops_where_it_was_best() -> None:
    x, y = data(named=True)
    settings = {"objective": "regression", "learning_rate": 0.9, "verbose": -1}
    kept = lightgbm.Dataset(x[:200], y[:200], free_raw_data=False)
    held = lightgbm.Dataset(x[200:], y[200:], reference=kept)
    booster = lightgbm.train(settings, kept, 60, valid_sets=[held], callbacks=[lightgbm.early_stopping(3, verbose=False)])
    ex = explainer.explain(explainer.wrap(booster, background=x[:30]), x[:5], "shap", verify=False)
    np.testing.assert_allclose(ex.scores, booster.predict(x[:5]), atol=1e-9)
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-6)


def test_boosters_differ_by_their_fingerprint_and_classes_may_be_named() -> None:
    x, score = data(named=True)
    y = (score > 1).astype(int)
    for train, objective in ((xgb, "binary:logistic"), (lgb, "binary")):
        one, same, other = (train(objective, y, x, trees) for trees in (15, 15, 16))
        prints = [explainer.wrap(b, background=x[:30]).fingerprint() for b in (one, same, other)]
        assert prints[0] == prints[1] != prints[2]
        assert explainer.wrap(one, background=x[:30], class_names=["refused", "granted"]).class_names == ("refused", "granted")


def test_estimators_of_other_trees_have_another_fingerprint() -> None:
    x, score = data(named=True)
    for kind in (xgboost.XGBRegressor(n_estimators=5), lightgbm.LGBMRegressor(n_estimators=5, verbose=-1)):
        prints = [explainer.wrap(kind.fit(x, y), background=x[:30]).fingerprint() for y in (score, score, -score)]
        assert prints[0] == prints[1] != prints[2]


def test_categories_are_read_and_names_keep_their_spaces() -> None:
    x, score = data(named=True)
    x = x.rename(columns={"age": "age in years"}).assign(kind=pd.Categorical(np.where(score > 0, "a", "b"), ["a", "b"]))
    y = (score + (x["kind"] == "a") > 1).astype(int)
    first = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, y, enable_categorical=True), 5)
    second = lgb("binary", y, x, 5)
    want = (first.predict(xgboost.DMatrix(x[:9], enable_categorical=True)), second.predict(x[:9]))
    for booster, told in zip((first, second), want, strict=True):
        model = explainer.wrap(booster, background=x[:30])
        assert model.feature_names == tuple(x.columns)
        np.testing.assert_allclose(model.scores(x[:9])[:, 1], told, atol=1e-6)


def test_what_boosters_cannot_be_taken_for_is_refused() -> None:
    x, score = data(named=False)
    both = np.stack([score > 0, score > 1], axis=1).astype(int)
    several = xgb("binary:logistic", both, x)
    with pytest.raises(Unsupported, match=r"several labels at once.*task='regression'"):
        explainer.wrap(several, background=x[:30])
    numbers = explainer.wrap(several, background=x[:30], task="regression")
    np.testing.assert_allclose(numbers.scores(x[:9]), several.predict(xgboost.DMatrix(x[:9])), atol=1e-6)
    for objective, more in (("binary", {"sigmoid": 2.0}), ("multiclassova", {"num_class": 2})):
        steep = lgb(objective, both[:, 0], x, **more)
        assert explainer.wrap(steep, background=x[:30]).returns == "probability"
        with pytest.raises(Unsupported, match=rf"raw scores of the objective {objective}.* are no logits"):
            explainer.wrap(steep, background=x[:30], returns="logit")
    with pytest.raises(InvalidInput, match="is it trained"):
        explainer.wrap(xgboost.Booster(), background=x[:30])

    class Own(xgboost.Booster):
        pass

    own = Own(model_file=bytearray(xgb("reg:squarederror", score, x).save_raw("ubj")))
    assert explainer.wrap(own, background=x[:30]).task == "regression"


def test_margins_without_a_known_link_are_refused_or_taken_as_numbers() -> None:
    x, score = data(named=False)
    booster = xgb("binary:hinge", (score > 1).astype(int), x)
    with pytest.raises(Unsupported, match=r"binary:hinge turns margins.*task='regression'"):
        explainer.wrap(booster, background=x[:30])
    model = explainer.wrap(booster, background=x[:30], task="regression")
    np.testing.assert_allclose(model.scores(x[:9])[:, 0], booster.predict(xgboost.DMatrix(x[:9])))
