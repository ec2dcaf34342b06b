"""What can be read off each layer, and which concepts the score follows."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.concepts import Concepts
from explainer.inspection.probes import Probing
from explainer.plots.activations import short
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, NEUTRAL, escape, finish, rgba, three

_FAINT = 0.3
_WHISKER = {"color": "#7f7f7f", "thickness": 1.4, "width": 4}
_COLOURS = (BAR_MAGNITUDE, "#b35806", "#1b7837", "#01665e", "#c51b7d", "#4393c3")


def plot_probing(found: Probing, *, dark: bool = False) -> go.Figure:
    """Draw held-out accuracy (or R2) by layer with its interval, and the control task below it."""
    names = [short(name) for name in found.layers]
    x = list(range(len(names)))
    error = {
        "type": "data",
        "array": found.high - found.values,
        "arrayminus": found.values - found.low,
        "color": "#7f7f7f",
        "thickness": 1.4,
    }
    control = found.control.mean(axis=1)
    reach = {
        "type": "data",
        "array": found.control.max(axis=1) - control,
        "arrayminus": control - found.control.min(axis=1),
        "color": NEUTRAL,
    }
    marker = {"size": 10, "color": [BAR_MAGNITUDE if told else rgba(BAR_MAGNITUDE, _FAINT) for told in found.found]}
    metric = "accuracy" if found.metric == "accuracy" else "R2"
    figure = go.Figure([
        go.Scatter(x=x, y=found.values, error_y=error, mode="lines+markers", line={"color": BAR_MAGNITUDE, "width": 2}, marker=marker,
                   name="labels", hovertemplate="%{text}: %{y:.3~g}<extra></extra>", text=names),
        go.Scatter(x=x, y=control, error_y=reach, mode="lines+markers", line={"color": NEUTRAL, "width": 1.5, "dash": "dot"},
                   name="labels at random (control)", hovertemplate="%{text}: %{y:.3~g}<extra></extra>", text=names),
    ])  # fmt: skip
    what = f"{len(found.labels)} classes, the commonest {three(100 * found.chance)} %" if found.labels else "numbers"
    below = f"{found.rows:,} rows · {what} · 95 % intervals, faint where a control or the commonest label does as well"
    finish(figure, dark=dark, height=400, title=titled("Linear probes by layer", below))
    figure.update_layout(margin={"t": 72}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"})
    figure.update_xaxes(tickmode="array", tickvals=x, ticktext=names, showgrid=False, zeroline=False)
    figure.update_yaxes(title=f"{metric} on rows held out", zeroline=False)
    return figure


def plot_concepts(found: Concepts, *, dark: bool = False) -> go.Figure:
    """Draw TCAV scores per layer and concept beside those of random directions; faint where the test says nothing."""
    figure = go.Figure()
    every = [(i, j) for i in range(len(found.layers)) for j in range(len(found.concepts))]
    names = [f"{escape(found.concepts[j])} · {short(found.layers[i])}" for i, j in every]
    y = list(range(len(every)))
    colours = [_COLOURS[j % len(_COLOURS)] for _, j in every]
    figure.add_trace(go.Bar(
        x=[found.values[i, j] for i, j in every], y=y, orientation="h", name="concept", showlegend=False,
        marker={"color": [c if found.significant[i, j] else rgba(c, _FAINT) for (i, j), c in zip(every, colours, strict=True)]},
        error_x={"type": "data", "array": [found.scores[i, j].std(ddof=1) for i, j in every], **_WHISKER},
        customdata=[[escape(found.said(i, j))] for i, j in every], hovertemplate="%{x:.3~g}: %{customdata[0]}<extra></extra>",
    ))  # fmt: skip
    figure.add_trace(go.Scatter(
        x=[found.random[i].mean() for i, _ in every], y=y, mode="markers", name="random directions",
        error_x={"type": "data", "array": [found.random[i].std(ddof=1) for i, _ in every], **_WHISKER},
        marker={"symbol": "diamond", "size": 9, "color": NEUTRAL}, hovertemplate="random directions %{x:.3~g}<extra></extra>",
    ))  # fmt: skip
    told = int(np.sum(found.significant))
    below = f"{told} of {len(every)} significant at 5 % ({found.correction}); the others are faint · whiskers: standard deviation over runs"
    finish(
        figure, dark=dark, height=150 + 34 * max(3, len(every)), bargap=0.35, title=titled(f"Concepts that {found.target} follows", below)
    )
    figure.update_layout(margin={"t": 72}, legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 1, "xanchor": "right"})
    figure.update_xaxes(title="share of inputs whose score rises along it (TCAV)", range=[0, 1.05], zeroline=False)
    figure.update_yaxes(autorange="reversed", tickmode="array", tickvals=y, ticktext=names, showgrid=False, zeroline=False)
    return figure
