"""Attention: which token looked at which, in one head, in all heads of a layer, and in the whole model; and what heads are worth."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.errors import InvalidInput, unknown
from explainer.explanation import Explanation
from explainer.inspection.heads import HeadImportance
from explainer.plots.dependence import titled
from explainer.plots.look import DIVERGING, NEUTRAL, SEQUENTIAL, escape, finish, three

LINES = 400  # lines of a head view: more cannot be told apart
THUMBNAIL = 28  # cells along a side of one head in the model view
_NAMED = 60  # tokens whose names fit along an axis


def plot_attention(ex: Explanation, layer: int = -1, head: int | None = None, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw the attention weights ``(tokens, tokens)`` of one head, or of the mean over heads when ``head`` is None.

    Each row is a token that looks, each column one that is looked at; a row sums to 1. Layers and heads count from 0.
    """
    every, queries, names = _weights(ex, instance)
    layers, heads = every.shape[:2]
    z = _layer(every, layer, head)
    which = f"mean of {heads} heads" if head is None else f"head {head % heads} of {heads}"
    figure = go.Figure(
        go.Heatmap(
            z=z,
            customdata=np.array([[[a, b] for b in names] for a in queries]),
            colorscale=SEQUENTIAL,
            zmin=0.0,
            zmax=float(z.max()) or 1.0,
            colorbar={"title": {"text": "weight", "side": "right"}, "thickness": 12, "tickformat": ".3~g"},
            hovertemplate="%{customdata[0]} looks at %{customdata[1]}: %{z:.3~g}<extra></extra>",
        )
    )
    title = {"text": f"Attention · layer {layer % layers} of {layers} · {which}", "font": {"size": 14}, "x": 0.01, "xanchor": "left"}
    finish(figure, dark=dark, height=min(900, 180 + 14 * len(queries)), title=title)
    figure.update_xaxes(title="is looked at", showgrid=False, constrain="domain", **_ticks(names))
    figure.update_yaxes(title="looks", showgrid=False, autorange="reversed", constrain="domain", **_ticks(queries))
    return figure


def plot_attention_heads(
    ex: Explanation, layer: int = -1, *, threshold: float | None = None, instance: int = 0, dark: bool = False
) -> go.Figure:
    """Draw one layer: tokens that look on the left, tokens looked at on the right, a line for each weight above ``threshold``.

    Each head has a colour and an entry in the legend that hides and shows it. At most 6 lines per token and 400 in all
    are drawn, the strongest; the threshold is then the weight of the weakest. Layers count from 0.
    """
    every, queries, names = _weights(ex, instance)
    _layer(every, layer, None)
    weights = np.nan_to_num(every[layer])
    ranked = np.sort(weights.ravel())[::-1]
    most = min(LINES, 6 * len(queries))
    least = float(ranked[min(most, len(ranked)) - 1])
    if threshold is not None and not 0 <= threshold <= 1:
        raise InvalidInput(f"threshold={threshold} is a weight from 0 to 1.")
    limit = max(least, threshold if threshold is not None else 1.5 / len(names))
    figure, drawn = go.Figure(), 0
    for head in np.flatnonzero(np.isfinite(every[layer]).all((1, 2))):
        looks, seen = np.nonzero(weights[head] >= max(limit, 1e-9))
        strongest = np.argsort(-weights[head][looks, seen], kind="stable")[: most - drawn]
        looks, seen = looks[strongest], seen[strongest]
        drawn += len(looks)
        figure.add_trace(_lines(int(head), len(weights), looks, seen, weights[head][looks, seen], queries, names))
    for x, labels, position in ((0, queries, "middle left"), (1, names, "middle right")):
        figure.add_trace(_column(x, labels, position))
    layers = len(every)
    words = f"Attention · layer {layer % layers} of {layers} · {len(weights)} heads"
    below = f"{drawn} lines: weights from {three(limit)} on; a line goes from a token to one it looks at"
    finish(
        figure, dark=dark, height=min(1600, 140 + 15 * max(len(names), len(queries), 8)), title=titled(words, below), hovermode="closest"
    )
    figure.update_layout(legend={"orientation": "v", "title": {"text": "head"}, "itemsizing": "constant"})
    figure.update_xaxes(visible=False, range=[-0.5, 1.5])
    figure.update_yaxes(visible=False, autorange="reversed")
    return figure


