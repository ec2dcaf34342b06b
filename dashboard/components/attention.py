"""The attention heads of a transformer: one layer and head at a time, which token looked at which."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import Input, Output, State, dcc, html

from dashboard import answers, ids
from dashboard.components.figures import graph
from dashboard.desk import Desk
from explainer.errors import ExplainerError
from explainer.explanation import Explanation

MOST = 48  # tokens shown: more cannot be read


def frame() -> html.Div:
    """The place of the viewer; it follows the row and its changes."""
    pickers = html.Div(
        [
            html.Span("attention heads", className="caption"),
            dmc.Select(id="layer", data=["0"], value="0", size="xs", w=96, allowDeselect=False),
            dmc.Select(id="head", data=["mean"], value="mean", size="xs", w=140, allowDeselect=False),
        ],
        className="attention-head",
    )
    place = html.Div(id=ids.slot("body", "attention"))
    stores = [dcc.Store(id=ids.slot(part, "attention")) for part in ("poll", "tick", "press")]
    return html.Div([pickers, place, *stores], className="attention-box")


def register(app: dash.Dash, desk: Desk) -> None:
    """The callback that fills the viewer."""

    @app.callback(
        Output(ids.slot("body", "attention"), "children"),
        Output(ids.slot("poll", "attention"), "data"),
        Output("layer", "data"),
        Output("head", "data"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        Input("layer", "value"),
        Input("head", "value"),
        Input(ids.slot("tick", "attention"), "data"),
        Input(ids.slot("press", "attention"), "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, edit: Any, layer: Any, head: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        if answers.outside(exhibit, view, desk.predictions(exhibit)) is not None:
            return "", answers.DONE, dash.no_update, dash.no_update
        try:
            inputs, _ = answers.changed(exhibit, view, edit)
        except ExplainerError:
            raise dash.exceptions.PreventUpdate from None
        task = answers.question(desk, exhibit, view, inputs, "attention")
        found: list[Explanation] = []

        def fill(ex: Explanation) -> Any:
            found.append(ex)
            return content(ex, layer, head)

        body, done = answers.answer(desk, task, browser, ids.slot("press", "attention"), press, fill)
        if not found:
            return body, done, dash.no_update, dash.no_update
        layers, heads = found[0].extras["attention"][0].shape[:2]
        return (
            body,
            done,
            [{"value": str(k), "label": f"layer {k + 1}"} for k in range(layers)],
            [{"value": "mean", "label": "mean of heads"}] + [{"value": str(k), "label": f"head {k + 1}"} for k in range(heads)],
        )


def content(ex: Explanation, layer: Any, head: Any) -> Any:
    """The heat map of one head; long texts are cut to the first tokens, and it is said."""
    import dataclasses

    from explainer import plots

    weights, tokens = ex.extras["attention"][0], ex.extras["tokens"][0]
    layers, heads = weights.shape[:2]
    at = int(layer) if str(layer).isdigit() and int(layer) < layers else 0
    which = int(head) if str(head).isdigit() and int(head) < heads else None
    n = min(len(tokens), MOST)
    cut = dataclasses.replace(ex, extras={**ex.extras, "attention": (weights[:, :, :n, :n],), "tokens": (list(tokens)[:n],)})
    figure = plots.plot_attention(cut, at, which)
    figure.update_layout(title=None, margin={"l": 4, "r": 4, "t": 4, "b": 4}, height=max(300, min(620, 120 + 13 * n)))
    parts = [graph(figure, label=f"Attention, layer {at + 1}")]
    if n < len(tokens):
        parts.append(html.Div(f"The first {n} of {len(tokens)} tokens.", className="dim"))
    parts.append(
        html.Div(
            "What the model looked at is not what decided; the attention method's verdict says how far it follows the score.",
            className="dim",
        )
    )
    return html.Div(parts)
