"""What a panel draws for each shape of values, and what it says beside them."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import explainer
from dashboard.components import attention, figures, grid, input, interventions, network, panel, states, threshold
from dashboard.desk import Desk
from dashboard.jobs import Job, Task
from dashboard.pages import model as page
from dashboard.pages import overall
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer import inputs as inputs_
from explainer import plots
from explainer.inspection.views import VIEWS
from explainer.methods import METHODS
from explainer.plots.look import three


def _nothing(done: int, total: int) -> None:
    """Progress nobody watches."""


@pytest.fixture(scope="module")
def pictures() -> SimpleNamespace:
    """A small convolutional network on pictures, with a test set."""
    import torch

    torch.manual_seed(3)
    inside = (torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(100, 2))
    images = np.random.default_rng(0).random((30, 12, 12)).astype(np.float32)
    model = explainer.wrap(
        torch.nn.Sequential(*inside).eval(), modality="image", class_names=["a", "b"], background=images[:8], name="cnn",
        preprocess=lambda x: torch.as_tensor(np.asarray(x))[:, None],
    )  # fmt: skip
    split = SimpleNamespace(inputs=images, labels=np.zeros(30, dtype=np.int64), groups=None)
    return SimpleNamespace(name="cnn", model=model, data=SimpleNamespace(train=split, test=split))


@pytest.fixture(scope="module")
def desk(pictures: SimpleNamespace, specimens: list[SimpleNamespace]) -> Desk:
    return Desk([pictures, *specimens])


def _plain(part: Any) -> Any:
    return part.to_plotly_json() if hasattr(part, "to_plotly_json") else str(part)


def _drawn(desk: Desk, name: str, method: str, layer: str = "") -> tuple[Any, str]:
    exhibit = desk.exhibit(name)
    ex = desk.explanation(exhibit, exhibit.row(3), method, "predicted", "row 3", layer).work(_nothing)
    shown = panel.content(ex, "a", exhibit.face.feature_names)
    return ex, json.dumps(shown.to_plotly_json(), default=_plain)


@pytest.mark.parametrize(
    ("name", "method", "layer", "axes", "told"),
    [
        ("cnn", "grad_cam", "", ("row", "column"), "overlay"),
        ("cnn", "grad_cam", "0", ("row", "column"), "overlay"),
        ("cnn", "saliency", "0", ("channel", "row", "column"), "strongest of 4 channels"),
        ("cnn", "layer_conductance", "4", ("unit",), "unit 1"),
        ("cnn", "lime", "", ("superpixel",), "the strongest parts, by their numbers"),
        ("small-series", "lime", "", ("segment", "channel"), "the strongest parts, channel and steps"),
        ("small-series", "saliency", "layer", ("time", "unit"), "units"),
        ("small-table", "shap", "", ("column",), "income"),
        ("small-texts", "lime", "", ("word",), "smaller ones"),
    ],
)
def test_values_of_every_shape_are_drawn(desk: Desk, name: str, method: str, layer: str, axes: tuple[str, ...], told: str) -> None:
    ex, shown = _drawn(desk, name, method, layer)
    assert ex.axes[1:] == axes and told in shown
    assert ("opacity-line" in shown) == figures.pictured(ex)
    assert ("at layer" in shown) == (bool(layer) or method == "grad_cam")


def test_bars_keep_their_errors_beside_a_picture_and_strips_keep_their_signal(desk: Desk) -> None:
    for name, method in (("cnn", "lime"), ("small-series", "lime")):
        ex, _ = _drawn(desk, name, method)
        parts = [part for part in figures.explained(ex, id="x").children if getattr(part, "figure", None) is not None]
        picture, bars = (part.figure for part in parts)
        assert not [trace for trace in picture.data if trace.type == "bar"] and picture.layout.title.text is None
        assert [trace.type for trace in bars.data] == ["bar"] and bars.data[0].error_x.array is not None
        assert len(bars.data[0].y) == 5 == len(bars.data[0].error_x.array)  # the rest has no sum: LIME's values do not add up


def test_what_a_method_is_stands_by_family_with_the_impossible_last(desk: Desk) -> None:
    offered = panel.options(desk.methods(desk.exhibit("small-table")))
    names = [item["value"] for group in offered for item in group["items"]]
    assert sorted(names) == sorted(METHODS)
    unable = [all(item["disabled"] for item in group["items"]) for group in offered]
    assert unable == sorted(unable) and any(unable)
    assert all(item["reason"] and item["level"] in ("exact", "approximate", "unsupported") for group in offered for item in group["items"])


def test_layers_are_offered_where_a_method_takes_one(desk: Desk) -> None:
    cnn, table = desk.exhibit("cnn"), desk.exhibit("small-table")
    assert desk.layers(cnn, "grad_cam") == ("0", "1", "2") and desk.layers(cnn, "saliency") == ("0", "1", "2", "3", "4")
    assert desk.layers(cnn, "shap") is None and desk.layers(table, "saliency") is None
    assert [one["value"] for one in panel.layers("saliency", ("0",))] == [panel.DEFAULT, "auto", "0"]
    assert [one["value"] for one in panel.layers("grad_cam", ("0",))] == [panel.DEFAULT, "0"]
    one = cnn.row(1)
    keys = [desk.explanation(cnn, one, "saliency", 0, "", *more).key for more in ((), ("0",), ("1",), ("", "logit"))]
    assert len(set(keys)) == 4
    assert desk.explanation(cnn, one, "shap", 0, "", "0").key == desk.explanation(cnn, one, "shap", 0, "").key  # it looks at none


def test_units_are_those_of_the_library_on_the_rows_of_the_test_set(desk: Desk) -> None:
    cnn = desk.exhibit("cnn")
    seen = desk.activations(cnn).work(_nothing)
    direct = explainer.activations(cnn.face, inputs_.take(cnn.inputs, seen.rows))
    assert [one.name for one in seen.found.layers] == [one.name for one in direct.layers]
    layer, unit = network.chosen(seen, View(layer="1", unit=2))
    assert (layer.name, unit) == ("1", 2) and np.array_equal(layer.top, direct["1"].top)
    assert network.chosen(seen, View(layer="1", unit=99))[1] == 3  # no further than the last
    assert network.chosen(seen, View(layer="gone"))[0].name == seen.found.layers[-2].name
    image = desk.visualisation(cnn, "1", 2).work(_nothing)
    assert image.image.shape == (12, 12) and image.unit == "1[2] (mean)"


def test_the_model_page_says_what_each_look_inside_is(desk: Desk) -> None:
    shown = str(page.capabilities(desk, desk.exhibit("cnn")))
    assert all(view.title in shown for view in VIEWS.values()) and "no stack of like blocks" in shown


def test_a_look_inside_is_that_of_the_library_and_said_before(desk: Desk) -> None:
    cnn = desk.exhibit("cnn")
    assert desk.views(cnn)["lens"].level == "unsupported" and desk.views(cnn)["patch"].level == "exact"
    assert {able.level for able in desk.views(desk.exhibit("small-table")).values()} == {"unsupported"}
    out = desk.ablation(cnn, "1", 2).work(_nothing)
    direct = explainer.ablate(cnn.face, inputs_.take(cnn.inputs, desk.sample(cnn)), "1", [2])
    np.testing.assert_allclose(out.values, direct.values, atol=1e-6)
    other = desk.partner(cnn, 1)
    assert other not in (None, 1)
    patched = desk.patching(cnn, 1, other).work(_nothing)
    np.testing.assert_allclose(patched.whole, explainer.patch(cnn.face, cnn.row(1), cnn.row(other)).whole, atol=1e-5)
    words = str(interventions.patched(patched, 1, other))
    assert f"on row 1 and {three(patched.corrupt)} on row {other}" in words
    figure = plots.plot_ablation(out)
    assert figure.data[0].type == "bar" and list(figure.data[0].x) == list(out.values[0])


def test_attention_is_cut_to_what_can_be_read_on_both_sides(desk: Desk) -> None:
    weights = np.full((2, 3, 60, 80), 1 / 80)
    tokens, queries = [f"k{i}" for i in range(80)], [f"q{i}" for i in range(60)]
    extras = {"attention": (weights,), "tokens": (tokens,), "queries": (queries,)}
    base = dataclasses.replace(_drawn(desk, "small-texts", "lime")[0], extras=extras)
    shown, told = attention.cut(base)
    assert shown.extras["attention"][0].shape == (2, 3, 48, 48)
    assert list(shown.extras["queries"][0]) == queries[:48] and list(shown.extras["tokens"][0]) == tokens[:48]
    assert told == ["The first 48 of 80 tokens looked at.", "The first 48 of 60 tokens that look."]
    for view in attention.VIEWS:
        drawn = attention.content(base, view, "1", "2")
        assert drawn.children[0].id == "attention-figure" and len(drawn.children[0].figure.data)


def test_of_interactions_each_pair_is_drawn_once(desk: Desk) -> None:
    ex, shown = _drawn(desk, "small-table", "shap_interactions")
    assert ex.axes[1:] == ("column", "other column") and "a part alone on the diagonal" in shown and "rest of" not in shown
    z = np.array(plots.plot_pairs(ex, top=figures.PAIRED).data[0].z, dtype=float)
    assert np.isnan(z[np.triu_indices(4, 1)]).all()
    assert np.nansum(z) == pytest.approx(ex.values.sum())  # nothing twice, nothing lost


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("income = 1,000", ["income = 1,000"]),
        ("segment 27 × segment 21", ["segment 27 ×", "segment 21"]),
        ("8.225 &lt; debt &lt;= 17.96", ["8.225 &lt; debt &lt;=", "17.96"]),
        ("a_very_long_column_name_without_any_space = 123.4", ["a_very_long_colu…", "y_space = 123.4"]),
    ],
)
def test_labels_beside_bars_take_two_short_lines_and_keep_the_value(label: str, lines: list[str]) -> None:
    assert figures.folded(label).split("<br>") == lines


def test_hovering_a_bar_tells_its_whole_name(desk: Desk) -> None:
    import plotly.graph_objects as go

    names = ["the same beginning of a rather long name, and one end", "the same beginning of a rather long name, or one end"]
    bars = go.Bar(x=[1, 2], y=names, orientation="h", hovertemplate="%{y}: %{x}")
    figures.named(bars)
    assert len(set(bars.y)) == 2 and list(bars.customdata) == names and bars.hovertemplate == "%{customdata}: %{x}"


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (("speaker 1", "speaker 2", "speaker 10"), "speaker "),
        (("refused", "approved"), ""),
        (("non-free", "non-profit"), "non-"),
        (("same",), ""),
        (("apple pie", "apply now"), ""),
    ],
)
def test_the_table_leaves_out_what_all_class_names_begin_with(names: tuple[str, ...], start: str) -> None:
    assert grid.shared_start(names) == start


def test_every_channel_of_a_series_is_named() -> None:
    figure = input.lines(np.zeros((5, 12)), tuple(f"LPC {k}" for k in range(12))).figure
    assert figure.layout.showlegend and figure.layout.legend.orientation == "h" and len(figure.data) == 12


def test_what_drives_a_regression_is_no_probability() -> None:
    def said(task: str, output: str) -> str:
        return overall.meaning(SimpleNamespace(face=SimpleNamespace(task=task, modality="tabular")), output)

    assert said("regression", "raw") == "Mean size of each column's contribution to the predicted value."
    assert said("classification", "probability").endswith("the probability of the predicted class.")
    assert said("classification", "raw").endswith("the score of the predicted class.")


def test_the_front_matter_of_a_card_is_no_prose() -> None:
    shown = json.dumps(
        [_plain(part) for part in page.card("---\nlicense: mit\ntags:\n- a\n- b\n---\n\n# Mine\n\nText --- with a rule.\n")], default=_plain
    )
    assert "license" not in shown and "mit" in shown and "a, b" in shown and "# Mine" in shown and "with a rule" in shown
    for text in ("# No front", "---\n: [broken\n---\n# Still", ""):
        assert page.card(text)


def test_how_far_a_job_is_is_not_made_up() -> None:
    task = Task(("k",), "Work", lambda progress: None)
    known, unknown = states.progress(Job(task, 1, done=3, total=4), "md"), states.progress(Job(task, 1), "md")
    assert known.value == 75 and "wandering" not in known.className
    assert unknown.value < 100 and "wandering" in unknown.className


def test_a_verdict_that_asks_for_a_larger_budget_offers_one(desk: Desk) -> None:
    exhibit = desk.exhibit("small-table")

    def told(reason: str, evaluations: int) -> str:
        checks = {"sampling error": SimpleNamespace(reason=reason)}
        ex = SimpleNamespace(verdict=SimpleNamespace(checks=checks), provenance=SimpleNamespace(evaluations=evaluations))
        return json.dumps(panel.more(ex), default=_plain)

    assert "allow 2,048" in told("A larger budget gives a tighter answer.", 512)
    assert told("95 % intervals reach 1% of the largest value.", 512) == told("A larger budget gives a tighter answer.", 10**6) == "null"
    usual, few = (desk.explanation(exhibit, exhibit.row(3), "lime", "predicted", "row 3", budget=b) for b in (None, 64))
    assert usual.key != few.key and few.work(_nothing).provenance.evaluations == 64


def test_a_threshold_tells_what_it_finds_and_misses() -> None:
    p = np.array([0.1, 0.3, 0.6, 0.8, 0.9])
    found = Predictions(np.stack([1 - p, p], axis=1), np.array([0, 1, 0, 1, 1]), ("no", "yes"))
    shown = json.dumps([_plain(part) for part in threshold.told(found, 0.7)], default=_plain)
    assert "2 of 3" in shown and "2 of 2" in shown and "0 of 2" in shown and "2 of 5" in shown
    assert "0.667" in shown  # recall
    assert threshold.able(found) and not threshold.able(Predictions(found.scores, None, ("no", "yes")))
    assert not threshold.able(Predictions(found.scores, np.zeros(5, dtype=int), ("no", "yes")))
    assert threshold.told(found, 1.0)  # nothing is selected, and nothing breaks
