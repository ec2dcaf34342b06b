"""Figures of attention: what they show is what the weights are, and they stay small at 12 x 12 heads x 128 tokens."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
import torch_gallery as gallery
from test_attention_transformers import texts

import explainer
from explainer import plots
from explainer.errors import InvalidInput, UnknownName
from explainer.explanation import Explanation
from explainer.inspection.heads import head_importance

VIEWS = (plots.plot_attention, plots.plot_attention_heads, plots.plot_attention_model)


@cache
def small() -> Explanation:
    return explainer.explain(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, "attention", verify=False)


def large(tokens: int = 128, alpha: float = 0.1) -> Explanation:
    weights = np.random.default_rng(0).dirichlet(np.full(tokens, alpha), size=(12, 12, tokens)).astype(np.float32)
    names = [f"<tok{i}>" for i in range(tokens)]
    one = small()[0]
    return dataclasses.replace(one, extras={**one.extras, "attention": (weights,), "tokens": (names,)})


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("alpha", [0.01, 1.0])
@pytest.mark.parametrize("dark", [False, True])
def test_views_hold_at_full_size(view: Callable[..., go.Figure], alpha: float, dark: bool) -> None:
    ex = large(alpha=alpha)
    view(small())  # plotly builds its validators on first use
    started = time.process_time()
    figure = view(ex, dark=dark)
    seconds, text = time.process_time() - started, figure.to_json()
    assert len(text) < 3_000_000 and seconds < 1
    assert "<tok" not in text.replace("\\u003c", "<") and figure.layout.font.color == ("#e6e6e6" if dark else "#212529")
    assert figure.layout.paper_bgcolor == "rgba(0,0,0,0)"


def test_the_model_view_shows_every_weight_where_it_belongs() -> None:
    weights = np.asarray(small().extras["attention"][1])
    tokens = weights.shape[-1]
    trace = plots.plot_attention_model(small(), instance=1).data[0]
    z, x, y = (np.asarray(part, dtype=float) for part in (trace.z, trace.x, trace.y))
    for layer, head, a, b in [(0, 0, 0, 0), (1, 3, tokens - 1, 2), (0, 2, 3, tokens - 1)]:
        row, column = layer * (tokens + 1) + a, head * (tokens + 1) + b
        assert z[row, column] == pytest.approx(weights[layer, head, a, b], abs=6e-4)
        assert (round(y[row]), round(x[column])) == (layer, head)
    assert np.isnan(z[tokens]).all() and np.isnan(z[:, tokens]).all()
    assert np.diff(x).min() > 0 and np.diff(y).min() > 0


def test_a_cell_of_the_model_view_is_the_largest_weight_it_stands_for() -> None:
    ex = large(57)
    weights = ex.extras["attention"][0]
    z = np.asarray(plots.plot_attention_model(ex).data[0].z, dtype=float)
    starts = [*(np.arange(28) * 57 // 28), 57]
    for a, b in [(0, 0), (27, 27), (5, 20)]:
        wanted = weights[3, 7, starts[a] : starts[a + 1], starts[b] : starts[b + 1]].max()
        assert z[3 * 29 + a, 7 * 29 + b] == pytest.approx(wanted, abs=6e-4)


@pytest.mark.parametrize("threshold", [None, 0.05, 0.2])
def test_the_head_view_draws_exactly_the_weights_above_its_threshold(threshold: float | None) -> None:
    weights = np.asarray(small().extras["attention"][1])[0]
    tokens = weights.shape[-1]
    figure = plots.plot_attention_heads(small(), 0, instance=1, threshold=threshold)
    limit = max(np.sort(weights.ravel())[::-1][6 * tokens - 1], 1.5 / tokens if threshold is None else threshold)
    drawn = set()
    for trace in figure.data[:-2]:
        y = np.array([np.nan if v is None else v for v in trace.y], dtype=float).reshape(-1, 4)
        drawn |= {(int(trace.name), int(a), int(b)) for a, _, b, _ in y}
    assert drawn == {(h, a, b) for h, a, b in zip(*np.nonzero(weights >= limit), strict=True)} and drawn
    assert len({trace.line.color for trace in figure.data[:-2]}) == len(figure.data) - 2


def test_heads_a_layer_lacks_are_left_out() -> None:
    one = small()[0]
    weights = np.array(one.extras["attention"][0])
    weights[0, 2:] = np.nan
    ex = dataclasses.replace(one, extras={**one.extras, "attention": (weights,)})
    assert {trace.name for trace in plots.plot_attention_heads(ex, 0).data[:-2]} <= {"0", "1"}
    np.testing.assert_allclose(plots.plot_attention(ex, 0).data[0].z, weights[0, :2].mean(0))
    assert np.isnan(np.asarray(plots.plot_attention_model(ex).data[0].z, dtype=float)[0, -2])


def test_cross_attention_names_the_decoders_tokens() -> None:
    ex = explainer.explain(texts("t5"), gallery.TEXTS[:1], "attention", kind="raw", verify=False)
    figure = plots.plot_attention(ex)
    assert figure.layout.yaxis.ticktext[0] == "decoder 0" and figure.layout.xaxis.ticktext[0] == "[CLS]"
    np.testing.assert_allclose(figure.data[0].z, ex.values[0][-1].mean(0), atol=1e-6)
    assert "decoder" in str(plots.plot_attention_heads(ex).data[-2].text)


def test_plot_draws_raw_values_as_the_model_view_and_norms_as_norms() -> None:
    model = gallery.text(gallery.seeded(gallery.Fused))
    for method in ("attention", "attention_norms"):
        ex = explainer.explain(model, gallery.TEXTS, method, kind="raw", verify=False)
        z = np.asarray(explainer.plot(ex, instance=1).data[0].z, dtype=float)
        assert z[0, 0] == pytest.approx(ex[1].values[0, 0, 0, 0, 0], abs=6e-4) and len(z) == 2 * (ex[1].values.shape[-1] + 1)


@pytest.mark.parametrize("kind", ["ablation", "gradient"])
def test_head_importance_is_drawn_with_its_intervals(kind: Any) -> None:
    found = head_importance(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS, kind=kind)
    figure = explainer.plot(found)
    np.testing.assert_array_equal(figure.data[0].z, found.values)
    np.testing.assert_array_equal(np.asarray(figure.data[0].customdata)[..., 1], found.high)
    assert (figure.data[0].zmin < 0) == (kind == "ablation") and "4 inputs" in figure.layout.title.text


def test_wrong_layers_thresholds_and_explanations_are_answered() -> None:
    with pytest.raises(UnknownName, match="attention layer"):
        plots.plot_attention_heads(small(), 7)
    with pytest.raises(InvalidInput, match="from 0 to 1"):
        plots.plot_attention_heads(small(), threshold=3)
    other = explainer.explain(gallery.text(gallery.seeded(gallery.Fused)), gallery.TEXTS[:1], "saliency", verify=False)
    for view in VIEWS:
        with pytest.raises(InvalidInput, match="holds no attention"):
            view(other)
