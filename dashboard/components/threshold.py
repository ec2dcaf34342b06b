"""A threshold in place of the more probable class: what it would select, find and miss on the test set; for models of two classes."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import Input, Output, State, html

from dashboard import answers, ids
from dashboard.components.figures import graph
from dashboard.components.probabilities import percent
from dashboard.desk import Desk
from dashboard.predictions import Predictions
from explainer import plots
from explainer.errors import InvalidInput
from explainer.metrics import wilson

USUAL = 0.5


def able(predictions: Predictions) -> bool:
    """Whether there are two classes, and rows of both."""
    labels = predictions.labels
    return not predictions.regression and len(predictions.class_names) == 2 and labels is not None and len(np.unique(labels)) == 2


def content(predictions: Predictions) -> list[Any]:
    """The slider and the place of what follows from it."""
    name = predictions.class_names[1]
    marks = [{"value": v, "label": f"{v:g}"} for v in (0, 0.25, 0.5, 0.75, 1)]
    slider = dmc.Slider(id="threshold", min=0, max=1, step=0.01, value=USUAL, marks=marks, size="sm", **{"aria-label": "Threshold"})
    return [html.Div(f"Say {name} from this probability on:", className="dim"), html.Div(slider, className="slider"), html.Div(id="at")]


def register(app: dash.Dash, desk: Desk) -> None:
    """What the threshold costs and brings, anew when it moves."""

    @app.callback(Output("at", "children"), Input("threshold", "value"), State(ids.URL, "search"), State(ids.PAGE_MODEL, "data"))
    def moved(value: Any, search: Any, shown: Any) -> Any:
        exhibit, _ = answers.here(desk, search, shown)
        predictions = desk.predictions(exhibit)
        if not able(predictions) or isinstance(value, bool) or not isinstance(value, (int, float)):
            raise dash.exceptions.PreventUpdate
        return told(predictions, float(value))


def told(predictions: Predictions, at: float) -> list[Any]:
    """Counts and shares at one threshold, and the curves it stands on."""
    p, name = predictions.scores[:, 1], predictions.class_names[1]
    labels = predictions.labels
    if labels is None:
        raise InvalidInput("A threshold is judged by true labels, and none came.")
    hit, taken = labels == 1, p >= at
    both = int((hit & taken).sum())
    shares = (
        (f"recall of {name}", both, int(hit.sum())),
        ("precision", both, int(taken.sum())),
        ("false positive rate", int((~hit & taken).sum()), int((~hit).sum())),
        (f"predicted {name}", int(taken.sum()), len(p)),
    )
    lines = [html.Span([html.Span(f"{what} ", className="dim"), *_share(k, n)], className="stat") for what, k, n in shares]
    figure = plots.plot_thresholds(p, hit, at=at, name=name)
    figure.update_layout(height=260, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    return [html.Div(lines, className="facts-line"), graph(figure, label="ROC and precision-recall curves")]


def _share(k: int, n: int) -> list[Any]:
    if not n:
        return [html.Strong("–")]
    low, high = wilson(k, n)
    return [html.Strong(percent(k / n)), html.Span(f" [{percent(low)}, {percent(high)}] {k:,} of {n:,}", className="dim")]
