"""Inspect: the predictions, one of them opened, two methods beside each other, and the input to change."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import MATCH, ClientsideFunction, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import answers, ids
from dashboard.components import attention, detail, grid, matrix, panel, states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer.errors import ExplainerError

ORDERS = [
    {"value": "wrong", "label": "wrong first"},
    {"value": "unsure", "label": "least sure first"},
    {"value": "sure", "label": "surest first"},
    {"value": "row", "label": "by row"},
]


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """Left the predictions, right the one opened; what fills them comes with the address."""
    modality = exhibit.face.modality
    methods = desk.methods(exhibit)
    predictions = desk.predictions(exhibit)
    tools = html.Div(
        [
            dmc.Select(
                id="order", data=ORDERS, value=view.order or "wrong", placeholder="by column", size="xs", w=134, allowDeselect=False
            ),
            dmc.TextInput(id="search", value=view.find, placeholder="search  /", size="xs", className="search", debounce=200),
            html.Span(id="rows-chip"),
            html.Span(id="count", className="dim count", role="status"),
        ],
        className="tools",
    )
    table = html.Div(grid.table(exhibit, predictions, view.find), className="grid-box")
    left = html.Section([html.Div(id="summary", className="summary"), tools, table], className="left")
    panels = html.Div([panel.frame(side, getattr(view, side), methods) for side in ("a", "b")], className="panels")
    picture = html.Div([html.Div("the input", className="caption"), html.Div(id="input")], className="input-box")
    lower = detail.lower(exhibit)
    right = [html.Div(id="detail-head", className="detail-head"), html.Div([picture, panels], className="seen"), lower]
    if methods.get("attention") and methods["attention"].level != "unsupported":
        right.append(attention.frame())
    own = [dcc.Store(id=name) for name in ("table-key", "table-order", "change-key", "reset")]
    own += [dcc.Store(id="table-columns", data=grid.columns(exhibit, predictions)), dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name)]
    return html.Div(
        [*own, left, html.Section(right, className="right")], className=f"inspect inspect-{modality}", **{"data-model": exhibit.name}
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """The callbacks of this page; the panels' own serve the compare page too."""
    _browser(app)
    _table(app, desk)
    _panels(app, desk)
    detail.register(app, desk)
    attention.register(app, desk)


def _browser(app: dash.Dash) -> None:
    def client(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("explainer", name), *arguments, **options)

    client("order", Output("order", "title"), Input("order", "value"), prevent_initial_call=True)
    client("rows", Output(ids.GRID, "rowData"), Input("table-order", "data"), State("table-columns", "data"))
    client("find", Output("search", "title"), Input("search", "value"), prevent_initial_call=True)
    client("row", Output(ids.GRID, "title"), Input(ids.GRID, "cellClicked"), prevent_initial_call=True)
    client("selected", Output(ids.GRID, "selectedRows"), Input(ids.URL, "search"), Input(ids.GRID, "rowData"))
    client(
        "quick",
        Output(ids.GRID, "dashGridOptions"),
        Input(ids.URL, "search"),
        State(ids.GRID, "dashGridOptions"),
        prevent_initial_call=True,
    )
    client(
        "method",
        Output(ids.panel("press", MATCH), "storage_type"),
        Input(ids.panel("method", MATCH), "value"),
        State(ids.panel("method", MATCH), "id"),
        prevent_initial_call=True,
    )
    client(
        "layer",
        Output(ids.panel("tick", MATCH), "storage_type"),
        Input(ids.panel("layer", MATCH), "value"),
        State(ids.panel("layer", MATCH), "id"),
        prevent_initial_call=True,
    )
    client(
        "opacity",
        Output({"type": "figure", "side": MATCH}, "figure"),
        Input({"type": "opacity", "side": MATCH}, "value"),
        State({"type": "figure", "side": MATCH}, "figure"),
        prevent_initial_call=True,
    )


def _table(app: dash.Dash, desk: Desk) -> None:
    @app.callback(
        Output("summary", "children"),
        Output("table-order", "data"),
        Output("rows-chip", "children"),
        Output("order", "value"),
        Output("table-key", "data"),
        Input(ids.URL, "search"),
        State("table-key", "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def fill(search: Any, key: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        wanted = [exhibit.name, view.cell, view.order, view.rows]
        if key == wanted:
            raise PreventUpdate
        predictions = desk.predictions(exhibit)
        rows = grid.order(predictions, view, desk.found_rows(exhibit, view.rows))
        chip = html.Button(f"{view.rows}  ✕", type="button", className="chip", title="Show all rows again", **states.go({"rows": ""}))
        return matrix.summary(predictions, view), rows, chip if view.rows else "", view.order or "wrong", wanted


def _panels(app: dash.Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.panel("body", MATCH), "children"),
        Output(ids.panel("poll", MATCH), "data"),
        Output(ids.panel("method", MATCH), "value"),
        Output(ids.panel("able", MATCH), "children"),
        Output(ids.panel("layer", MATCH), "data"),
        Output(ids.panel("layer", MATCH), "value"),
        Output(ids.panel("at", MATCH), "hidden"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        Input(ids.panel("tick", MATCH), "data"),
        Input(ids.panel("press", MATCH), "data"),
        State(ids.panel("press", MATCH), "id"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def explain(search: Any, edit: Any, tick: Any, press: Any, press_id: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        method, layer = getattr(view, press_id["side"]), view.layer_of(press_id["side"])
        body, done = _answer(desk, exhibit, view, edit, press, press_id, browser)
        able = panel.able(method, desk.methods(exhibit).get(method), layer)
        names = desk.layers(exhibit, method) if method else None
        if names is None:
            return body, done, method, able, [], None, True
        offered = panel.layers(method, names)
        if layer and layer not in (choice["value"] for choice in offered):  # of a link: the answer below says what is wrong with it
            offered.append({"value": layer, "label": layer})
        return body, done, method, able, offered, layer or panel.DEFAULT, False


def _answer(desk: Desk, exhibit: Exhibit, view: View, edit: Any, press: Any, press_id: Any, browser: Any) -> tuple[Any, Any]:
    """The explanation of one side, or what stands in its way."""
    side = press_id["side"]
    method = getattr(view, side)
    if answers.outside(exhibit, view, desk.predictions(exhibit)) is not None:
        return "", answers.DONE
    able = desk.methods(exhibit).get(method)
    if able is None or able.level == "unsupported":
        why = able.reason if able else "No method is valid on this model."
        return states.notice("Not available on this model", why, "Choose another method above.", sign="warn"), answers.DONE
    try:
        inputs, view = answers.asked(desk, exhibit, view, edit)
    except ExplainerError as error:
        told = "Correct it or undo it."
        return states.notice("The changed input cannot be explained", str(error), told, tone="bad", sign="warn"), answers.DONE
    task = answers.question(desk, exhibit, view, inputs, method, view.layer_of(side))
    names = exhibit.face.feature_names
    return answers.answer(desk, task, browser, press_id, press, lambda ex: panel.content(ex, side, names), height=300)
