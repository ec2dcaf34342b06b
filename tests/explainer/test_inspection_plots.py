"""Figures of dependence, permutation importance and counterfactuals: what is drawn is what was found."""

from __future__ import annotations

import games
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import explainer
from explainer.errors import UnknownName


def fitted() -> tuple[explainer.Model, pd.DataFrame, np.ndarray]:
    data = games.frame(80, ["a", "b", "c"])
    labels = (data["a"] + 0.5 * data["b"] > 0).to_numpy()
    return explainer.wrap(LogisticRegression().fit(data, labels), class_names=["no", "yes"], background=data), data, labels


@pytest.mark.parametrize("dark", [False, True])
def test_curves_bands_and_maps_show_the_values(dark):
    model, data, _ = fitted()
    found = explainer.partial_dependence(model, data, "a", kind="ice", grid=6, target="all")
    figure = explainer.plot(found, output="yes", dark=dark)
    lines = {trace.name: trace for trace in figure.data}
    np.testing.assert_allclose(lines["yes"].y, found.values[1])
    assert len(lines["single rows"].y) == 80 * 7 and "no" not in lines
    np.testing.assert_allclose(figure.data[2].y, found.high[1])
    assert {trace.name for trace in explainer.plot(found).data} >= {"no", "yes"}
    pair = explainer.partial_dependence(model, data, ["a", "b"], grid=4)
    np.testing.assert_allclose(explainer.plot(pair).data[0].z, pair.values[0].T)
    with pytest.raises(UnknownName, match="output"):
        explainer.plot(found, output="maybe")


def test_bars_are_the_drops_and_their_intervals():
    model, data, labels = fitted()
    found = explainer.permutation_importance(model, data, labels, repeats=3)
    bars = explainer.plot(found, top=2).data[0]
    np.testing.assert_allclose(bars.x, found.values[found.order[:2]])
    np.testing.assert_allclose(np.array(bars.x) + bars.error_x.array, found.high[found.order[:2]])


def test_a_table_shows_what_changed_or_why_nothing_did():
    model, data, labels = fitted()
    found = explainer.counterfactuals(model, data[~labels].iloc[:2], k=2, budget=2000)
    cells = explainer.plot(found, instance=1).data[0].cells.values
    first = found.of(1)[0]
    for j in np.flatnonzero(found.changed[first]):
        row = list(cells[0]).index(found.rows.columns[j])
        assert cells[2][row][-1] == ("↑" if found.rows.iloc[first, j] > found.originals.iloc[1, j] else "↓")
    none = explainer.counterfactuals(model, data[~labels].iloc[:1], immutable=["a", "b", "c"])
    assert "no column may" in explainer.plot(none).layout.annotations[0].text
