"""How the score follows one column over the rows of a table: its mean with single rows behind it, or its local effects summed up."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, html

from dashboard import answers, ids
from dashboard.components import states
from dashboard.components.figures import graph
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer import plots
from explainer.inspection.dependence import Dependence

CURVES = {"ice": "mean and single rows", "ale": "local effects"}
MEANING = {
    "ice": "The mean score when every row is given the value, and single rows; it also scores rows that do not exist.",
    "ale": "Effects of moving each row only as far as its neighbours' values, added up: columns that go together are kept apart.",
}
PLACE = ids.slot("press", "dependence")


def card(exhibit: Exhibit, view: View) -> list[html.Section]:
    """A column to choose, and its curve; of tables only."""
    if exhibit.face.modality != "tabular":
        return []
    names = [str(c) for c in exhibit.inputs.columns]
    column, curve = chosen(exhibit, view)
    pick = {"size": "xs", "allowDeselect": False}
    tools = [
        dmc.Select(id="dependence-column", data=names, value=column, searchable=True, w=190, **pick, **{"aria-label": "Column"}),
        dmc.SegmentedControl(id="dependence-curve", data=[{"value": k, "label": v} for k, v in CURVES.items()], value=curve, size="xs"),
    ]
    parts = [html.H2("How the score follows a column"), html.Div(tools, className="tools"), *states.slot("dependence")]
    return [html.Section(parts, className="card card-wide")]


def chosen(exhibit: Exhibit, view: View) -> tuple[str, str]:
    """The column and the curve of the address; else the first of each."""
    names = [str(c) for c in exhibit.inputs.columns]
    return view.column if view.column in names else names[0], view.curve if view.curve in CURVES else "ice"


def register(app: dash.Dash, desk: Desk) -> None:
    """The curve, as a job; what is chosen goes into the address."""
    for name in ("dependence-column", "dependence-curve"):
        given = (Input(name, "value"), State(name, "data"), State(name, "id"))
        app.clientside_callback(ClientsideFunction("explainer", "choice"), Output(name, "title"), *given, prevent_initial_call=True)

    @app.callback(
        Output(ids.slot("body", "dependence"), "children"),
        Output(ids.slot("poll", "dependence"), "data"),
        Output("dependence-column", "value"),
        Output("dependence-curve", "value"),
        Input(ids.URL, "search"),
        Input(ids.slot("tick", "dependence"), "data"),
        Input(PLACE, "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        if exhibit.face.modality != "tabular":
            raise dash.exceptions.PreventUpdate
        column, curve = chosen(exhibit, view)
        task = desk.dependence(exhibit, column, curve)
        return *answers.answer(desk, task, browser, PLACE, press, drawn, height=340), column, curve


def drawn(found: Dependence) -> html.Div:
    """The curve, what it is, and over how many rows."""
    figure = plots.plot_dependence(found)
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 8, "b": 28}, height=340)
    words = f"{MEANING[found.kind]} {found.rows:,} rows; band: 95 % over rows; ticks: deciles of the data."
    return html.Div([html.P(words, className="dim"), graph(figure, label=f"How the score follows {found.columns[0]}")])
