"""Figures fitted to their place on the page; what they show is made by ``explainer.plots``."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import unescape
from typing import Any

import plotly.graph_objects as go
from dash import dcc, html

from explainer import plots
from explainer.explanation import Explanation
from explainer.plots.bars import span
from explainer.plots.look import escape, three

_BELOW = {"orientation": "h", "x": 0.5, "thickness": 10, "title": {"text": ""}, "nticks": 5, "tickformat": ".2~g", "tickfont": {"size": 10}}
PAIRED = 10  # parts whose pairs a panel has room for
LINE = 17  # letters of a label in one line beside bars; it may have two
CONFIG = {"displayModeBar": False, "responsive": True, "scrollZoom": False, "doubleClick": "reset"}


def graph(figure: go.Figure, *, label: str, id: Any = None, className: str = "") -> dcc.Graph:
    """A figure that takes the width it is given. Text, grid and ground follow the theme through the style sheet."""
    height = figure.layout.height or 300
    figure.update_layout(autosize=True, width=None)
    given = {"id": id} if id is not None else {}
    return dcc.Graph(figure=figure, config=CONFIG, className=f"figure {className}", style={"height": height}, responsive=True, **given)


def explained(ex: Explanation, channels: Sequence[str] = (), id: Any = None, under: Any = None) -> html.Div:
    """The picture of one explanation, without the heading that the panel around it already says; ``under`` stands below the picture."""
    axes = ex.axes[1:]
    if pictured(ex):
        picture = graph(_overlay(plots.plot(ex)), label="Heat map over the picture", id=id, className="overlay")
        return html.Div([picture, under, *_errors(ex, axes == ("superpixel",))])
    if plots.is_of_pairs(axes):
        told = f"a part alone on the diagonal, two together below it{_left(ex.values.shape[1])}"
        drawn = graph(_paired(plots.plot_pairs(ex, top=PAIRED)), label="Pairs of parts", id=id)
        return html.Div([html.Div(told, className="caption"), drawn])
    if axes in (("word",), ("sentence",), ("part",)) and ex.modality == "text":
        return html.Div([words(ex), *_bars(ex, 8, "The words that counted most", id)])
    if axes == ("channel", "row", "column"):
        told = html.Div(f"strongest of {ex.values.shape[1]} channels: number, sum", className="caption")
        return html.Div([told, graph(_maps(plots.plot_units(ex, top=9, columns=3)), label="Maps of the strongest channels", id=id)])
    if len(axes) == 2 and axes[1] == "unit":
        told = html.Div(f"down: {ex.values.shape[1]} {axes[0]}s · across: {ex.values.shape[2]} units", className="caption")
        return html.Div([told, graph(_scaled(plots.plot_units(ex)), label="Positions and units of the layer", id=id)])
    if axes[1:] == ("channel",):
        strips = graph(_strips(plots.plot(ex), channels), label="Signal over its tinted segments", id=id)
        return html.Div([strips, *_errors(ex, axes[0] == "segment")])
    return html.Div(_bars(ex, 10, "Contributions", id))


def _left(parts: int) -> str:
    return f" · {PAIRED} of {parts} parts" if parts > PAIRED else ""


def pictured(ex: Explanation) -> bool:
    """Whether it is drawn as a heat map over a picture."""
    axes = ex.axes[1:]
    return axes[:2] == ("row", "column") or (axes == ("superpixel",) and bool(ex.extras.get("segments")))


def _errors(ex: Explanation, parts: bool) -> list[Any]:
    """The strongest parts as bars with their intervals, where they have any."""
    if ex.stderr is None or not parts:
        return []
    where = "by their numbers" if ex.modality == "image" else "channel and steps"
    return [html.Div(f"the strongest parts, {where}", className="caption"), *_bars(ex, 5, "The strongest parts")]


def _bars(ex: Explanation, top: int, label: str, id: Any = None) -> list[Any]:
    """The largest values as bars. Where values do not add up, neither do those of the rest: then these are only counted."""
    figure = plots.plot_bars(ex, top=top)
    bars, rest = figure.data[0], []
    if not ex.additive and len(bars.y) and str(bars.y[-1]).startswith("rest of "):
        rest = [html.Div(f"and {bars.y[-1].split()[2]} smaller ones", className="dim")]
        bars.x, bars.y, bars.marker.color = bars.x[:-1], bars.y[:-1], bars.marker.color[:-1]
        if bars.error_x.array is not None:
            bars.error_x.array = bars.error_x.array[:-1]
        figure.update_layout(height=figure.layout.height - 26)
        figure.update_xaxes(range=span(bars))
    return [graph(_bare(figure), label=label, id=id), *rest]


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
    figure.update_xaxes(title=None, nticks=4, tickangle=0, exponentformat="e", tickfont={"size": 11})
    figure.update_yaxes(tickfont={"size": 11})
    figure.layout.annotations = ()
    right = 8
    for trace in figure.data:
        if trace.type == "bar" and trace.orientation == "h":
            trace.textposition = "none"
            named(trace)
            numbers = [three(value) for value in trace.x]
            right = max(right, *(12 + 7 * len(number) for number in numbers))
            for label, number in zip(trace.y, numbers, strict=True):
                figure.add_annotation(
                    x=1, xref="paper", xanchor="right", xshift=right, y=label, text=number, showarrow=False, font={"size": 11}
                )
    return figure.update_layout(title=None, margin={"l": 4, "r": right + 2, "t": 4, "b": 24}, height=height)


def named(bars: go.Bar) -> None:
    """Give each bar a label that fits beside it; hovering tells the whole name."""
    bars.customdata = list(bars.y)
    bars.hovertemplate = (bars.hovertemplate or "%{y}: %{x:.3~g}<extra>%{fullData.name}</extra>").replace("%{y}", "%{customdata}")
    # Unseen letters at the end: they tell labels apart that were cut alike, and a word such as "9" would be a place on the axis.
    bars.y = [folded(label) + "\u200b" * (k + 1) for k, label in enumerate(bars.y)]


def folded(label: str) -> str:
    """A label in at most two lines; of a longer one the middle is left out, for its end may hold the row's own value."""
    text = unescape(str(label))
    if len(text) > 2 * LINE:
        text = f"{text[: LINE - 1]}… {text[2 - LINE :]}"
    lines = textwrap.wrap(text, LINE)
    if len(lines) > 2:
        lines = [text[:LINE], text[LINE:]]
    return "<br>".join(escape(line.strip()) for line in lines) or " "


