"""Figures: what is drawn is what the explanation holds, zero is in the middle, and nothing is changed by drawing."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

import explainer
from explainer import errors, plots
from explainer.explanation import Check, Explanation, Provenance, Verdict
from explainer.plots import look

PROVENANCE = Provenance("shap", {"budget": 64}, 0, 64, 0.1, "cpu", {"python": "3.11"}, "0" * 64, "1" * 64)
TEXT = 'Use it "as is";\nno warranty   is <given>, none is owed.'
SPANS = np.array([m.span() for m in re.finditer(r"\w+", TEXT)])
WORDS = tuple(TEXT[a:b] for a, b in SPANS)


def explanation(values: Any, axes: tuple[str, ...], names: tuple[str, ...], inputs: Any, modality: str, **changes: Any) -> Explanation:
    """One instance made by hand, with everything an explanation carries."""
    array = np.asarray(values, dtype=float)[None]
    verdict = Verdict({"standard error": Check("standard error", "warn", "The largest interval is wide.", 0.2, 0.1)})
    ex = Explanation(
        values=array,
        axes=("instance", *axes),
        base_values=np.array([0.125]),
        scores=np.array([0.125 + np.nansum(array)]),
        target=("yes",),
        feature_names=(names,),
        inputs=inputs,
        method="shap",
        modality=modality,
        output="probability",
        class_names=("no", "yes"),
        verdicts=(verdict,),
        provenance=PROVENANCE,
    )
    return dataclasses.replace(ex, **changes)


def table(columns: int = 5, **changes: Any) -> Explanation:
    rng = np.random.default_rng(columns)
    names = tuple(f"c{i}" for i in range(columns))
    row = pd.DataFrame([[float(i) for i in range(columns)]], columns=list(names))
    return explanation(rng.normal(size=columns), ("column",), names, row, "tabular", **changes)


def picture(**changes: Any) -> Explanation:
    rng = np.random.default_rng(1)
    names = tuple(f"row {i}" for i in range(6))
    return explanation(rng.normal(size=(6, 8)), ("row", "column"), names, rng.random((1, 6, 8)).astype(np.float32), "image", **changes)


def superpixels() -> Explanation:
    segments = np.arange(48).reshape(6, 8) // 12
    inputs = np.random.default_rng(2).random((1, 6, 8, 3)).astype(np.float32)
    names = tuple(f"segment {i}" for i in range(4))
    return explanation([0.5, -0.25, 0.0, 0.125], ("superpixel",), names, inputs, "image", extras={"segments": (segments,)})


def text(**changes: Any) -> Explanation:
    values = np.linspace(-1, 0.5, len(WORDS))
    return explanation(values, ("word",), WORDS, [TEXT], "text", **{"extras": {"spans": (SPANS,)}, **changes})


def series() -> Explanation:
    rng = np.random.default_rng(3)
    names = tuple(f"{c} at step {t}" for t in range(9) for c in ("left ear", "right ear"))
    return explanation(rng.normal(size=(9, 2)), ("time", "channel"), names, [rng.normal(size=(9, 2))], "series")


def segments() -> Explanation:
    names = tuple(f"{c} t{s}" for s in (0, 3, 6) for c in ("left ear", "right ear"))
    where = np.repeat([0, 1, 2], 3)
    signal = np.random.default_rng(4).normal(size=(9, 2)).astype(np.float32)
    values = [[0.5, -0.5], [0.25, 0.0], [-1.0, 0.75]]
    return explanation(values, ("segment", "channel"), names, [signal], "series", extras={"segments": (where,)})


def attention() -> Explanation:
    weights = np.random.default_rng(5).random((2, 3, 4, 4)).astype(np.float32)
    weights /= weights.sum(-1, keepdims=True)
    extras = {"attention": (weights,), "tokens": (["[CLS]", "use", "it", "it"],), "spans": (SPANS[:3],)}
    values = [0.2, 0.3, 0.5]
    return explanation(
        values,
        ("word",),
        WORDS[:3],
        [TEXT[:9]],
        "text",
        method="attention",
        base_values=np.array([np.nan]),
        scores=np.array([0.7]),
        extras=extras,
    )


FORMS = {
    "table": table,
    "many columns": lambda: table(30),
    "picture": picture,
    "superpixels": superpixels,
    "text": text,
    "series": series,
    "segments": segments,
    "attention": attention,
}


@pytest.mark.parametrize("form", FORMS)
def test_drawing_never_changes_the_explanation(form: str) -> None:
    ex = FORMS[form]()
    before = copy.deepcopy(ex)
    plots.plot(ex)
    plots.plot(ex, dark=True)
    np.testing.assert_array_equal(ex.values, before.values)
    for given, kept in ((ex.inputs, before.inputs), (ex.extras, before.extras)):
        pd.testing.assert_frame_equal(given, kept) if hasattr(given, "iloc") else np.testing.assert_equal(given, kept)


@pytest.mark.parametrize("form", FORMS)
def test_the_title_says_method_target_score_and_the_verdict_as_a_word(form: str) -> None:
    ex = FORMS[form]()
    title = plots.plot(ex).layout.title
    assert "for yes" in title.text and f"probability {look.three(float(ex.scores[0]))}" in title.text and "warn" in title.text
    assert title.subtitle.text == "The largest interval is wide."


@pytest.mark.parametrize("form", FORMS)
def test_every_figure_survives_json_and_lets_the_page_show_through(form: str) -> None:
    figure = plots.plot(FORMS[form]())
    assert figure.to_json()
    assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.font.color != plots.plot(FORMS[form](), dark=True).layout.font.color


@pytest.mark.parametrize("form", ["table", "many columns"])
def test_bars_hold_every_value_sorted_by_size_and_the_rest_in_one(form: str) -> None:
    ex = FORMS[form]()
    bars = plots.plot(ex, top=12).data[0]
    values = ex.values[0]
    order = np.argsort(-np.abs(values))
    if form == "table":
        np.testing.assert_array_equal(bars.x, values[order])
    else:
        np.testing.assert_array_equal(bars.x[:12], values[order[:12]])
        assert bars.y[12] == "rest of 18 features"
        assert bars.x[12] == pytest.approx(values[order[12:]].sum(), abs=1e-15)
    assert bars.x.sum() == pytest.approx(values.sum())
    for label, x in zip(bars.y[:5], bars.x, strict=False):
        name, own = label.split(" = ")
        assert values[int(name[1:])] == x and own == name[1:]


def test_bars_colour_the_sign_and_a_magnitude_has_a_colour_of_its_own() -> None:
    bars = plots.plot(table()).data[0]
    assert [c == look.BAR_POSITIVE for c in bars.marker.color] == list(bars.x > 0)
    bare = plots.plot_bars(attention()).data[0]
    assert set(bare.marker.color) == {look.BAR_MAGNITUDE}


def test_error_bars_are_95_percent_intervals_and_written_out() -> None:
    ex = table(stderr=np.array([[0.1, 0.2, 0.3, 0.4, 0.5]]))
    figure = plots.plot(ex)
    bars = figure.data[0]
    order = np.argsort(-np.abs(ex.values[0]))
    np.testing.assert_allclose(bars.error_x.array, 1.96 * ex.stderr[0][order])
    assert figure.layout.annotations[0].text == f"{look.three(bars.x[0])} ± {1.96 * ex.stderr[0][order[0]]:.2g}"
    assert plots.plot(table()).data[0].error_x.array is None


def test_the_rest_has_no_interval_for_none_is_known() -> None:
    figure = plots.plot(table(30, stderr=np.full((1, 30), 0.01)), top=12)
    assert np.isnan(figure.data[0].error_x.array[-1]) and np.isfinite(figure.data[0].error_x.array[:-1]).all()
    assert figure.layout.annotations[-1].text == look.three(figure.data[0].x[-1])


@pytest.mark.parametrize("form", ["table", "many columns", "text", "attention"])
def test_the_axis_leaves_room_beyond_the_longest_bars(form: str) -> None:
    figure = plots.plot(FORMS[form]())
    low, high = figure.layout.xaxis.range
    x = figure.data[0].x
    assert low <= 0 <= high and (low < x.min() or x.min() > 0 == low) and (high > x.max() or x.max() < 0 == high)


def test_columns_of_the_same_name_stay_apart() -> None:
    ex = explanation([1.0, 2.0], ("word",), ("so", "so"), ["so so"], "text")
    assert sorted(plots.plot_bars(ex).data[0].y) == ["so", "so (2)"]


def test_labels_say_missing_and_keep_markup_harmless() -> None:
    row = pd.DataFrame([[None, "<b>x</b>", 1234567, 0.123456]], columns=list("abcd"))
    ex = explanation([4.0, 3.0, 2.0, 1.0], ("column",), tuple("abcd"), row, "tabular")
    assert list(plots.plot(ex).data[0].y) == ["a = missing", "b = &lt;b&gt;x&lt;/b&gt;", "c = 1,234,567", "d = 0.123"]


def _heat(figure: Any) -> Any:
    return next(t for t in figure.data if t.name == "attribution")


def test_image_heat_map_is_the_values_with_zero_in_the_middle() -> None:
    ex = picture()
    heat = _heat(plots.plot(ex, opacity=0.4))
    np.testing.assert_array_equal(heat.z, ex.values[0])
    largest = np.abs(ex.values).max()
    assert (heat.zmin, heat.zmid, heat.zmax, heat.opacity) == (-largest, 0.0, largest, 0.4)
    assert heat.colorscale[0][1] == look.NEGATIVE and heat.colorscale[-1][1] == look.POSITIVE


def test_image_without_direction_has_a_scale_from_zero() -> None:
    ex = dataclasses.replace(picture(base_values=np.array([np.nan])), values=np.abs(picture().values))
    heat = _heat(plots.plot(ex))
    assert heat.zmin == 0 and heat.zmax == ex.values.max() and heat.colorscale[-1][1] == look.SEQUENTIAL[-1][1]


def test_an_additive_method_stays_diverging_when_all_its_values_are_positive() -> None:
    heat = _heat(plots.plot(dataclasses.replace(picture(), values=np.abs(picture().values))))
    assert heat.zmin == -heat.zmax


def test_the_bare_picture_stands_beside_the_heat_map() -> None:
    ex = picture()
    bare, under, _ = plots.plot(ex).data
    for shown in (bare, under):
        np.testing.assert_array_equal(shown.z, np.round(ex.inputs[0].astype(float) * 255).astype(np.uint8))
    assert bare.xaxis != under.xaxis


def test_superpixels_are_painted_from_the_segments() -> None:
    ex = superpixels()
    np.testing.assert_array_equal(_heat(plots.plot(ex)).z, ex.values[0][ex.extras["segments"][0]])
    assert plots.plot(ex).data[0].z.shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ([[0.0, 1.0]], [[0, 255]]),
        ([[0.0, 255.0]], [[0, 255]]),
        ([[-1.0, 1.0]], [[0, 255]]),
        ([[0.0, 510.0]], [[0, 255]]),
        ([[[0.5]]], [[128]]),
    ],
)
def test_pictures_of_any_range_become_bytes(image: Any, expected: Any) -> None:
    from explainer.plots.image import as_picture

    np.testing.assert_array_equal(as_picture(np.array(image)), expected)


def test_tinted_pieces_join_to_the_text_and_carry_the_values() -> None:
    ex = text()
    pieces = plots.tinted(ex)
    assert "".join(piece for piece, _, _ in pieces) == TEXT
    worded = [(piece, value) for piece, value, _ in pieces if value is not None]
    assert worded == list(zip(WORDS, ex.values[0], strict=True))


def test_tints_tell_the_sign_and_grow_with_the_size() -> None:
    strong, weak, none = (look.tint(v, 1.0) for v in (1.0, 0.1, 0.0))
    alpha = [float(c.rsplit(",", 1)[1][:-1]) for c in (strong, weak, none)]
    assert alpha[0] > alpha[1] > alpha[2] == 0
    assert strong.startswith("rgba(214,96,77") and look.tint(-1.0, 1.0).startswith("rgba(67,147,195")


def test_tinted_words_without_spans_stand_in_order() -> None:
    assert [p for p, v, _ in plots.tinted(text(extras={})) if v is not None] == list(WORDS)


def test_text_figure_places_every_word_once_inside_the_figure() -> None:
    figure = plots.plot(text())
    placed = [a for a in figure.layout.annotations if a.hovertext]
    assert [a.hovertext.rsplit(":", 1)[0] for a in placed] == list(WORDS)
    assert all(0 <= a.x <= 1 and 0 <= a.y <= 1 for a in placed)


def test_a_long_text_says_how_many_words_it_leaves_out() -> None:
    words = tuple(f"w{i}" for i in range(3000))
    ex = explanation(np.ones(3000), ("word",), words, [" ".join(words)], "text")
    annotations = plots.plot(ex).layout.annotations
    shown = sum(a.hovertext is not None for a in annotations)
    assert annotations[-1].text == f"... and {3000 - shown:,} more words"


def test_series_tints_hold_the_values_under_the_signal() -> None:
    ex = series()
    figure = plots.plot(ex)
    strips = [t for t in figure.data if t.type == "heatmap"]
    lines = [t for t in figure.data if t.type == "scatter"]
    np.testing.assert_array_equal(np.vstack([s.z for s in strips]), ex.values[0].T)
    np.testing.assert_array_equal(np.vstack([line.y for line in lines]), ex.inputs[0].T)
    assert all(s.zmin == -np.abs(ex.values).max() == -s.zmax for s in strips)
    assert [s.name for s in strips] == ["left ear", "right ear"]


def test_segments_tint_each_of_their_steps_and_channels_keep_their_names() -> None:
    ex = segments()
    strips = [t for t in plots.plot(ex).data if t.type == "heatmap"]
    np.testing.assert_array_equal(strips[0].z[0], np.repeat([0.5, 0.25, -1.0], 3))
    np.testing.assert_array_equal(strips[1].z[0], np.repeat([-0.5, 0.0, 0.75], 3))
    assert [s.name for s in strips] == ["left ear", "right ear"]


def test_attention_heads_and_their_mean() -> None:
    ex = attention()
    weights = ex.extras["attention"][0]
    np.testing.assert_array_equal(plots.plot_attention(ex, 1, 2).data[0].z, weights[1, 2])
    np.testing.assert_allclose(plots.plot_attention(ex, 0).data[0].z, weights[0].mean(0))
    assert plots.plot_attention(ex, -1, 0).layout.title.text == "Attention · layer 1 of 2 · head 0 of 3"
    with pytest.raises(errors.UnknownName, match="layer 2"):
        plots.plot_attention(ex, 2)
    with pytest.raises(errors.UnknownName, match="head 3"):
        plots.plot_attention(ex, 0, 3)
    with pytest.raises(errors.InvalidInput, match='method="attention"'):
        plots.plot_attention(text())


def test_all_targets_draw_the_output_asked_for() -> None:
    one = table()
    both = np.stack([-one.values, one.values], axis=-1)
    ex = dataclasses.replace(
        one, values=both, axes=(*one.axes, "output"), base_values=np.array([[0.875, 0.125]]), scores=np.array([[0.2, 0.8]]), target=("all",)
    )
    assert "for yes · probability 0.8" in plots.plot(ex).layout.title.text
    np.testing.assert_array_equal(plots.plot(ex, output="no").data[0].x, -plots.plot(ex, output=1).data[0].x)
    with pytest.raises(errors.UnknownName, match="'maybe'"):
        plots.plot(ex, output="maybe")
    with pytest.raises(errors.InvalidInput, match="one target"):
        plots.plot(one, output="yes")


def test_a_batch_draws_the_instance_asked_for() -> None:
    one, other = table(), dataclasses.replace(table(), values=np.arange(5.0)[None])
    batch = dataclasses.replace(
        one,
        values=np.concatenate([one.values, other.values]),
        base_values=np.zeros(2),
        scores=np.zeros(2),
        target=("yes", "no"),
        feature_names=one.feature_names * 2,
        inputs=pd.concat([one.inputs, other.inputs]),
        verdicts=one.verdicts * 2,
    )
    np.testing.assert_array_equal(plots.plot(batch, instance=1).data[0].x, [4, 3, 2, 1, 0])


def test_what_is_not_an_explanation_is_told_so() -> None:
    with pytest.raises(errors.InvalidInput, match="ndarray came"):
        plots.plot(np.zeros(3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.0123"),
        (-4.5678, "-4.57"),
        (12345.6, "12,300"),
        (0.0, "0"),
        (1e-9, "1e-09"),
        (float("nan"), "not a number"),
        (999.7, "1,000"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert look.three(value) == text


def test_confusion_shows_counts_and_tints_by_the_true_class() -> None:
    matrix = [[90, 10], [1, 3]]
    figure = plots.plot_confusion(matrix, ["many", "few"])
    np.testing.assert_array_equal(figure.data[0].customdata, matrix)
    np.testing.assert_allclose(figure.data[0].z, [[0.9, 0.1], [0.25, 0.75]])
    assert [a.text for a in figure.layout.annotations] == ["90", "10", "1", "3"]
    with pytest.raises(errors.InvalidInput, match=r"\(2, 2\) came"):
        plots.plot_confusion(matrix, ["a", "b", "c"])


def test_calibration_is_share_right_per_group() -> None:
    p = np.array([[0.6, 0.4]] * 10 + [[0.1, 0.9]] * 10)
    y = np.array([0] * 6 + [1] * 4 + [1] * 9 + [0])
    points = plots.plot_calibration(p, y, bins=2).data[1]
    np.testing.assert_allclose(points.x, [0.6, 0.9])
    np.testing.assert_allclose(points.y, [0.6, 0.9])


def test_probabilities_always_show_the_true_class() -> None:
    p = np.array([0.4, 0.3, 0.2, 0.1])
    bars = plots.plot_probabilities(p, list("abcd"), truth=3, top=2).data[0]
    assert list(bars.y) == ["a", "d (true)"]
    np.testing.assert_array_equal(bars.x, [0.4, 0.1])


def test_curves_over_thresholds_are_those_of_sklearn() -> None:
    from sklearn.metrics import precision_recall_curve, roc_curve

    draw = np.random.default_rng(0)
    p, hit = draw.integers(0, 12, 80) / 11, draw.random(80) < 0.4  # many ties
    roc, dot, recall, dot_2 = plots.plot_thresholds(p, hit, at=0.5).data[:4]
    rate, found, _ = roc_curve(hit, p, drop_intermediate=False)
    np.testing.assert_allclose(np.stack([roc.x, roc.y]), np.stack([rate, found]))
    precision, share, _ = precision_recall_curve(hit, p)
    np.testing.assert_allclose(np.stack([recall.x, recall.y]), np.stack([share, precision])[:, :-1][:, ::-1])
    taken = p >= 0.5
    assert (dot.x[0], dot.y[0]) == (taken[~hit].mean(), taken[hit].mean())
    assert (dot_2.x[0], dot_2.y[0]) == (taken[hit].mean(), hit[taken].mean())
    assert len(plots.plot_thresholds(p, hit, at=1.5).data) == 5  # nothing is selected: it has no precision
    with pytest.raises(errors.InvalidInput, match="with and without"):
        plots.plot_thresholds(p, np.ones(80))


def test_margins_count_right_and_wrong_rows() -> None:
    right, wrong = plots.plot_margins(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]]), np.array([0, 1, 1])).data
    assert (right.y.sum(), wrong.y.sum()) == (2, 1)


def test_history_draws_each_measure_as_recorded() -> None:
    history = [
        {"epoch": 1, "train_loss": 2.0, "validation_loss": 2.5, "validation_accuracy": 0.5},
        {"epoch": 2, "train_loss": 1.0, "validation_loss": 1.5, "validation_accuracy": 0.75},
    ]
    drawn = {t.name: list(t.y) for t in plots.plot_history(history).data}
    assert drawn == {"train loss": [2.0, 1.0], "validation loss": [2.5, 1.5], "validation accuracy": [0.5, 0.75]}
    with pytest.raises(errors.InvalidInput, match="no epochs"):
        plots.plot_history([])


def test_history_puts_measures_of_one_kind_on_one_axis() -> None:
    last = {"epoch": 1, "train_loss": 0.5, "validation_r2": 0.6, "validation_rmse": 50.7, "validation_accuracy": 0.9, "rate": 1e-5}
    figure = plots.plot_history([last, last])
    axes = {t.name: t.yaxis for t in figure.data}
    assert axes["validation r2"] == axes["validation accuracy"] and len(set(axes.values())) == 3 and len(axes) == 4
    titles = {axis: figure.layout["yaxis" + axis.removeprefix("y")].title.text for axis in axes.values()}
    assert [titles[axes[f"{name}"]] for name in ("train loss", "validation r2", "validation rmse")] == ["loss", "share", "rmse"]


def test_an_explanation_without_values_says_why():
    from games import frame, regression

    rows = frame(2)
    rows.loc[1, "a"] = 99
    model = regression(lambda x: np.where(x[:, 0] > 50, np.nan, x[:, 0]))
    ex = explainer.explain(model, rows, "lime", verify=False)
    figure = plots.plot(ex, instance=1)
    assert "finite score" in figure.layout.annotations[0].text and not figure.data
    assert plots.plot(ex, instance=0).data


def test_superpixels_and_segments_with_errors_are_drawn_as_bars_too() -> None:
    halves = {"modality": "image", "task": "regression", "class_names": ["up", "down"]}
    pictures = explainer.wrap(lambda x: np.c_[x[:, :2].mean((1, 2)), x[:, 2:].mean((1, 2))], **halves)
    labels = np.arange(16).reshape(4, 4) // 2
    ex = explainer.explain(
        pictures, np.random.default_rng(0).random((1, 4, 4)), "shap", "up", algorithm="kernel", features=labels, budget=40, verify=False
    )
    kinds = {"modality": "series", "task": "regression", "class_names": ["mean", "top"]}
    series = explainer.wrap(lambda s: np.array([[x.mean(), x[:, 0].max()] for x in s]), **kinds)
    strips = explainer.explain(
        series,
        [np.random.default_rng(1).normal(size=(12, 2))],
        "shap",
        "mean",
        algorithm="kernel",
        budget=40,
        features=("segments", 6),
        verify=False,
    )
    for found in (ex, strips):
        figure = plots.plot(found)
        bars = next(trace for trace in figure.data if trace.type == "bar")
        values, errors = found.values.ravel(), found.stderr.ravel()
        order = np.argsort(-np.abs(values), kind="stable")[: len(bars.x) - (len(values) > len(bars.x))]
        np.testing.assert_allclose(np.array(bars.x)[: len(order)], values[order])
        np.testing.assert_allclose(np.array(bars.error_x.array)[: len(order)], 1.96 * errors[order])
        heat = next(trace for trace in figure.data if trace.name not in (None, "picture") and trace.type == "heatmap")
        assert "±" in heat.hovertemplate
        json.loads(figure.to_json())


def test_pairs_are_a_map_with_each_pair_once() -> None:
    model = explainer.wrap(
        lambda t: t["a"] * t["b"] + t["c"], modality="tabular", task="regression", background=pd.DataFrame([[0.0] * 3], columns=list("abc"))
    )
    ex = explainer.explain(model, pd.DataFrame([[2.0, 3.0, 5.0]], columns=list("abc")), "shap_interactions", verify=False)
    heat = plots.plot(ex).data[0]
    np.testing.assert_allclose(np.array(heat.z, dtype=float)[[1, 2, 2], [0, 0, 1]], [6, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.diag(np.array(heat.z, dtype=float)), [0, 0, 5], atol=1e-9)
    assert np.isnan(np.array(heat.z, dtype=float)[0, 1])
    assert "a × b" in set(ex.to_frame()["feature"])


def test_a_sheet_shows_each_picture_in_its_place_and_names_it() -> None:
    pictures = np.zeros((2, 3, 4, 5))
    pictures[1, 2] = 0.5
    figure = plots.plot_pictures(pictures, rows=["a", "<b>"], columns=["-1", "0", "1"], title="Sheet")
    sheet = np.asarray(figure.data[0].z)
    assert (sheet[6:10, 14:19] == 0.5).all() and np.nansum(sheet) == pytest.approx(0.5 * 20)
    assert list(figure.layout.yaxis.ticktext) == ["a", "&lt;b&gt;"]
    assert list(figure.layout.xaxis.tickvals) == [2, 9, 16]
    with pytest.raises(errors.InvalidInput, match="3 columns of pictures came, but 1 names"):
        plots.plot_pictures(pictures, columns=["one"])
    with pytest.raises(errors.InvalidInput, match=r"\(rows, columns, H, W\)"):
        plots.plot_pictures(pictures[0])


def test_a_map_colours_points_by_name_and_says_which_input_each_is() -> None:
    points = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    figure = plots.plot_plane(points, ["7", "1", "7"], axes=("first", "second"))
    assert [trace.name for trace in figure.data] == ["1", "7"]
    assert list(figure.data[1].customdata) == [0, 2] and list(figure.data[1].y) == [1.0, 5.0]
    assert len({trace.marker.color for trace in figure.data}) == 2
    with pytest.raises(errors.InvalidInput, match="n names are needed"):
        plots.plot_plane(points, ["7"])
