"""Inspect: the predictions, one of them opened, two methods beside each other, and the input to change."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import ALL, MATCH, ClientsideFunction, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import answers, ids
from dashboard.components import attention, change, grid, input, matrix, panel, probabilities, states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer.errors import ExplainerError
from explainer.plots.look import three

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
            dmc.Select(id="order", data=ORDERS, value=view.order or "wrong", size="xs", w=134, allowDeselect=False),
            dmc.TextInput(id="search", placeholder="search  /", size="xs", className="search", debounce=200),
            html.Span(id="count", className="dim count"),
        ],
        className="tools",
    )
    left = html.Section(
        [html.Div(id="summary", className="summary"), tools, html.Div(grid.table(predictions), className="grid-box")], className="left"
    )
    panels = html.Div([panel.frame(side, getattr(view, side), methods) for side in ("a", "b")], className="panels")
    picture = html.Div([html.Div("the input", className="caption"), html.Div(id="input")], className="input-box")
    lower = html.Div(
        [
            html.Div(
                [
                    html.Div("probabilities" if exhibit.face.task != "regression" else "prediction", className="caption"),
                    html.Div(id="probabilities"),
                ],
                className="probability-box",
            ),
            html.Div(
                [
                    html.Div(
                        [html.Span("change it", className="caption"), html.Span(id="change-note", className="change-note")],
                        className="spread",
                    ),
                    html.Div(id="change"),
                ],
                className="change-box",
            ),
        ],
        className="lower",
    )
    right = [html.Div(id="detail-head", className="detail-head"), html.Div([picture, panels], className="seen"), lower]
    if methods.get("attention") and methods["attention"].level != "unsupported":
        right.append(attention.frame())
    own = [dcc.Store(id="table-key"), dcc.Store(id="change-key"), dcc.Store(id="reset"), dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name)]
    return html.Div(
        [*own, left, html.Section(right, className="right")], className=f"inspect inspect-{modality}", **{"data-model": exhibit.name}
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """The callbacks of this page; the panels' own serve the compare page too."""
    _browser(app)
    _table(app, desk)
    _detail(app, desk)
    _panels(app, desk)
    attention.register(app, desk)


