"""Compare: two methods on the same row, in full width: where they agree and where they part; and over a sample of rows."""

from __future__ import annotations

from typing import Any

import dash
import numpy as np
import pandas as pd
from dash import Input, Output, State, dcc, html

import explainer
from dashboard import answers, ids
from dashboard.components import panel, states
from dashboard.components.figures import graph, named
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer.errors import ExplainerError
from explainer.explanation import Explanation
from explainer.methods import METHODS
from explainer.plots.look import BAR_NEGATIVE, BAR_POSITIVE, escape, finish, three

MEASURES = (
    ("rank_correlation", "Rank correlation", "Spearman's rho of the sizes: 1 is the same order, 0 is no relation."),
    ("top_overlap", "Same top five", "Share of the five most important parts that both name (Jaccard index)."),
    ("sign_agreement", "Same direction", "Share of those parts on which both point the same way."),
)


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """Two panels, their agreement on this row below, and over many rows at the end."""
    methods = desk.methods(exhibit)
    panels = html.Div([panel.frame(side, getattr(view, side), methods) for side in ("a", "b")], className="panels")
    here = [
        html.H2("On this row"),
        html.Div(id=ids.slot("body", "agreement")),
        dcc.Store(id=ids.slot("poll", "agreement")),
        dcc.Store(id=ids.slot("tick", "agreement")),
    ]
    over = [
        html.H2("Over a sample of rows"),
        html.Div(id=ids.slot("body", "sample")),
        dcc.Store(id=ids.slot("poll", "sample")),
        dcc.Store(id=ids.slot("tick", "sample")),
        dcc.Store(id=ids.slot("press", "sample")),
    ]
    hidden = html.Div([html.Div(id="input"), html.Div(id="probabilities")], hidden=True)
    return html.Div(
        [
            dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name),
            html.Div(id="detail-head", className="detail-head"),
            html.Div(id="change-note", className="change-note"),
            panels,
            html.Div([html.Section(here, className="card"), html.Section(over, className="card")], className="cards"),
            hidden,
        ],
        className="compare",
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """Agreement on the row, asked again until both explanations are there; agreement over a sample, as a job."""

    @app.callback(
        Output(ids.slot("body", "agreement"), "children"),
        Output(ids.slot("poll", "agreement"), "data"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        Input(ids.slot("tick", "agreement"), "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def agree(search: Any, edit: Any, tick: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        if _pair(view)[0] == _pair(view)[1]:
            return states.notice("The same method twice", "Choose two different methods to compare them."), answers.DONE
        try:
            inputs, view = answers.asked(desk, exhibit, view, edit)
        except ExplainerError as error:
            return states.failed(error), answers.DONE
        keys = [answers.question(desk, exhibit, view, inputs, method, layer).key for method, layer in _pair(view)]
        found = [ex for ex in map(desk.store.get, keys) if ex is not None]
        if len(found) < 2:
            return html.Div("Waiting for both explanations.", className="dim"), answers.again()
        return _row(found), answers.DONE

    @app.callback(
        Output(ids.slot("body", "sample"), "children"),
        Output(ids.slot("poll", "sample"), "data"),
        Input(ids.URL, "search"),
        Input(ids.slot("tick", "sample"), "data"),
        Input(ids.slot("press", "sample"), "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def sample(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        if _pair(view)[0] == _pair(view)[1]:
            return html.Div("Two different methods are needed.", className="dim"), answers.DONE
        task = desk.agreement(exhibit, *_pair(view))
        place = ids.slot("press", "sample")
        if not answers.asked_for(desk, task, browser, place, press):
            n = desk.sample_size(exhibit)
            words = f"Explain {n} rows, spread evenly over the test set, with both methods and compare them."
            return html.Div([html.P(words), states.button(f"Compare on {n} rows", place, sign="go")]), answers.DONE
        return answers.answer(desk, task, browser, place, press, _sample, height=120)


def _pair(view: View) -> tuple[tuple[str, str], tuple[str, str]]:
    """The two methods, each with the layer it looks at."""
    return (view.a, view.layer_a), (view.b, view.layer_b)


def _row(found: list[Explanation]) -> html.Div:
    try:
        frame = explainer.compare(found)
    except ExplainerError as error:
        return states.notice("These two cannot be laid over each other", str(error), "Choose another pair.")
    row = frame.iloc[0]
    lines = [_measure(title, float(row[name]), why) for name, title, why in MEASURES if name in frame]
    return html.Div([html.Div(lines, className="measures"), _parting(*found)])


def _measure(title: str, value: float, why: str, spread: str = "") -> html.Div:
    number = three(value) if np.isfinite(value) else "–"
    said = why if np.isfinite(value) else "One of the two has no direction, too few parts, or nothing to explain."
    return html.Div(
        [
            html.Div(number, className="big"),
            html.Strong(title),
            html.Div(spread, className="dim") if spread else None,
            html.Div(said, className="dim"),
        ],
        className="measure",
    )


def _parting(a: Explanation, b: Explanation) -> Any:
    """Where they part most, when both speak of the same named parts: shares of the whole, side by side."""
    x, y = a.values[0].ravel(), b.values[0].ravel()
    names = a.feature_names[0]
    if a.axes == b.axes and x.shape == y.shape and len(names) != len(x):
        return html.Div("Both speak of single pixels or cells, which have no names to be set side by side.", className="dim")
    if a.axes != b.axes or x.shape != y.shape:
        return html.Div("The two speak of parts of different size, so single parts are not set side by side.", className="dim")
    share = [v / (np.abs(v).sum() or 1.0) for v in (x, y)]
    order = np.argsort(-np.abs(share[0] - share[1]), kind="stable")[:8]
    import plotly.graph_objects as go

    labels = [escape(f"{names[i]}") if len(set(names)) == len(names) else escape(f"{names[i]} ({i})") for i in order]
    figure = go.Figure()
    for ex, values, colour in ((a, share[0], BAR_NEGATIVE), (b, share[1], BAR_POSITIVE)):
        figure.add_bar(x=values[order], y=labels, orientation="h", name=METHODS[ex.method].title, marker={"color": colour})
        named(figure.data[-1])
    finish(figure, height=80 + 34 * len(order), barmode="group", bargap=0.25)
    figure.update_layout(margin={"l": 4, "r": 8, "t": 28, "b": 24}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticksuffix="  ")
    figure.update_xaxes(tickformat=".0%", zeroline=True)
    return html.Div([html.H3("Where they part: share of each whole"), graph(figure, label="Where the two methods part")])


def _sample(frame: pd.DataFrame) -> html.Div:
    """The middle and the spread of each measure over the rows, and the rows on which they agree least."""
    lines = []
    for name, title, why in MEASURES:
        values = frame[name].dropna()
        if len(values):
            low, high = values.quantile([0.25, 0.75])
            lines.append(_measure(title, float(values.median()), why, f"middle half of rows: {three(low)} to {three(high)}"))
        else:
            lines.append(_measure(title, float("nan"), why))
    worst = frame.sort_values("rank_correlation").head(8)
    chips = [
        html.Button(f"row {int(r)} ({three(v)})", type="button", className="chip", **states.go({"row": int(r), "target": ""}))
        for r, v in zip(worst["row"], worst["rank_correlation"], strict=True)
    ]
    least = html.Div([html.Span("They agree least on: ", className="dim"), *chips], className="chips")
    return html.Div([html.Div(f"Median over {len(frame)} rows", className="dim"), html.Div(lines, className="measures"), least])