def _overlay(figure: go.Figure) -> go.Figure:
    """The heat map alone: the bare picture stands beside the panels, once for both; numbers of parts stay where they are."""
    figure.data = [trace for trace in figure.data if trace.xaxis == "x2"]
    figure.layout.annotations = [note for note in figure.layout.annotations if note.xref == "x2"]
    figure.update_layout(title=None, margin={"l": 2, "r": 2, "t": 2, "b": 2}, height=280)
    figure.update_layout(
        xaxis={"domain": [0, 0.001]}, yaxis={"domain": [0, 0.001]}, xaxis2={"domain": [0, 1]}, yaxis2={"domain": [0.14, 1]}
    )
    figure.layout.xaxis3, figure.layout.yaxis3 = None, None
    figure.data[-1].colorbar.update(_BELOW | {"y": 0.08, "yanchor": "top", "len": 0.9})
    return figure


def _paired(figure: go.Figure) -> go.Figure:
    """A map of pairs that fits a panel, its scale below."""
    figure.update_layout(title=None, margin={"l": 4, "r": 4, "t": 4, "b": 62}, height=370)
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        axis.update(title=None, tickfont={"size": 10}, ticktext=[folded(name) for name in axis.ticktext])
    figure.data[0].colorbar.update(_BELOW | {"y": 0, "yref": "container", "yanchor": "bottom", "ypad": 2, "len": 0.9})
    return figure


def _maps(figure: go.Figure) -> go.Figure:
    """Small maps in rows of three, their scale below."""
    rows = -(-len(figure.data) // 3)
    figure.update_layout(title=None, margin={"l": 2, "r": 2, "t": 18, "b": 44}, height=62 + 124 * rows)
    for title in figure.layout.annotations:  # the width of a panel has no room for the word
        title.update(text=title.text.removeprefix("channel "), font={"size": 10})
    figure.data[0].colorbar.update(_BELOW | {"y": 0, "yanchor": "top", "ypad": 12, "len": 0.9})
    return figure


def _scaled(figure: go.Figure) -> go.Figure:
    """A heat map that fills its panel, its scale below."""
    figure.update_layout(title=None, margin={"l": 4, "r": 4, "t": 4, "b": 62}, height=min(560, figure.layout.height))
    figure.update_xaxes(title=None)
    if figure.layout.yaxis.showticklabels is False:
        figure.update_yaxes(ticks="")
    figure.data[0].colorbar.update(_BELOW | {"y": 0, "yanchor": "top", "ypad": 26, "len": 0.9})
    return figure


def _strips(figure: go.Figure, channels: Sequence[str]) -> go.Figure:
    """One thin strip per channel, its name beside it, the scale below; bars, where there are any, stand in a figure of their own."""
    strips = [trace for trace in figure.data if trace.type == "heatmap"]
    below = len(strips) < len(figure.data) - len([trace for trace in figure.data if trace.type == "scatter"])
    figure.data = [trace for trace in figure.data if trace.type != "bar"]
    height = 70 + max(36, min(96, 330 // max(len(strips), 1))) * len(strips)
    figure.layout.annotations = ()
    figure.update_layout(title=None, margin={"l": 4, "r": 6, "t": 4, "b": 58}, height=height)
    figure.update_xaxes(title=None, tickfont={"size": 10})
    each = 1 / len(strips)
    for k, strip in enumerate(strips):
        # The name stands where the ticks were: in a strip this thin, numbers and a turned title run into each other.
        axis = figure.layout[f"yaxis{k + 1 if k else ''}"]
        name = channels[k] if len(channels) == len(strips) else strip.name or f"channel {k}"
        axis.update(
            title=None, tickmode="array", tickvals=[sum(axis.range) / 2], ticktext=[escape(str(name))], tickfont={"size": 10}, ticks="",
            domain=[max(0.0, 1 - (k + 0.96) * each), 1 - k * each],
        )  # fmt: skip
    if below:
        last = len(strips) + 1
        figure.layout[f"xaxis{last}"], figure.layout[f"yaxis{last}"] = None, None
    strips[0].colorbar.update(_BELOW | {"len": 0.9, "y": 0, "yref": "paper", "yanchor": "top", "ypad": 24, "thickness": 9})
    return figure
