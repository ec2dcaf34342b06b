"""The attention of a transformer: one head, all heads of a layer, or the whole model; which token looked at which."""

from __future__ import annotations

import dataclasses
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, dcc, html

from dashboard import answers, ids
from dashboard.components.figures import graph
from dashboard.desk import Desk
from explainer.errors import ExplainerError
from explainer.explanation import Explanation

MOST = 48  # tokens shown: more cannot be read
VIEWS = {"head": "one head", "heads": "all heads of a layer", "model": "whole model"}


def frame() -> html.Div:
    """The place of the viewer; it follows the row and its changes."""
    pickers = html.Div(
        [
            html.Span("attention", className="caption"),
            dmc.SegmentedControl(id="attention-view", data=[{"value": k, "label": v} for k, v in VIEWS.items()], value="head", size="xs"),
            dmc.Select(id="layer", data=["0"], value="0", size="xs", w=96, allowDeselect=False, **{"aria-label": "Layer"}),
            dmc.Select(id="head", data=["mean"], value="mean", size="xs", w=140, allowDeselect=False, **{"aria-label": "Head"}),
        ],
        className="attention-head",
    )
    place = html.Div(id=ids.slot("body", "attention"))
    stores = [dcc.Store(id=ids.slot(part, "attention")) for part in ("poll", "tick", "press")]
    return html.Div([pickers, place, *stores], className="attention-box")


def register(app: dash.Dash, desk: Desk) -> None:
    """The callback that fills the viewer, and pressing a small picture to see it large."""
    press = ClientsideFunction("explainer", "head")
    app.clientside_callback(
        press, Output("head", "title"), Input("attention-figure", "clickData"), State("attention-view", "value"), prevent_initial_call=True
    )

    @app.callback(
        Output(ids.slot("body", "attention"), "children"),
        Output(ids.slot("poll", "attention"), "data"),
        Output("layer", "data"),
        Output("head", "data"),
        Output("layer", "style"),
        Output("head", "style"),
        Input(ids.URL, "search"),
        Input(ids.EDIT, "data"),
        Input("attention-view", "value"),
        Input("layer", "value"),
        Input("head", "value"),
        Input(ids.slot("tick", "attention"), "data"),
        Input(ids.slot("press", "attention"), "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, edit: Any, kind: Any, layer: Any, head: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        if answers.outside(exhibit, view, desk.predictions(exhibit)) is not None:
            return "", answers.DONE, *[dash.no_update] * 4
        try:
            inputs, view = answers.asked(desk, exhibit, view, edit)
        except ExplainerError:
            raise dash.exceptions.PreventUpdate from None
        task = answers.question(desk, exhibit, view, inputs, "attention")
        found: list[Explanation] = []

        def fill(ex: Explanation) -> Any:
            found.append(ex)
            return content(ex, kind, layer, head)

        body, done = answers.answer(desk, task, browser, ids.slot("press", "attention"), press, fill)
        if not found:
            return body, done, *[dash.no_update] * 4
        layers, heads = found[0].extras["attention"][0].shape[:2]
        return (
            body,
            done,
            [{"value": str(k), "label": f"layer {k}"} for k in range(layers)],
            [{"value": "mean", "label": "mean of heads"}] + [{"value": str(k), "label": f"head {k}"} for k in range(heads)],
            {"display": "none"} if kind == "model" else {},
            {} if kind == "head" else {"display": "none"},
        )


def content(ex: Explanation, view: Any, layer: Any, head: Any) -> Any:
    """One head, the heads of one layer, or the whole model; long texts are cut to the first tokens, and it is said."""
    from explainer import plots

    layers, heads = ex.extras["attention"][0].shape[:2]
    at = int(layer) if str(layer).isdigit() and int(layer) < layers else 0
    which = int(head) if str(head).isdigit() and int(head) < heads else None
    shown, told = (ex, []) if view == "model" else cut(ex)
    if view == "model":
        figure = plots.plot_attention_model(ex)
        told = ["A picture per head: rows look, columns are looked at. Press one to see it large."]
    elif view == "heads":
        figure = plots.plot_attention_heads(shown, at)
        told.append(f"{figure.layout.title.subtitle.text}, left to right. Press a head's number to hide it or show it again.")
    else:
        figure = plots.plot_attention(shown, at, which)
    height = {"model": figure.layout.height - 60, "heads": figure.layout.height - 70}.get(
        view, max(300, min(620, figure.layout.height - 40))
    )
    figure.update_layout(title=None, margin={"l": 4, "r": 4, "t": 8, "b": 4}, height=height)
    told.append("What the model looked at is not what decided; the attention method's verdict says how far it follows the score.")
    drawn = graph(figure, label=f"Attention, {VIEWS.get(view, 'one head')}, layer {at}", id="attention-figure")
    return html.Div([drawn, *(html.Div(line, className="dim") for line in told)], **{"data-view": str(view)})


def cut(ex: Explanation) -> tuple[Explanation, list[str]]:
    """The explanation with its first tokens only, those that look as those looked at, and what was left out in words."""
    weights, keys = ex.extras["attention"][0], list(ex.extras["tokens"][0])
    queries = list(ex.extras["queries"][0]) if ex.extras.get("queries") else None
    rows, columns = min(MOST, weights.shape[2]), min(MOST, weights.shape[3])
    extras = {**ex.extras, "attention": (weights[:, :, :rows, :columns],), "tokens": (keys[:columns],)}
    if queries is not None:
        extras["queries"] = (queries[:rows],)
    told = [f"The first {shown} of {many} tokens{which}." for shown, many, which in (
        (columns, len(keys), "" if queries is None else " looked at"), (rows, len(queries or keys), " that look" if queries else ""),
    ) if shown < many]  # fmt: skip
    return dataclasses.replace(ex, extras=extras), list(dict.fromkeys(told))
