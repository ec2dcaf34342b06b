"""Owen values: against the definition by orders, closed forms, and the axioms that groups keep."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from games import brute_force, frame, regression, wavy

import explainer
from explainer.errors import InvalidInput, UnknownName

GROUPS = {"pair": ["a", "b"], "three": ["c", "d", "e"]}


def by_orders(function, x: np.ndarray, background: np.ndarray, groups: list[list[int]]) -> np.ndarray:
    """Mean marginal contribution over all orders in which each group's members stand together, one order at a time."""

    def v(members: tuple[int, ...]) -> float:
        rows = background.copy()
        rows[:, list(members)] = x[list(members)]
        return float(np.mean(function(rows)))

    phi, orders = np.zeros(len(x)), 0
    for outer in itertools.permutations(groups):
        for inner in itertools.product(*(itertools.permutations(group) for group in outer)):
            order = [j for group in inner for j in group]
            for at, j in enumerate(order):
                phi[j] += v(tuple(order[: at + 1])) - v(tuple(order[:at]))
            orders += 1
    return phi / orders


def across(x: np.ndarray) -> np.ndarray:
    """Three columns of two groups act together: there Owen values part from Shapley values; pairs alone would not do it."""
    return wavy(x) + 3 * x[:, 0] * x[:, 2] * x[:, 3]


def test_values_are_the_mean_over_the_orders_that_keep_groups_together():
    row, background = frame(1), frame(7, seed=1)
    ex = explainer.explain(regression(across, background=background), row, "owen", groups=GROUPS, verify=False)
    assert ex.provenance.parameters["algorithm"] == "exact" and ex.stderr is None
    expected = by_orders(across, row.to_numpy()[0], background.to_numpy(), [[0, 1], [2, 3, 4]])
    np.testing.assert_allclose(ex.values[0], expected, atol=1e-10)
    assert np.abs(expected - brute_force(across, row.to_numpy()[0], background.to_numpy())).max() > 1e-3


def test_parts_alone_have_their_shapley_values():
    row, background = frame(1), frame(7, seed=1)
    ex = explainer.explain(regression(wavy, background=background), row, "owen", groups=["a", "b", "c", "d", "e"], verify=False)
    np.testing.assert_allclose(ex.values[0], brute_force(wavy, row.to_numpy()[0], background.to_numpy()), atol=1e-10)


@pytest.mark.parametrize("budget", [16, 60, 5000])
def test_values_add_up_at_every_budget_and_say_what_was_shared(budget):
    columns = [f"x{j}" for j in range(12)]
    model, rows = regression(wavy, columns), frame(2, columns)
    ex = explainer.explain(model, rows, "owen", budget=budget, algorithm="splitting")
    np.testing.assert_allclose(ex.base_values + ex.values.sum(axis=1), ex.scores, atol=1e-10)
    shared = ex[0].verdict.checks["splitting"]
    assert (shared.value == 0) == (budget == 5000)
    assert budget == 5000 or "a larger budget" in shared.reason
    truth = explainer.explain(model, rows, "owen", budget=10**5, verify=False)
    if ex.stderr is not None:
        assert np.abs(ex.values - truth.values).max() > 1e-6
    else:
        np.testing.assert_allclose(ex.values, truth.values, atol=1e-10)


def test_tables_are_sampled_by_orders_which_is_closer_there():
    rng = np.random.default_rng(3)
    hidden, out, columns = rng.normal(size=(24, 24)), rng.normal(size=24), [f"x{j}" for j in range(24)]
    model, rows = regression(lambda x: np.maximum(x @ hidden, 0) @ out, columns), frame(3, columns)
    truth = explainer.explain(model, rows, "owen", budget=10**4, verify=False)
    found = {
        how: explainer.explain(model, rows, "owen", budget=100, algorithm=how, verify=False) for how in ("auto", "orders", "splitting")
    }
    assert [ex.provenance.parameters["algorithm"] for ex in (truth, *found.values())] == ["exact", "orders", "orders", "splitting"]
    np.testing.assert_array_equal(found["auto"].values, found["orders"].values)
    error = {how: np.linalg.norm(ex.values - truth.values) for how, ex in found.items()}
    assert error["orders"] < 0.5 * error["splitting"]
    with pytest.raises(UnknownName, match="splitting"):
        explainer.explain(model, rows, "owen", algorithm="spliting")


def test_a_dummy_gets_nothing_and_twins_in_one_group_the_same():
    def twins(x):
        return np.maximum(x[:, 0], x[:, 1]) * (1 + x[:, 2])

    row = pd.DataFrame([[2.0, 2.0, 1.0, 3.0, 4.0]], columns=list("abcde"))
    ex = explainer.explain(regression(twins, background=row * 0), row, "owen", groups=GROUPS, verify=False)
    assert ex.values[0, 0] == pytest.approx(ex.values[0, 1]) and ex.values[0, 0] > 0
    np.testing.assert_allclose(ex.values[0, 3:], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"g": ["a", "zebra"]}, "does not exist: 'zebra'"),
        ({"g": ["a", "a"]}, "twice"),
        ({"g": []}, "empty group"),
        ("aut", "not understood"),
    ],
)
def test_groups_that_do_not_fit_are_refused(groups, words):
    with pytest.raises(InvalidInput, match=words):
        explainer.explain(regression(wavy), frame(1), "owen", groups=groups)
