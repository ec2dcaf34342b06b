"""What goes on inside a network, over many rows: its attention heads, its layers, and one unit of them."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
import numpy as np
from dash import ClientsideFunction, Input, Output, State, html

from dashboard import answers, ids
from dashboard.components import interventions, record, states
from dashboard.components.figures import graph
from dashboard.desk import Desk, Watched
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer import plots
from explainer.inspection.activations import Activations, LayerActivations
from explainer.inspection.heads import HeadImportance
from explainer.inspection.visualisation import Visualisation
from explainer.plots.look import three

FEW = 8  # units that are named beside the number


def cards(desk: Desk, exhibit: Exhibit) -> list[html.Section]:
    """The places that fill when they are asked for; none for a model that is seen from outside."""
    found = []
    if desk.methods(exhibit)["attention"].level != "unsupported":
        found.append(_card("What each attention head is worth", "heads"))
    if exhibit.face.framework == "torch":
        found.append(_card("What its layers do", "activations"))
        found.append(interventions.card(desk, exhibit))
    return found


def _card(title: str, name: str) -> html.Section:
    return html.Section([html.H2(title), *states.slot(name)], className="card card-wide")


def register(app: dash.Dash, desk: Desk) -> None:
    """Heads and layers, each when its button is pressed or its answer is there; a unit follows the address."""
    pick = ClientsideFunction("explainer", "unit")
    app.clientside_callback(
        pick, Output("unit-pick", "title"), Input("layer-pick", "value"), Input("unit-pick", "value"), prevent_initial_call=True
    )

    def place(name: str, search: Any, *more: Output) -> Any:
        outputs = [Output(ids.slot("body", name), "children"), Output(ids.slot("poll", name), "data"), *more]
        inputs = [search, *(Input(ids.slot(part, name), "data") for part in ("tick", "press"))]
        return app.callback(*outputs, *inputs, State(ids.BROWSER, "data"), State(ids.PAGE_MODEL, "data"))

    @place("heads", State(ids.URL, "search"))
    def heads(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, _ = answers.here(desk, search, shown)
        task, where = desk.heads(exhibit), ids.slot("press", "heads")
        if not answers.asked_for(desk, task, browser, where, press):
            n = desk.sample_size(exhibit)
            words = f"Take each head away in turn, on {n} rows spread evenly over the test set, and see how far the score falls."
            return html.Div([html.P(words), states.button(f"Measure on {n} rows", where, sign="go")]), answers.DONE
        return answers.answer(desk, task, browser, where, press, _heads, height=240)

    @place("activations", State(ids.URL, "search"))
    def activations(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        task, where = desk.activations(exhibit), ids.slot("press", "activations")
        if not answers.asked_for(desk, task, browser, where, press):
            words = "Dead and saturated units, how sparse each layer is, how many directions it uses, and what excites each unit."
            return html.Div([html.P(words), states.button("Watch its layers", where, sign="go")]), answers.DONE
        return answers.answer(desk, task, browser, where, press, lambda seen: _layers(seen, view), height=320)

    @place("unit", Input(ids.URL, "search"), Output("layer-pick", "value"), Output("unit-pick", "value"))
    def unit(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        # The fields follow the address; where it says nothing they are left alone, or they would write into it unasked.
        fields = (view.layer or dash.no_update, "")
        seen = desk.store.get(desk.activations(exhibit).key)
        if seen is None:
            return "", answers.DONE, *fields
        layer, number = chosen(seen, view)
        facts = _unit(desk, exhibit, seen, layer, number)
        drawn, done = _image(desk, exhibit, layer.name, number, press, browser)
        return [facts, drawn], done, *fields

    @place("ablation", Input(ids.URL, "search"))
    def ablation(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        seen = desk.store.get(desk.activations(exhibit).key)
        if seen is None:
            return "", answers.DONE
        layer, number = chosen(seen, view)
        task, where = desk.ablation(exhibit, layer.name, number), ids.slot("press", "ablation")
        if not answers.asked_for(desk, task, browser, where, press):
            n = desk.sample_size(exhibit)
            before = interventions.told(desk.views(exhibit)["ablate"])
            return html.Div([before, states.button(f"Take it out, on {n} rows", where, sign="go")]), answers.DONE
        return answers.answer(desk, task, browser, where, press, interventions.ablated, height=240)

    interventions.register(app, desk, place)


def _image(desk: Desk, exhibit: Exhibit, layer: str, unit: int, press: Any, browser: Any) -> tuple[Any, Any]:
    """An image that excites the unit, once it is asked for; of models of pictures only."""
    if exhibit.face.modality != "image":
        return None, answers.DONE
    task, where = desk.visualisation(exhibit, layer, unit), ids.slot("press", "unit")
    if not answers.asked_for(desk, task, browser, where, press):
        return states.button("Make an image that excites it", where, sign="go"), answers.DONE
    return answers.answer(desk, task, browser, where, press, _visualised, height=300)


def _heads(found: HeadImportance) -> html.Div:
    figure = plots.plot_head_importance(found)
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 8, "b": 40}, height=figure.layout.height - 56)
    figure.data[0].colorbar.update({"title": {"text": ""}})
    target = "the predicted class" if found.target == "predicted" else found.target
    words = (
        f"Mean fall of the {found.output} of {target} when the head hands on nothing, over {found.rows} rows; blue heads held it "
        "down. Hover for the 95 % interval."
    )
    frame = found.to_frame()
    sure = frame[(frame["low"] > 0) | (frame["high"] < 0)]
    told = ", ".join(f"layer {one['layer']} head {one['head']} ({three(one['importance'])})" for one in sure.head(5).to_dict("records"))
    said = f"Told from 0 by their interval: {len(sure)} of {len(frame)} heads" + (f", first {told}." if told else ".")
    return html.Div([html.P(words, className="dim"), graph(figure, label="What each head is worth"), html.P(said, className="dim")])


def _layers(seen: Watched, view: View) -> html.Div:
    found = seen.found
    figure = plots.plot_activations(found)
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 28, "b": 28}, height=figure.layout.height - 60)
    layer, _ = chosen(seen, view)
    names = [{"value": one.name, "label": f"{one.name} ({one.kind}, {one.units})"} for one in found.layers]
    combobox = {"width": "max-content", "position": "bottom-start"}
    pickers = html.Div(
        [
            dmc.Select(
                id="layer-pick", label="layer", data=names, value=layer.name, size="xs", w=240, allowDeselect=False, comboboxProps=combobox
            ),
            dmc.NumberInput(id="unit-pick", label="unit", placeholder="number", min=0, allowDecimal=False, size="xs", w=90, debounce=350),
        ],
        className="tools unit-tools",
    )
    words = f"Over {found.rows} rows spread evenly over the test set, padding left out. {_counted(found)}"
    picture = html.Div(graph(figure, label="Activations by layer", className="layers-figure"), className="scroll")
    return html.Div([html.P(words, className="dim"), picture, html.H3("One unit"), pickers, *states.slot("unit"), *states.slot("ablation")])


def _counted(found: Activations) -> str:
    """Where units are dead or saturated, in words."""
    told = []
    for what, count in (("dead", lambda one: len(one.dead)), ("saturated", lambda one: len(one.stuck))):
        where = [f"{one.name} ({count(one)} of {one.units})" for one in found.layers if count(one)]
        more = f" and {len(where) - FEW} more layers" if len(where) > FEW else ""
        told.append(f"Units {what} in {', '.join(where[:FEW])}{more}." if where else f"No {what} units.")
    return " ".join(told)


def chosen(seen: Watched, view: View) -> tuple[LayerActivations, int]:
    """The layer and unit of the address; else the last layer before the scores, and its unit that varies most."""
    layers = {one.name: one for one in seen.found.layers}
    layer = layers.get(view.layer) or seen.found.layers[max(0, len(layers) - 2)]
    if view.unit is not None and view.layer == layer.name:
        return layer, min(view.unit, layer.units - 1)
    return layer, int(np.argmax(layer.std))


def _unit(desk: Desk, exhibit: Exhibit, seen: Watched, layer: LayerActivations, unit: int) -> html.Div:
    """What one unit does, its neighbours worth a look, and the rows that excite it most."""
    facts = [("mean", three(float(layer.mean[unit]))), ("spread", three(float(layer.std[unit]))), ("zeros", f"{layer.zeros[unit]:.0%}")]
    if layer.saturated is not None:
        facts.append(("near a bound", f"{layer.saturated[unit]:.0%}"))
    line = [html.Span([html.Strong(f"{layer.name}[{unit}]"), f" of {layer.units:,}"], className="stat")]
    line += [html.Span([html.Span(f"{name} ", className="dim"), value], className="stat") for name, value in facts]
    dead = unit in layer.dead
    if dead:
        line.append(html.Span("dead", className="tag tag-changed"))
    varied = [int(k) for k in np.argsort(-layer.std, kind="stable")[:FEW]]
    named = (("vary most", varied), ("dead", layer.dead.tolist()), ("saturated", layer.stuck.tolist()))
    chips = [chip for title, units in named if units for chip in _chips(title, layer.name, units)]
    rows = [(int(i), float(v)) for i, v in zip(layer.top[unit], layer.top_values[unit], strict=True) if i >= 0]
    predictions = desk.predictions(exhibit)
    shown = [record.shown(int(seen.rows[i]), exhibit, predictions, f"activation {three(v)}") for i, v in rows]
    under = html.Div("It was never active on these rows." if dead else "The rows that excite it most", className="dim")
    return html.Div(
        [
            html.Div(line, className="facts-line"),
            html.Div(chips, className="chips"),
            under,
            None if dead else html.Div(shown, className="top-rows"),
        ],
        className="unit",
        **{"data-unit": f"{layer.name}[{unit}]"},
    )


def _chips(title: str, layer: str, units: list[int]) -> list[Any]:
    more = [html.Span(f"and {len(units) - FEW} more", className="dim")] if len(units) > FEW else []
    buttons = [
        html.Button(str(k), type="button", className="chip", title=f"Show {layer}[{k}]", **states.go({"layer": layer, "unit": k}))
        for k in units[:FEW]
    ]
    return [html.Span(f"{title}:", className="dim"), *buttons, *more]


def _visualised(found: Visualisation) -> html.Div:
    figure = plots.plot_visualisation(found)
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 28, "b": 28}, height=300)
    most = f"; dotted: the highest of the background, {three(found.best_input)}" if np.isfinite(found.best_input) else ""
    words = f"Made to excite {found.unit}: activation {three(found.activation)}{most}. It need not look like anything the model meets."
    return html.Div([graph(figure, label=f"An image that excites {found.unit}"), html.P(words, className="dim")], className="visualised")
