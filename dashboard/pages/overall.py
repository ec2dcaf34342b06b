"""Global: what drives the model over many rows, with intervals; how its score follows a column; its heads, layers and units."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import ClientsideFunction, Input, Output, State, dcc, html

from dashboard import answers, ids
from dashboard.components import dependence, network, states
from dashboard.components.figures import graph
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.importance import Importance, Picture
from dashboard.view import View
from explainer import plots
from explainer.methods import METHODS, grouped

PLACE = ids.slot("press", "global")
MEANING = {
    "tabular": "Mean size of each column's contribution to {score}.",
    "text": "Mean size of each word's contribution to {score}, over the rows it stands in; words in fewer than three rows are left out.",
    "series": "Mean size of each channel's contribution to {score}, summed over time.",
    "image": "Mean size of each pixel's contribution to {score}.",
}


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """The method is the first of the two in the address; the work is a job."""
    n = desk.sample_size(exhibit)
    values = offered(desk, exhibit)
    able = [{"group": g, "items": [{"value": m, "label": METHODS[m].title} for m in names]} for g, names in grouped(values).items()]
    picker = dmc.Select(
        id="method-global",
        data=able,
        value=shown_first(view, values),
        size="xs",
        w=190,
        allowDeselect=False,
    )
    return html.Div(
        [
            dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name),
            html.Section(
                [
                    html.H2("What drives the model"),
                    html.Div([picker, html.Span(f"over {n} rows spread evenly over the test set", className="dim")], className="tools"),
                    html.Div(id=ids.slot("body", "global")),
                    dcc.Store(id=ids.slot("poll", "global")),
                    dcc.Store(id=ids.slot("tick", "global")),
                    dcc.Store(id=PLACE),
                ],
                className="card card-wide",
            ),
            *dependence.card(exhibit, view),
            *network.cards(desk, exhibit),
        ],
        className="cards",
    )


def offered(desk: Desk, exhibit: Exhibit) -> list[str]:
    """Methods whose values can be summed up over rows: not attention, which is of single tokens, nor pairs, nor units of a layer."""
    return [
        m
        for m, c in desk.methods(exhibit).items()
        if c.level != "unsupported"
        and METHODS[m].family != "attention"
        and m not in ("shap_interactions", "layer_conductance", "internal_influence")
    ]


def shown_first(view: View, values: list[str]) -> str | None:
    """The first method of the address where it is one of those."""
    return view.a if view.a in values else values[0] if values else None


def register(app: dash.Dash, desk: Desk) -> None:
    """The importance, as a job; heads and layers when they are asked for."""
    network.register(app, desk)
    dependence.register(app, desk)
    pick = ClientsideFunction("explainer", "first")
    app.clientside_callback(pick, Output("method-global", "title"), Input("method-global", "value"), prevent_initial_call=True)

    @app.callback(
        Output(ids.slot("body", "global"), "children"),
        Output(ids.slot("poll", "global"), "data"),
        Input(ids.URL, "search"),
        Input(ids.slot("tick", "global"), "data"),
        Input(PLACE, "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        method = shown_first(view, offered(desk, exhibit))
        if method is None:
            return states.notice("No method", "No method that gives a picture of the whole is valid on this model."), answers.DONE
        task = desk.importance(exhibit, method)
        return answers.answer(desk, task, browser, PLACE, press, lambda found: _shown(found, exhibit), height=320)


def meaning(exhibit: Exhibit, output: str) -> str:
    """What the sizes are of: of a class its probability, logit or score, of a regression the predicted value."""
    score = "score" if output == "raw" else output
    score = "the predicted value" if exhibit.face.task == "regression" else f"the {score} of the predicted class"
    return MEANING[exhibit.face.modality].format(score=score)


def _shown(found: Importance | Picture, exhibit: Exhibit) -> html.Div:
    words = f"{meaning(exhibit, found.output)} {found.rows} rows"
    if isinstance(found, Picture):
        import plotly.graph_objects as go

        from explainer.plots.look import SEQUENTIAL, finish

        figure = finish(
            go.Figure(
                go.Heatmap(
                    z=found.values,
                    colorscale=SEQUENTIAL,
                    zmin=0,
                    zmax=float(found.values.max()) or 1.0,
                    colorbar={"thickness": 12, "tickformat": ".2~g"},
                )
            ),
            height=420,
        )
        figure.update_layout(margin={"l": 8, "r": 8, "t": 8, "b": 8})
        figure.update_xaxes(visible=False, constrain="domain")
        figure.update_yaxes(visible=False, autorange="reversed", scaleanchor="x", constrain="domain")
        return html.Div([html.P(f"{words}.", className="dim"), graph(figure, label="Mean size of contributions per pixel")])
    figure = plots.plot_importance(found, top=20)
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 8, "b": 28})
    figure.update_xaxes(title=None)  # said above, where it is not cut off
    if not np.isfinite(found.values).all():
        return states.notice("No picture", "Some contributions are not numbers.")
    return html.Div(
        [
            html.P(f"{words}, with 95 % intervals over rows.", className="dim"),
            graph(figure, label="Importance, the largest first"),
        ]
    )