def plot_attention_model(ex: Explanation, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw all heads of all layers as small pictures side by side: a row of pictures per layer, a column per head.

    Within a picture a row is a token that looks and a column one that is looked at; with more than 28 tokens a cell is the
    largest weight among those it stands for. One colour scale serves all. Layers and heads count from 0.
    """
    every, queries, names = _weights(ex, instance)
    layers, heads = every.shape[:2]
    rows, columns = min(len(queries), THUMBNAIL), min(len(names), THUMBNAIL)
    small = _coarser(_coarser(every, rows, 2), columns, 3)
    z = np.full((layers * (rows + 1), heads * (columns + 1)), np.nan, dtype=np.float32)
    tiles = z.reshape(layers, rows + 1, heads, columns + 1)
    tiles[:, :rows, :, :columns] = small.transpose(0, 2, 1, 3)
    down, across = np.arange(len(z)) // (rows + 1), np.arange(z.shape[1]) // (columns + 1)
    figure = go.Figure(
        go.Heatmap(
            z=np.round(z, 3),
            # Places are counted in pictures, so that the rounded place is the number of the layer and of the head.
            x=(across + (np.arange(z.shape[1]) % (columns + 1) - (columns - 1) / 2) / (columns + 1)).astype(np.float32),
            y=(down + (np.arange(len(z)) % (rows + 1) - (rows - 1) / 2) / (rows + 1)).astype(np.float32),
            colorscale=SEQUENTIAL,
            zmin=0.0,
            zmax=float(np.nanmax(z)) or 1.0,
            colorbar={"title": {"text": "weight", "side": "right"}, "thickness": 12, "tickformat": ".3~g"},
            hovertemplate="layer %{y:.0f}, head %{x:.0f}: %{z:.3~g}<extra></extra>",
            hoverongaps=False,
        )
    )
    pooled = (
        f"; a cell is the largest of up to {-(-len(names) // columns)} x {-(-len(queries) // rows)} weights" if rows < len(queries) else ""
    )
    words = f"Attention · {layers} layers of {heads} heads · {len(names)} tokens"
    below = f"in each picture, rows look and columns are looked at{pooled}"
    finish(figure, dark=dark, height=min(1100, 150 + 64 * layers), title=titled(words, below))
    figure.update_xaxes(title="head", showgrid=False, zeroline=False, tickvals=list(range(heads)), ticktext=list(map(str, range(heads))))
    figure.update_yaxes(
        title="layer",
        showgrid=False,
        zeroline=False,
        autorange="reversed",
        tickvals=list(range(layers)),
        ticktext=list(map(str, range(layers))),
    )
    return figure


def plot_head_importance(found: HeadImportance, *, dark: bool = False) -> go.Figure:
    """Draw what each head is worth: a row per layer, a column per head; hovering gives the 95 % interval."""
    limit = float(np.nanmax(np.abs(found.values))) or 1.0
    signed = found.kind == "ablation"
    scale = {"colorscale": DIVERGING, "zmin": -limit, "zmid": 0.0} if signed else {"colorscale": SEQUENTIAL, "zmin": 0.0}
    layers, heads = found.values.shape
    figure = go.Figure(
        go.Heatmap(
            z=found.values,
            zmax=limit,
            **scale,
            customdata=np.stack([found.low, found.high], axis=-1),
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "fall" if signed else "slope", "side": "right"}, "thickness": 12, "tickformat": ".3~g"},
            hovertemplate="layer %{y}, head %{x}: %{z:.3~g} (95 % %{customdata[0]:.3~g} to %{customdata[1]:.3~g})<extra></extra>",
            hoverongaps=False,
        )
    )
    what = "fall of the score without the head" if signed else "size of the score's derivative by the head's mask"
    words = f"Head importance by {found.kind} over {found.rows:,} inputs"
    below = f"mean {what}, {found.output} of {found.target}; hover for 95 % intervals over inputs"
    finish(figure, dark=dark, height=min(1000, 150 + 34 * layers), title=titled(words, below))
    figure.update_xaxes(title="head", showgrid=False, zeroline=False, tickvals=list(range(heads)))
    rows = [f"{k}{' cross' if name == 'cross-attention' else ''}" for k, name in enumerate(found.layers)]
    figure.update_yaxes(title="layer", showgrid=False, zeroline=False, autorange="reversed", tickvals=list(range(layers)), ticktext=rows)
    return figure


def _weights(ex: Explanation, instance: int) -> tuple[np.ndarray, list[str], list[str]]:
    """Weights ``(layers, heads, queries, keys)`` of one instance (or its values, where they are per head), and its tokens' names."""
    weights, tokens = ex.extras.get("attention"), ex.extras.get("tokens")
    if not weights or not tokens:
        raise InvalidInput(f'This explanation (method {ex.method!r}) holds no attention weights; make it with method="attention".')
    keys = [escape(str(t)) for t in tokens[instance]]
    queries = ex.extras.get("queries")
    shown = np.asarray(weights[instance])
    if ex.method == "attention_norms" and ex.axes[1:3] == ("layer", "head"):
        values = ex[instance].values[0]
        shown = values[..., 0] if ex.axes[-1] == "output" else values
    return shown, [escape(str(t)) for t in queries[instance]] if queries else keys, keys


def _layer(every: np.ndarray, layer: int, head: int | None) -> np.ndarray:
    layers, heads = every.shape[:2]
    if not -layers <= layer < layers:
        raise unknown("attention layer", layer, range(layers))
    if head is not None and not -heads <= head < heads:
        raise unknown("attention head", head, range(heads))
    return np.nanmean(every[layer], axis=0) if head is None else every[layer, head]


def _coarser(weights: np.ndarray, size: int, axis: int) -> np.ndarray:
    """The largest weight of each of ``size`` stretches of an axis."""
    starts = np.arange(size) * weights.shape[axis] // size
    return np.maximum.reduceat(weights, starts, axis=axis)


def _ticks(names: list[str]) -> dict[str, Any]:
    if len(names) > _NAMED:
        return {"showticklabels": False}
    return {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names, "tickfont": {"size": 10}}


def _lines(
    head: int, heads: int, looks: np.ndarray, seen: np.ndarray, weights: np.ndarray, queries: list[str], names: list[str]
) -> go.Scatter:
    """All lines of one head as one trace, broken between lines; a point in the middle of each carries what it says."""
    red, green, blue = (round(255 * c) for c in colorsys.hls_to_rgb(head / max(heads, 1), 0.52, 0.62))
    gap = np.full(len(looks), np.nan)  # where one line ends
    x = np.column_stack([np.zeros(len(looks)), np.full(len(looks), 0.5), np.ones(len(looks)), gap]).ravel().tolist()
    y = np.column_stack([looks, (looks + seen) / 2, seen, gap]).ravel().tolist()
    says = [f"head {head}: {queries[a]} looks at {names[b]}, {three(w)}" for a, b, w in zip(looks, seen, weights, strict=True)]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": f"rgba({red},{green},{blue},0.75)", "width": 1.6}, name=str(head),
        text=[t for one in says for t in (one, one, one, "")], hovertemplate="%{text}<extra></extra>",
    )  # fmt: skip


def _column(x: float, labels: list[str], position: str) -> go.Scatter:
    return go.Scatter(
        x=[x] * len(labels), y=list(range(len(labels))), mode="markers+text", text=labels, textposition=position, showlegend=False,
        marker={"size": 4, "color": NEUTRAL}, textfont={"size": 10}, hoverinfo="skip", cliponaxis=False,
    )  # fmt: skip
