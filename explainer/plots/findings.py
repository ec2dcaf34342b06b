"""What a data check found: its columns, classes, pairs or patterns, against the line they are held to."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explainer.checks.charts import Bars, Grid, chart
from explainer.checks.finding import Finding
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, BAR_POSITIVE, NEUTRAL, SEQUENTIAL, escape, finish, nothing, shown

SIGNS = {"fail": "✗", "error": "✗", "not run": "○", "pass": "✓"}


def plot_finding(finding: Finding, *, dark: bool = False) -> go.Figure:
    """Draw a finding's evidence as bars or a grid; where there is none (not run, error, no figures) the figure says why."""
    drawn = chart(finding)
    if drawn is None:
        return nothing(finding.message, dark)
    below = finding.message if len(finding.message) <= 120 else finding.message[:119] + "…"
    title = titled(f"{SIGNS[finding.state]} {finding.check}", below)
    return _grid(drawn, title, dark) if isinstance(drawn, Grid) else _bars(drawn, title, _over(drawn, finding), dark)


def _over(drawn: Bars, finding: Finding) -> np.ndarray:
    """Which bars lie on the wrong side of their line; all of a failed finding that has none."""
    values, held = np.abs(drawn.values), drawn.threshold
    if finding.state != "fail" or held is None:
        return np.full(len(values), finding.state == "fail")
    low = finding.value is not None and finding.threshold is not None and finding.value < finding.threshold
    return values < held if low else values >= held


def _bars(drawn: Bars, title: dict, over: np.ndarray, dark: bool) -> go.Figure:
    values, held = np.array(drawn.values), drawn.threshold
    error = None
    if drawn.intervals:
        ends = np.array([i or (v, v) for i, v in zip(drawn.intervals, values, strict=True)])
        error = {"array": ends[:, 1] - values, "arrayminus": values - ends[:, 0], "symmetric": False, "thickness": 1.4, "color": NEUTRAL}
    figure = go.Figure(
        go.Bar(
            x=values,
            y=[f"{k}" for k in range(len(values))],
            orientation="h",
            marker={"color": np.where(over, BAR_POSITIVE, BAR_MAGNITUDE).tolist()},
            error_x=error,
            text=[shown(v) for v in values],
            textposition="auto",
            customdata=[escape(n) for n in drawn.names],
            hovertemplate="%{customdata}: %{text}<extra></extra>",
        )
    )
    finish(figure, dark=dark, height=110 + 26 * len(values), title=title, showlegend=False)
    if held is not None and held > 0:
        figure.add_vline(x=held, line={"dash": "dash", "width": 1.5, "color": NEUTRAL})
        figure.add_annotation(x=held, y=1, yref="paper", yanchor="bottom", text=f"limit {shown(held)}", showarrow=False, font={"size": 11})
    labels = [escape(shown(n)) for n in drawn.names]
    figure.update_yaxes(
        tickvals=[f"{k}" for k in range(len(values))], ticktext=labels, autorange="reversed", showgrid=False, type="category"
    )
    top = max(float(values.max(initial=0)), held or 0.0, *(i[1] for i in drawn.intervals if i), 1e-12)
    figure.update_xaxes(
        title={"text": escape(drawn.what), "font": {"size": 11}},
        range=[min(0.0, 1.08 * float(values.min(initial=0))), 1.08 * top],
        nticks=6,
    )
    return figure.update_layout(margin={"t": 76, "b": 44}, bargap=0.3)


def _grid(drawn: Grid, title: dict, dark: bool) -> go.Figure:
    values = np.array([[np.nan if v is None else v for v in row] for row in drawn.values])
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=[f"{k}" for k in range(values.shape[1])],
            y=[f"{k}" for k in range(values.shape[0])],
            colorscale=SEQUENTIAL,
            xgap=1,
            ygap=1,
            colorbar={"thickness": 10, "title": {"text": escape(drawn.what), "side": "right"}},
            hovertemplate="%{customdata}: %{z:.3~g}<extra></extra>",
            customdata=[[f"{escape(r)}, {escape(c)}" for c in drawn.columns] for r in drawn.rows],
        )
    )
    finish(figure, dark=dark, height=150 + 22 * len(drawn.rows), title=title)
    ticks = {"type": "category", "showgrid": False}
    figure.update_xaxes(tickvals=list(range(len(drawn.columns))), ticktext=[escape(shown(c)) for c in drawn.columns], **ticks)
    figure.update_yaxes(tickvals=list(range(len(drawn.rows))), ticktext=[escape(shown(r)) for r in drawn.rows], **ticks)
    return figure.update_yaxes(autorange="reversed").update_layout(margin={"t": 76, "b": 44})
