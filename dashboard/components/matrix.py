"""The confusion matrix as a table of buttons: a cell filters the predictions. For two classes, the scores as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from dash import dcc, html

from dashboard.components import states
from dashboard.components.figures import graph
from dashboard.predictions import Predictions
from dashboard.view import View

MOST = 24  # classes in a matrix: a thousand would be a million cells


def summary(predictions: Predictions, view: View) -> html.Div:
    """What the predictions look like as a whole: a confusion matrix, and for two classes a histogram of the scores."""
    if predictions.regression:
        return html.Div(scatter(predictions))
    counts = predictions.confusion
    if counts is None:
        return html.Div("No true labels came with this data, so errors cannot be counted.", className="dim")
    parts: list[Any] = [matrix(counts, predictions.class_names, view, firsts(predictions, view))]
    if len(predictions.class_names) == 2:
        parts.append(histogram(predictions))
    return html.Div(parts, className="matrix-and-more" if len(parts) > 1 else "")


def matrix(
    counts: np.ndarray, names: tuple[str, ...], view: View, first: Mapping[tuple[int, int], int], page: str | None = None
) -> html.Div:
    """Counts by true class (rows) and predicted class (columns); the stronger the tint, the larger the share of the row.

    A cell filters the table and opens the row that comes first in it.
    """
    classes = shown(counts)
    k = len(classes)
    totals = np.maximum(counts.sum(1), 1)
    short = [n if len(n) <= 18 else n[:17] + "…" for n in names]
    long = k > 6 and max(len(short[i]) for i in classes) > 3

    def cell(i: int, j: int) -> Any:
        chosen = view.pair == (i, j)
        going = {"cell": ""} if chosen else {"cell": f"{i},{j}", "rows": "", "row": first.get((i, j), "")}
        count = int(counts[i, j])
        share = count / totals[i]
        title = f"{count:,} rows: true {names[i]}, predicted {names[j]} ({100 * share:.1f} % of the true {names[i]})"
        return _cell(count, share, "right" if i == j else "wrong", chosen, title, states.go(going, page))

    head = html.Tr(
        [html.Th("true \\ predicted" if k <= 3 else "", className="corner")]
        + [html.Th(html.Span(short[i]), title=names[i], scope="col") for i in classes]
    )
    rows = [html.Tr([html.Th(short[i], title=names[i], scope="row"), *(html.Td(cell(i, j)) for j in classes)]) for i in classes]
    table = html.Table(
        [html.Thead(head), html.Tbody(rows)],
        className=f"confusion confusion-{'many' if k > 6 else 'few'}" + (" confusion-long" if long else ""),
    )
    chosen = view.pair
    if chosen is not None:
        true, predicted = (names[c] if c < len(names) else f"class {c}, which is not there" for c in chosen)
        words: Any = html.Button(
            f"true {true}, predicted {predicted}  ✕",
            className="chip",
            type="button",
            title="Show all rows again",
            **states.go({"cell": ""}),
        )
    else:
        part = "" if k == len(names) else f"{k} of {len(names):,} classes, those most often wrong or met · "
        words = html.Span(f"{part}rows: true class · columns: predicted · press a cell to filter", className="dim")
    return html.Div([html.Div(table, className="confusion-box"), html.Div(words, className="confusion-note")])


def shown(counts: np.ndarray) -> list[int]:
    """All classes, or where they are more than ``MOST`` that many of those met: the most often wrong, then the most often met."""
    if len(counts) <= MOST:
        return list(range(len(counts)))
    met = counts.sum(0) + counts.sum(1)
    order = np.lexsort((-met, 2 * np.diag(counts) - met))
    return sorted(int(i) for i in order[:MOST] if met[i])


def firsts(predictions: Predictions, view: View) -> dict[tuple[int, int], int]:
    """Of each cell (true, predicted) that holds rows, the one that comes first in the order of ``view``."""
    if predictions.labels is None:
        return {}
    order, k = predictions.ordered(replace(view, cell="")), len(predictions.class_names)
    cells, at = np.unique(predictions.labels[order].astype(int) * k + predictions.predicted[order], return_index=True)
    return {(int(cell) // k, int(cell) % k): int(row) for cell, row in zip(cells, order[at], strict=True)}


def _cell(count: int, share: float, kind: str, chosen: bool, title: str, going: dict[str, str]) -> Any:
    if count == 0:
        return html.Span("·", className="zero")
    return html.Button(
        f"{count:,}",
        type="button",
        className=f"cell cell-{kind}" + (" cell-chosen" if chosen else ""),
        style={"--share": f"{100 * (0.15 + 0.6 * share):.0f}%"},
        title=title,
        **going,
    )


def histogram(predictions: Predictions) -> dcc.Graph:
    """How the probability of the second class spreads over rows of either true class."""
    import plotly.graph_objects as go_

    from explainer.plots.look import finish

    name = predictions.class_names[1]
    figure = go_.Figure()
    for c, colour in ((0, "#4393c3"), (1, "#d6604d")):
        chosen = predictions.scores[predictions.labels == c, 1]
        counts, edges = np.histogram(chosen, bins=20, range=(0, 1))
        middles = (edges[:-1] + edges[1:]) / 2
        label = f"true {predictions.class_names[c]}"
        figure.add_bar(
            x=middles,
            y=counts,
            width=0.05,
            name=label,
            marker={"color": colour},
            hovertemplate=f"{label}<br>p = %{{x:.2f}}: %{{y}} rows<extra></extra>",
        )
    finish(figure, height=190, barmode="stack", bargap=0.05)
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 11}}
    )
    figure.update_xaxes(title=f"probability of {name}", range=[0, 1])
    figure.update_yaxes(title="rows")
    return graph(figure, label=f"Histogram of the probability of {name}")


def scatter(predictions: Predictions) -> Any:
    """A regression's predicted against true values."""
    import plotly.graph_objects as go_

    from explainer.plots.look import finish

    if predictions.labels is None:
        return html.Div("No true values came with this data, so errors cannot be measured.", className="dim")
    figure = go_.Figure(
        go_.Scatter(x=predictions.labels, y=predictions.predicted, mode="markers", marker={"size": 5, "color": "#4393c3", "opacity": 0.6})
    )
    low, high = (
        float(min(predictions.labels.min(), predictions.predicted.min())),
        float(max(predictions.labels.max(), predictions.predicted.max())),
    )
    figure.add_scatter(x=[low, high], y=[low, high], mode="lines", line={"color": "#8c8c8c", "dash": "dot"}, hoverinfo="skip")
    finish(figure, height=260, showlegend=False)
    figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure.update_xaxes(title="true value")
    figure.update_yaxes(title="predicted value")
    return graph(figure, label="Predicted against true values")
