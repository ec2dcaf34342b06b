"""Dependence of contributions on a column's values: the planted partner is found, and chance is called chance."""

import numpy as np
import pandas as pd
import pytest
from games import frame, regression

import explainer
from explainer.errors import InvalidInput, UnknownName, Unsupported
from explainer.inspection.contributions import contributions

COLUMNS = ["a", "b", "c", "d", "e"]


def explained(function, rows=300, seed=4):
    return explainer.explain(regression(function, COLUMNS), frame(rows, COLUMNS, seed=seed), "shap", verify=False)


def test_the_partner_of_a_planted_interaction_is_found():
    ex = explained(lambda x: x[:, 0] + 2 * x[:, 0] * x[:, 3] + 0.5 * x[:, 1] * x[:, 2])
    found = contributions(ex, "a")
    assert found.partner == "d" and found.strength["d"] > 0.5 and found.p_value == pytest.approx(1 / 200) and found.certain
    assert max(found.strength[k] for k in "bce") < 0.15
    np.testing.assert_array_equal(found.values, ex.values[:, 0])
    np.testing.assert_array_equal(found.other, ex.inputs["d"])
    assert contributions(ex, "b").partner == "c" and found.noise == 0
    assert contributions(ex).column == "a"  # the largest on average
    assert contributions(ex, "a", by="b").partner == "b"
    assert list(found.to_frame().columns) == ["a", "contribution", "stderr", "d"]


def test_an_additive_model_has_no_partner_worth_the_name():
    found = contributions(explained(lambda x: np.sin(2 * x[:, 0]) + x[:, 1] ** 2), "a")
    # What is left of a sine after a line in each of ten bins is a bend in the outer ones, which no other column explains.
    assert max(found.strength.values()) < 0.15 and not found.certain and found.left < 0.06


def test_chance_is_called_chance_as_often_as_told():
    """Contributions that are noise: over seeds about one in twenty may look like an interaction."""
    certain = []
    base = explained(lambda x: x[:, 0])
    import dataclasses

    for seed in range(40):
        noise = base.values + np.random.default_rng(seed).normal(size=base.values.shape)
        certain.append(contributions(dataclasses.replace(base, values=noise), "a", seed=seed).certain)
    assert np.mean(certain) <= 0.15


def test_a_correlated_column_is_no_partner():
    """b follows a closely: what a's own value explains must not be credited to b."""
    rng = np.random.default_rng(0)
    x = frame(400, COLUMNS)
    x["b"] = x["a"] + 0.1 * rng.normal(size=400)
    model = regression(lambda x: x[:, 0] ** 2 + x[:, 0] * (x[:, 3] > 0), COLUMNS)
    found = contributions(explainer.explain(model, x, "shap", verify=False), "a")
    assert found.partner == "d" and found.strength["b"] < 0.2 * found.strength["d"]


def test_words_and_missing_values_are_columns_too():
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"kind": rng.choice(["x", "y", None], 200), "size": np.where(rng.random(200) < 0.2, np.nan, rng.normal(size=200))})

    def score(table):
        size = table["size"].fillna(0.0)
        return np.where(table["kind"] == "x", size, -size) + table["size"].isna()

    model = explainer.wrap(
        score, modality="tabular", task="regression", class_names=["v"], feature_names=["kind", "size"], background=x[:30]
    )
    ex = explainer.explain(model, x, "shap", verify=False)
    for column, partner in (("size", "kind"), ("kind", "size")):
        found = contributions(ex, column)
        assert found.partner == partner and found.strength[partner] > 0.3 and np.isfinite(found.strength[partner])


def test_what_does_not_fit_is_refused():
    ex = explained(lambda x: x[:, 0], rows=25)
    with pytest.raises(UnknownName, match="nothing"):
        contributions(ex, "nothing")
    with pytest.raises(UnknownName, match="nobody"):
        contributions(ex, "a", by="nobody")
    with pytest.raises(InvalidInput, match="at least 20"):
        contributions(explained(lambda x: x[:, 0], rows=5))
    with pytest.raises(Unsupported, match="one target"):
        contributions("not an explanation")
