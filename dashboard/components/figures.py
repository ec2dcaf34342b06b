"""Figures fitted to their place on the page; what they show is made by ``explainer.plots``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from explainer import plots
from explainer.explanation import Explanation
from explainer.plots.look import escape, three

CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "doubleClick": "reset"}


def graph(figure: go.Figure, *, label: str, id: Any = None, className: str = "") -> dcc.Graph:
    """A figure that takes the width it is given. Text, grid and ground follow the theme through the style sheet."""
    height = figure.layout.height or 300
    figure.update_layout(autosize=True, width=None)
    given = {"id": id} if id is not None else {}
    return dcc.Graph(figure=figure, config=CONFIG, className=f"figure {className}", style={"height": height}, responsive=True, **given)


def explained(ex: Explanation, channels: Sequence[str] = (), id: Any = None) -> html.Div:
    """The picture of one explanation, without the heading that the panel around it already says."""
    if ex.modality == "text" and len(ex.axes) == 2:
        return html.Div([words(ex), graph(_bare(plots.plot_bars(ex, top=8)), label="The words that counted most", id=id)])
    figure = plots.plot(ex, top=10)
    if ex.modality == "image" and len(figure.data) == 3:
        return html.Div(graph(_overlay(figure), label="Heat map over the picture", id=id))
    if ex.modality == "series":
        return html.Div(graph(_strips(figure, channels), label="Signal over its tinted segments", id=id))
    return html.Div(graph(_bare(figure), label="Contributions", id=id))


def words(ex: Explanation) -> html.Div:
    """The text with each word tinted where it stands; hovering a word tells its value."""
    spans = []
    for text, value, background in plots.tinted(ex):
        if value is None:
            spans.append(text)
        else:
            spans.append(html.Span(text, title=f"{text}: {three(value)}", className="word", style={"backgroundColor": background}))
    return html.Div(spans, className="words", tabIndex="0")


def _bare(figure: go.Figure) -> go.Figure:
    """Bars for a narrow panel: no heading, no axis title (the panel says both), the values in a column of their own."""
    height = (figure.layout.height or 300) - 56
    figure.update_xaxes(title=None)
    figure.layout.annotations = ()
    for trace in figure.data:
        if trace.type == "bar" and trace.orientation == "h":
            trace.textposition = "none"
            # An unseen letter at the end: a word such as "9" or "4.0" would be taken for a place on the axis.
            trace.y = [f"{label}\u200b" for label in trace.y]
            for label, value in zip(trace.y, trace.x, strict=True):
                figure.add_annotation(
                    x=1, xref="paper", xanchor="right", xshift=52, y=label, text=three(value), showarrow=False, font={"size": 11}
                )
    return figure.update_layout(title=None, margin={"l": 4, "r": 54, "t": 4, "b": 24}, height=height)


def _overlay(figure: go.Figure) -> go.Figure:
    """The heat map alone: the bare picture stands beside the panels, once for both."""
    figure.data = figure.data[1:]
    figure.layout.annotations = ()
    figure.update_layout(title=None, margin={"l": 2, "r": 2, "t": 2, "b": 2}, height=280)
    figure.update_layout(
        xaxis={"domain": [0, 0.001]}, yaxis={"domain": [0, 0.001]}, xaxis2={"domain": [0, 1]}, yaxis2={"domain": [0.14, 1]}
    )
    bar = {
        "orientation": "h",
        "y": 0.08,
        "yanchor": "top",
        "x": 0.5,
        "len": 0.9,
        "thickness": 10,
        "title": {"text": ""},
        "nticks": 5,
        "tickformat": ".2~g",
    }
    figure.data[-1].colorbar.update(bar)
    return figure


def _strips(figure: go.Figure, channels: Sequence[str]) -> go.Figure:
    """One thin strip per channel, its name beside it, the scale below."""
    strips = [trace for trace in figure.data if trace.type == "heatmap"]
    height = 70 + max(36, min(96, 330 // max(len(strips), 1))) * len(strips)
    figure.update_layout(title=None, margin={"l": 4, "r": 6, "t": 4, "b": 58}, height=height)
    figure.update_xaxes(title=None, tickfont={"size": 10})
    for k, strip in enumerate(strips):
        # The name stands where the ticks were: in a strip this thin, numbers and a turned title run into each other.
        axis = figure.layout[f"yaxis{k + 1 if k else ''}"]
        name = channels[k] if len(channels) == len(strips) else strip.name or f"channel {k}"
        axis.update(
            title=None, tickmode="array", tickvals=[sum(axis.range) / 2], ticktext=[escape(str(name))], tickfont={"size": 10}, ticks=""
        )
    bar = {"orientation": "h", "x": 0.5, "len": 0.9, "y": 0, "yref": "paper", "yanchor": "top", "ypad": 24, "thickness": 9}
    strips[0].colorbar.update(bar | {"title": {"text": ""}, "nticks": 5, "tickformat": ".2~g", "tickfont": {"size": 10}})
    return figure
