"""The row that is open: its label and prediction, the input itself, the form that changes it, and the way back."""

from __future__ import annotations

from typing import Any

import dash
import numpy as np
from dash import ALL, ClientsideFunction, Input, Output, State, ctx, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import answers, edits, ids
from dashboard.components import change, input, probabilities, states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer.errors import ExplainerError
from explainer.plots.look import three


def lower(exhibit: Exhibit) -> html.Div:
    """The places of the probabilities and of the form."""
    said = html.Div("probabilities" if exhibit.face.task != "regression" else "prediction", className="caption")
    head = html.Div([html.Span("change it", className="caption"), html.Div(id="change-note", className="change-note")], className="spread")
    return html.Div(
        [
            html.Div([said, html.Div(id="probabilities")], className="probability-box"),
            html.Div([head, html.Div(id="change"), dcc.Store(id="edit-base")], className="change-box"),
        ],
        className="lower",
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """What is said of the row, and the form; what the form holds goes into the address, or into a store where it is too long for one."""
    _browser(app)

    @app.callback(
        Output("detail-head", "children"),
        Output("input", "children"),
        Output("probabilities", "children"),
        Output("change-note", "children"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def detail(search: Any, kept: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        predictions = desk.predictions(exhibit)
        wrong = answers.outside(exhibit, view, predictions)
        if wrong is not None:
            return wrong, "", "", ""
        return _told(desk, exhibit, view, predictions, kept)

    @app.callback(
        Output("change", "children"),
        Output("edit-base", "data"),
        Output("change-key", "data"),
        Input(ids.URL, "search"),
        Input("reset", "data"),
        State("change-key", "data"),
        State(ids.EDIT, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def form(search: Any, reset: Any, key: Any, kept: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        row, wanted = view.row or 0, [exhibit.name, view.row]
        if (key == wanted and "reset" not in ctx.triggered_prop_ids.values()) or not 0 <= row < len(exhibit.inputs):
            raise PreventUpdate
        try:
            edit = answers.change(exhibit, view, kept)
        except ExplainerError:  # the note beside the form says what is wrong with it
            edit = None
        return *change.form(exhibit, row, edit, view.edit), wanted


def _browser(app: dash.Dash) -> None:
    def client(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("explainer", name), *arguments, **options)

    cell, base = {"type": "edit-cell", "column": ALL}, State("edit-base", "data")
    client("form", Output("reset", "storage_type"), Input("edit-base", "data"), Input(ids.URL, "search"))
    client("cells", Output(cell, "error"), Output(cell, "className"), Input(cell, "value"), State(cell, "id"), base)
    client("text", Output("change", "lang"), Input("edit-text", "value"), base, prevent_initial_call=True)
    for name, property in (("edit-upload", "dir"), ("edit-csv", "accessKey")):
        client("file", Output("change", property), Input(name, "contents"), State(name, "filename"), base, prevent_initial_call=True)
    client(
        "stretch",
        Output("change", "role"),
        Input("edit-channel", "value"),
        Input("edit-span", "value"),
        Input("edit-scale", "value"),
        base,
        prevent_initial_call=True,
    )


def _told(desk: Desk, exhibit: Exhibit, view: View, predictions: Predictions, kept: Any) -> tuple[Any, ...]:
    """Head, input, probabilities and note. A change that cannot be read leaves the row as it was, greyed, with the way back."""
    row, face = view.row or 0, exhibit.face
    one, before, error, edit = exhibit.row(row), predictions.scores[row], "", None
    inputs, scores = one, before
    try:
        edit = answers.change(exhibit, view, kept)
        inputs, view = answers.asked(desk, exhibit, view, kept)
        if edit is not None:
            with exhibit.model() as model:
                scores = model.scores(inputs)[0]
    except ExplainerError as found:
        error, inputs = str(found), one
        edit = None
    moved = edit is not None
    true = None if predictions.labels is None else predictions.labels[row]
    if predictions.regression:
        was = html.Div(f"was {three(float(before[0]))}" if moved else "", className="dim")
        bars: Any = html.Div([html.Div(three(float(scores[0])), className="big"), was])
    else:
        truth = None if true is None else int(true)
        bars = probabilities.bars(scores, face.class_names, target=view.target, true=truth, before=before if moved else None)
    seen = input.shown(inputs, face.modality, face.feature_names)
    if error:
        seen, bars = html.Div(seen, className="stale"), html.Div(bars, className="stale")
    parts = head(exhibit, row, scores, true, "changed" if moved else "not changed" if error else "")
    flip = "" if not moved or predictions.regression else _flip(face.class_names, before, scores, view)
    told = "" if edit is None else edits.told(edit, one, inputs, face)
    return parts, seen, bars, note(told, error, flip, linked=bool(view.edit)) if moved or error else ""


def _flip(names: tuple[str, ...], before: np.ndarray, scores: np.ndarray, view: View) -> str:
    """Where the change turned the prediction: what is explained nevertheless, and what is predicted now."""
    was, now = int(before.argmax()), int(scores.argmax())
    if was == now:
        return ""
    turned = f"now {names[now]!r} ({probabilities.percent(float(scores[now]))})."
    if view.target == str(was):
        return f"Explained for {names[was]!r}, the prediction before the change; {turned}"
    return f"The prediction was {names[was]!r} before the change; {turned}"


def note(told: str, error: str, flip: str, linked: bool) -> list[Any]:
    """What was changed, what is wrong with it, what is explained, and the way back, which is always there."""
    undo = html.Button([states.icon("again"), "undo the change"], type="button", className="small-button", **{"data-undo": "1"})
    parts: list[Any] = [html.Span(told, className="told dim"), undo]
    if error:
        parts.insert(0, html.Span([states.icon("warn"), error, " The row is shown as it was."], className="bad", role="alert"))
    if flip:
        parts.insert(0, html.Span(flip, className="flip"))
    if not linked and not error:
        parts.append(html.Span("too large for the address: a link or a reload does not keep it", className="dim"))
    return parts


def head(exhibit: Exhibit, row: int, scores: np.ndarray, true: Any, tag: str) -> list[Any]:
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
    if tag:
        parts.append(html.Span(tag, className="tag tag-changed"))
    step = {"type": "button", "className": "step"}
    buttons = html.Span(
        [
            html.Button("‹", title="Previous row (k)", **step, **{"data-step": "-1", "aria-label": "Previous row"}),
            html.Button("›", title="Next row (j)", **step, **{"data-step": "1", "aria-label": "Next row"}),
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
