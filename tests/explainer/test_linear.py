"""The closed form of linear models, against the sum over all coalitions and against shap."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import shap
from games import brute_force, frame
from sklearn.decomposition import PCA
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, PowerTransformer, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

import explainer
from explainer.errors import Unsupported

COLUMNS = list("abcd")
DATA = frame(80, COLUMNS) * [1, 5, 0.2, 30] + 2
Y = DATA["a"] - 0.3 * DATA["b"] + 4 * DATA["c"] + np.random.default_rng(0).normal(size=80)
REGRESSIONS = [LinearRegression(), Ridge(), Lasso(0.01), ElasticNet(0.01), LinearSVR(max_iter=20000), SGDRegressor(random_state=0)]
CLASSIFIERS = [LogisticRegression(max_iter=500), LinearSVC(), SGDClassifier(random_state=0), RidgeClassifier()]
SCALERS = [None, StandardScaler(), MinMaxScaler(), PowerTransformer()]


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("kind", [*REGRESSIONS, *CLASSIFIERS], ids=lambda k: type(k).__name__)
def test_values_are_those_of_all_coalitions(kind, scaler):
    estimator = kind if scaler is None else make_pipeline(scaler, kind)
    scaled = DATA if scaler is not None or not type(kind).__name__.startswith("SGD") else DATA / 30
    estimator = estimator.fit(scaled, Y.mean() < Y if kind in CLASSIFIERS else Y)
    model = explainer.wrap(estimator, background=scaled[:9])
    index = len(model.class_names) - 1
    ex = explainer.explain(model, scaled[70:72], "shap", target=index, output="logit", algorithm="linear")
    assert ex.stderr is None and ex.provenance.parameters["algorithm"] == "linear"

    def score(rows):
        return model.scores(pd.DataFrame(rows, columns=COLUMNS), "logit")[:, index]

    for i in range(2):
        truth = brute_force(score, scaled.to_numpy()[70 + i], scaled.to_numpy()[:9])
        np.testing.assert_allclose(ex.values[i], truth, atol=1e-7 * max(1, np.abs(truth).max()))
    np.testing.assert_allclose(ex.base_values, score(scaled.to_numpy()[:9]).mean())
    assert {v.status for v in ex.verdicts} == {"pass"}


def test_a_thousand_columns_are_exact_and_those_of_shap():
    wide = frame(150, [f"x{j}" for j in range(1000)])
    ridge = Ridge().fit(wide, wide.sum(axis=1))
    ex = explainer.explain(explainer.wrap(ridge, background=wide[:120]), wide[130:133], "shap")
    assert ex.provenance.parameters == {"algorithm": "linear", "absence": "mean over 120 background rows"}
    np.testing.assert_allclose(ex.values, shap.LinearExplainer(ridge, shap.maskers.Independent(wide[:120], 120)).shap_values(wide[130:133]))


def test_groups_margins_and_baseline_rows():
    ridge = Ridge().fit(DATA, np.column_stack([Y, 2 * Y + DATA["d"]]))
    model = explainer.wrap(ridge, background=DATA[:9], class_names=["one", "two"])
    options = {"target": ("margin", "two", "one"), "features": {"both": ["a", "d"]}, "verify": False}
    for more in ({}, {"baseline": "median"}):
        linear, exact = (explainer.explain(model, DATA[70:72], "shap", algorithm=name, **options, **more) for name in ("linear", "exact"))
        np.testing.assert_allclose(linear.values, exact.values, atol=1e-9)
        np.testing.assert_allclose(linear.base_values, exact.base_values)
        assert (
            linear.feature_names == exact.feature_names
            and linear.provenance.parameters["absence"] == exact.provenance.parameters["absence"]
        )


class Bent(LinearRegression):
    """Linear on real rows, whose first two columns go together, and not on rows put together from two."""

    def predict(self, rows):
        table = np.asarray(rows)
        return super().predict(rows) + 3 * ((table[:, 0] > 2) & (table[:, 1] <= 2))


@pytest.mark.parametrize(
    ("estimator", "options", "words"),
    [
        (make_pipeline(PCA(4), LinearRegression()), {}, "column by column"),
        (make_pipeline(Normalizer(), LinearRegression()), {}, "column by column"),
        (make_pipeline(PCA(3), LinearRegression()), {}, "column by column"),
        (Bent(), {}, "reproduce"),
        (PoissonRegressor(), {}, "not linear"),
        (Ridge(), {"baseline": "copula"}, "background rows' values"),
    ],
)
def test_what_is_not_linear_in_its_columns_is_refused_and_worked_out_otherwise(estimator, options, words):
    real = DATA[(DATA["a"] > 2) == (DATA["b"] > 2)]
    model = explainer.wrap(estimator.fit(DATA, np.abs(Y)), background=real[:9])
    with pytest.raises(Unsupported, match=words):
        explainer.explain(model, real[20:22], "shap", algorithm="linear", **options)
    assert explainer.explain(model, real[20:21], "shap", verify=False, **options).provenance.parameters["algorithm"] == "exact"
