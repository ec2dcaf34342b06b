"""Interactions of pairs: against shapiq's enumeration, the tree route, and games whose interactions are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from games import brute_force, frame, regression, wavy

import explainer
from explainer.errors import UnknownName, Unsupported


def exact_of_shapiq(function, x: np.ndarray, background: np.ndarray, index: str) -> np.ndarray:
    """The matrix of order two from shapiq: single parts on the diagonal, each pair halved on both sides."""
    shapiq = pytest.importorskip("shapiq")

    def game(coalitions: np.ndarray) -> np.ndarray:
        return np.array([np.mean(function(np.where(mask, x, background))) for mask in np.atleast_2d(coalitions)])

    values = shapiq.ExactComputer(game, n_players=len(x))(index, 2)
    matrix = np.zeros((len(x), len(x)))
    for part in range(len(x)):
        matrix[part, part] = values[(part,)]
        for other in range(part):
            matrix[part, other] = matrix[other, part] = values[(other, part)] / 2
    return matrix


@pytest.mark.parametrize(("index", "name"), [("shapley", "k-SII"), ("shapley_taylor", "STII")])
def test_exact_values_are_those_of_shapiq(index, name):
    row, background = frame(1), frame(6, seed=1)
    ex = explainer.explain(regression(wavy, background=background), row, "shap_interactions", index=index, verify=False)
    assert ex.axes == ("instance", "column", "other column") and ex.provenance.parameters["algorithm"] == "exact"
    np.testing.assert_allclose(ex.values[0], exact_of_shapiq(wavy, row.to_numpy()[0], background.to_numpy(), name), atol=1e-10)
    assert ex.base_values[0] + ex.values[0].sum() == pytest.approx(ex.scores[0])


def test_rows_of_the_shapley_index_sum_to_shapley_values():
    row, background = frame(1), frame(6, seed=1)
    ex = explainer.explain(regression(wavy, background=background), row, "shap_interactions", verify=False)
    np.testing.assert_allclose(ex.values[0].sum(axis=1), brute_force(wavy, row.to_numpy()[0], background.to_numpy()), atol=1e-10)


def test_a_product_of_two_is_found_and_nothing_else():
    row = pd.DataFrame([[2.0, 3.0, 5.0, 7.0, 1.0]], columns=list("abcde"))
    model = regression(lambda x: 4 * x[:, 0] * x[:, 2] + x[:, 1], background=row * 0)
    ex = explainer.explain(model, row, "shap_interactions", verify=False)
    expected = np.zeros((5, 5))
    expected[0, 2] = expected[2, 0] = 4 * 2 * 5 / 2
    expected[1, 1] = 3
    np.testing.assert_allclose(ex.values[0], expected, atol=1e-10)


def test_sampled_values_are_near_the_exact_ones_and_their_errors_say_how_near():
    columns = [f"x{j}" for j in range(10)]
    row, background = frame(1, columns), frame(1, columns, seed=1)
    model = regression(wavy, columns, background)
    exact = explainer.explain(model, row, "shap_interactions", algorithm="exact", verify=False).values[0]
    ex = explainer.explain(model, row, "shap_interactions", algorithm="gaussian", budget=600, verify=False)
    assert ex.stderr is not None and (ex.stderr >= 0).all()
    assert np.linalg.norm(ex.values[0] - exact) < 0.5 * np.linalg.norm(exact)
    assert np.mean(np.abs(ex.values[0] - exact) <= 1.96 * ex.stderr[0] + 1e-9) >= 0.8
    more = explainer.explain(model, row, "shap_interactions", algorithm="gaussian", budget=1000, verify=False)
    assert np.linalg.norm(more.values[0] - exact) <= np.linalg.norm(ex.values[0] - exact) + 1e-9


def test_trees_are_read():
    from sklearn.ensemble import GradientBoostingRegressor

    data = frame(80)
    fitted = GradientBoostingRegressor(n_estimators=8, max_depth=3, random_state=0).fit(data, wavy(data.to_numpy()))
    model = explainer.wrap(fitted, background=data[:12])
    read = explainer.explain(model, data[:2], "shap_interactions", verify=False)
    scored = explainer.explain(model, data[:2], "shap_interactions", algorithm="exact", verify=False)
    assert read.provenance.parameters["algorithm"] == "tree"
    np.testing.assert_allclose(read.values, scored.values, atol=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownName, match="shapley_taylor"):
        explainer.explain(regression(wavy), frame(1), "shap_interactions", index="shapley_tailor")
    with pytest.raises(Unsupported, match="Shapley index only"):
        explainer.explain(regression(wavy), frame(1), "shap_interactions", index="shapley_taylor", algorithm="tree")