def _browser(app: dash.Dash) -> None:
    def client(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("explainer", name), *arguments, **options)

    client("order", Output("order", "title"), Input("order", "value"), prevent_initial_call=True)
    client("row", Output(ids.GRID, "title"), Input(ids.GRID, "cellClicked"), prevent_initial_call=True)
    client("selected", Output(ids.GRID, "selectedRows"), Input(ids.URL, "search"), Input(ids.GRID, "rowData"))
    client(
        "quick",
        Output(ids.GRID, "dashGridOptions"),
        Input("search", "value"),
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
    client("base", Output("reset", "storage_type"), Input("edit-base", "data"))
    cell = {"type": "edit-cell", "column": ALL}
    client("cells", Output("change", "title"), Input(cell, "value"), State(cell, "id"), prevent_initial_call=True)
    client("text", Output("change", "lang"), Input("edit-text", "value"), prevent_initial_call=True)
    client("upload", Output("change", "dir"), Input("edit-upload", "contents"), prevent_initial_call=True)
    client("csv", Output("change", "accessKey"), Input("edit-csv", "contents"), prevent_initial_call=True)
    client(
        "stretch",
        Output("change", "role"),
        Input("edit-channel", "value"),
        Input("edit-span", "value"),
        Input("edit-scale", "value"),
        prevent_initial_call=True,
    )


def _table(app: dash.Dash, desk: Desk) -> None:
    @app.callback(
        Output("summary", "children"),
        Output(ids.GRID, "rowData"),
        Output("count", "children"),
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
        only = desk.found_rows(exhibit, view.rows)
        records = grid.rows(exhibit, predictions, view, only)
        count: Any = f"{len(records):,} of {len(predictions):,}"
        if view.rows:
            count = [
                html.Button(f"{view.rows}  ✕", type="button", className="chip", title="Show all rows again", **states.go({"rows": ""})),
                f" {count}",
            ]
        return matrix.summary(predictions, view), records, count, view.order or "wrong", wanted


def _detail(app: dash.Dash, desk: Desk) -> None:
    @app.callback(
        Output("detail-head", "children"),
        Output("input", "children"),
        Output("probabilities", "children"),
        Output("change-note", "children"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def detail(search: Any, edit: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        predictions = desk.predictions(exhibit)
        wrong = answers.outside(exhibit, view, predictions)
        if wrong is not None:
            return wrong, "", "", ""
        row = view.row or 0
        before = predictions.scores[row]
        try:
            inputs, moved = answers.changed(exhibit, view, edit)
            scores = before
            if moved:
                with exhibit.model() as model:
                    scores = model.scores(inputs)[0]
        except ExplainerError as error:
            return (
                dash.no_update,
                dash.no_update,
                dash.no_update,
                html.Span([states.icon("warn"), str(error)], className="bad", role="alert"),
            )
        face = exhibit.face
        true = None if predictions.labels is None else predictions.labels[row]
        if predictions.regression:
            bars: Any = html.Div(
                [
                    html.Div(three(float(scores[0])), className="big"),
                    html.Div(f"was {three(float(before[0]))}" if moved else "", className="dim"),
                ]
            )
        else:
            bars = probabilities.bars(
                scores, face.class_names, target=view.target, true=None if true is None else int(true), before=before if moved else None
            )
        note = (
            html.Button([states.icon("again"), "undo the change"], type="button", className="small-button", **states.press("reset"))
            if moved
            else ""
        )
        return head(exhibit, row, scores, true, moved), input.shown(inputs, face.modality, face.feature_names), bars, note

    @app.callback(
        Output("change", "children"),
        Output("change-key", "data"),
        Input(ids.URL, "search"),
        Input("reset", "data"),
        State("change-key", "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def form(search: Any, reset: Any, key: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        wanted = [exhibit.name, view.row]
        if (key == wanted and "reset" not in ctx.triggered_prop_ids.values()) or not 0 <= (view.row or 0) < len(exhibit.inputs):
            raise PreventUpdate
        return change.form(exhibit, exhibit.row(view.row or 0), view.row or 0), wanted


def head(exhibit: Exhibit, row: int, scores: np.ndarray, true: Any, moved: bool) -> list[Any]:
    """Which row, what is true, what is predicted and how surely; previous, next, and a link to this very screen."""
    face = exhibit.face
    if face.task == "regression":
        facts = [("true", "" if true is None else three(float(true))), ("predicted", three(float(scores[0])))]
        wrong = False
    else:
        best = int(scores.argmax())
        facts = [
            ("true", "" if true is None else face.class_names[int(true)]),
            ("predicted", f"{face.class_names[best]} ({probabilities.percent(float(scores[best]))})"),
        ]
        wrong = true is not None and int(true) != best
    parts: list[Any] = [html.Span(["row ", html.Strong(f"{row}")], className="fact")]
    for name, value in facts:
        if value:
            parts.append(
                html.Span([f"{name} ", html.Strong(value)], className="fact" + (" fact-wrong" if wrong and name == "predicted" else ""))
            )
    if moved:
        parts.append(html.Span("changed", className="tag tag-changed"))
    buttons = html.Span(
        [
            html.Button(
                "‹", type="button", className="step", title="Previous row (k)", **{"data-step": "-1", "aria-label": "Previous row"}
            ),
            html.Button("›", type="button", className="step", title="Next row (j)", **{"data-step": "1", "aria-label": "Next row"}),
            html.Button(
                [states.icon("link"), html.Span("copy link", **{"data-label": "1"})],
                type="button",
                className="small-button",
                **{"data-copy": "1"},
            ),
        ],
        className="steps",
    )
    return [html.Div(parts, className="facts"), buttons]


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
        inputs, _ = answers.changed(exhibit, view, edit)
    except ExplainerError as error:
        told = "Correct or undo the change below."
        return states.notice("The changed input cannot be explained", str(error), told, tone="bad", sign="warn"), answers.DONE
    task = answers.question(desk, exhibit, view, inputs, method, view.layer_of(side))
    names = exhibit.face.feature_names
    return answers.answer(desk, task, browser, press_id, press, lambda ex: panel.content(ex, side, names), height=300)
