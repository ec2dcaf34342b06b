"""Attention: which token looked at which, per layer and head."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.errors import InvalidInput, unknown
from explainer.explanation import Explanation
from explainer.plots.look import SEQUENTIAL, escape, finish


def plot_attention(ex: Explanation, layer: int = -1, head: int | None = None, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw the attention weights ``(tokens, tokens)`` of one head, or of the mean over heads when ``head`` is None.

    Each row is a token that looks, each column one that is looked at; a row sums to 1. Layers and heads count from 0.
    """
    weights, tokens = ex.extras.get("attention"), ex.extras.get("tokens")
    if not weights or not tokens:
        raise InvalidInput(f'This explanation (method {ex.method!r}) holds no attention weights; make it with method="attention".')
    every = np.asarray(weights[instance])
    layers, heads = every.shape[:2]
    if not -layers <= layer < layers:
        raise unknown("attention layer", layer, range(layers))
    if head is not None and not -heads <= head < heads:
        raise unknown("attention head", head, range(heads))
    z = every[layer].mean(0) if head is None else every[layer, head]
    names = [escape(str(t)) for t in tokens[instance]]
    which = f"mean of {heads} heads" if head is None else f"head {head % heads} of {heads}"
    figure = go.Figure(
        go.Heatmap(
            z=z,
            customdata=np.array([[[a, b] for b in names] for a in names]),
            colorscale=SEQUENTIAL,
            zmin=0.0,
            zmax=float(z.max()) or 1.0,
            colorbar={"title": {"text": "weight", "side": "right"}, "thickness": 12, "tickformat": ".3~g"},
            hovertemplate="%{customdata[0]} looks at %{customdata[1]}: %{z:.3~g}<extra></extra>",
        )
    )
    title = {"text": f"Attention · layer {layer % layers} of {layers} · {which}", "font": {"size": 14}, "x": 0.01, "xanchor": "left"}
    finish(figure, dark=dark, height=min(900, 180 + 14 * len(names)), title=title)
    ticks: dict[str, Any] = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names, "tickfont": {"size": 10}}
    hidden = {"showticklabels": False}
    figure.update_xaxes(title="is looked at", showgrid=False, constrain="domain", **(ticks if len(names) <= 60 else hidden))
    figure.update_yaxes(title="looks", showgrid=False, autorange="reversed", constrain="domain", **(ticks if len(names) <= 60 else hidden))
    return figure
