"""Figures of importance, dependence and reason codes hold the numbers of their results, and say what is uncertain."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from games import frame, regression, wavy

import explainer
from explainer import plots
from explainer.errors import InvalidInput
from explainer.inspection.contributions import contributions
from explainer.inspection.importance import importance
from explainer.inspection.reasons import reason_codes

COLUMNS = ["a", "b", "c", "<d>"]


@pytest.fixture(scope="module")
def model():
    return regression(wavy, COLUMNS, frame(20, COLUMNS, seed=1))


def test_importance_bars_are_sorted_and_their_intervals_are_the_ones_found(model):
    found = importance(model, frame(12, COLUMNS))
    figure = explainer.plot(found, top=3, dark=True)
    bars, line = figure.data[0], found.to_frame().head(3)
    assert list(bars.y) == [n.replace("<", "&lt;").replace(">", "&gt;") for n in line["feature"]]
    np.testing.assert_allclose(bars.x, line["importance"])
    np.testing.assert_allclose(bars.x + bars.error_x.array, line["high"])
    np.testing.assert_allclose(bars.x - bars.error_x.arrayminus, line["low"])
    assert "over 12 rows" in figure.layout.title.text


def test_bars_whose_interval_holds_zero_are_faint(model):
    x = frame(40, COLUMNS)
    found = importance(model, x, labels=np.random.default_rng(0).normal(size=40), kind="sage")
    figure = explainer.plot(found)
    sure = [low > 0 or high < 0 for low, high in zip(found.low[found.order], found.high[found.order], strict=True)]
    assert [not colour.startswith("rgba") for colour in figure.data[0].marker.color] == sure
    assert not all(sure) and "squared error saved" in figure.layout.xaxis.title.text
    assert "stopped early" in explainer.plot(dataclasses.replace(found, complete=False)).layout.title.text


def test_contributions_are_drawn_where_they_are_and_coloured_by_the_partner(model):
    ex = explainer.explain(model, frame(80, COLUMNS), "shap", verify=False)
    found = contributions(ex, "a")
    figure = explainer.plot(found)
    (points,) = figure.data
    np.testing.assert_array_equal(points.x, found.own)
    np.testing.assert_array_equal(points.y, found.values)
    np.testing.assert_array_equal(points.marker.color, found.other)
    assert found.partner in figure.layout.title.subtitle.text or "&lt;" in figure.layout.title.subtitle.text


def test_words_missing_values_and_noise_have_a_look_of_their_own(model):
    ex = explainer.explain(model, frame(60, COLUMNS), "shap", verify=False)
    found = contributions(ex, "a")
    other = np.where(np.arange(60) % 7 == 0, np.nan, found.other)
    known, missing = explainer.plot(dataclasses.replace(found, other=other, stderr=np.full(60, 0.1))).data
    assert len(known.x) + len(missing.x) == 60 and missing.name == "missing"
    assert known.error_y.array[0] == pytest.approx(0.196)
    words = np.array([f"w{k % 10}" for k in range(60)], dtype=object)
    groups = explainer.plot(dataclasses.replace(found, other=words)).data
    assert len(groups) == 8 and groups[-1].name == "others" and sum(len(g.x) for g in groups) == 60
    assert len(explainer.plot(dataclasses.replace(found, own=words, other=None, partner=None)).data[0].x) == 60


def test_reasons_are_drawn_with_intervals_and_stability():
    people = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 3)), columns=["a", "b", "c"])
    model = explainer.wrap(
        lambda t: t.to_numpy() @ [1.0, -2.0, 0.5], modality="tabular", task="regression", class_names=["points"],
        feature_names=["a", "b", "c"], background=people,
    )  # fmt: skip
    rows = pd.DataFrame([[-1.0, 2.0, people["c"].mean() - 0.2], [9.0, -9.0, 9.0]], columns=["a", "b", "c"])
    found = reason_codes(model, rows, cutoff=100.0, reasons={"b": "Obligations <over> the guideline for this product"})
    figure = explainer.plot(found)
    bars = figure.data[0]
    np.testing.assert_allclose(bars.x, [r.value for r in found[0].reasons])
    np.testing.assert_allclose(bars.error_x.array, [r.high - r.value for r in found[0].reasons])
    assert bars.y[0].replace("<br>", " ") == "Obligations &lt;over&gt; the guideline for this product"
    assert [c.startswith("rgba") for c in bars.marker.color] == [not r.distinguishable for r in found[0].reasons]
    assert any(c.startswith("rgba") for c in bars.marker.color)
    assert "other draws of the background" in figure.layout.title.subtitle.text and "200 applicants" in figure.layout.xaxis.title.text
    none = explainer.plot(found, instance=1)
    assert "No column lowers the score" in none.layout.annotations[0].text and none.layout.xaxis.visible is False


def test_only_results_are_drawn():
    with pytest.raises(InvalidInput, match="dict came"):
        plots.plot({"a": 1})
