"""One input through the layers of a network: what it would say after each, where it parts from another input, and a unit taken out."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, html

from dashboard import answers, ids
from dashboard.components import badge, states
from dashboard.components.figures import graph
from dashboard.components.panel import LEVELS
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from explainer import plots
from explainer.inspection.ablation import Ablation
from explainer.inspection.lens import LogitLens
from explainer.inspection.patching import Patching
from explainer.model import Capability
from explainer.plots.look import three


def card(desk: Desk, exhibit: Exhibit) -> html.Section:
    """Two rows to choose, and under them the lens and the patching, each with what it is on this model before it runs."""
    most = len(exhibit.inputs) - 1
    numbers = [
        dmc.NumberInput(id=f"inside-{which}", label=label, min=0, max=most, allowDecimal=False, size="xs", w=110, debounce=350)
        for which, label in (("row", "row"), ("other", "other row"))
    ]
    able = desk.views(exhibit)
    parts: list[Any] = [html.H2("One input, layer by layer"), html.Div(numbers, className="tools unit-tools")]
    for name, title in (("lens", "What it would say after each layer"), ("patch", "Where the two rows part")):
        parts += [html.H3(title), told(able[name]), *states.slot(name)]
    return html.Section(parts, className="card card-wide")


def register(app: dash.Dash, desk: Desk, place: Any) -> None:
    """The fields follow the address; the work is done when it is asked for."""
    pick = ClientsideFunction("explainer", "pair")
    app.clientside_callback(
        pick, Output("inside-row", "title"), Input("inside-row", "value"), Input("inside-other", "value"), prevent_initial_call=True
    )

    @place("lens", Input(ids.URL, "search"), Output("inside-row", "value"))
    def lens(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        row = field = view.row or 0
        gone = answers.outside(exhibit, view, desk.predictions(exhibit))
        if gone is not None or desk.views(exhibit)["lens"].level == "unsupported":
            return gone or "", answers.DONE, field
        task, where = desk.lens(exhibit, row), ids.slot("press", "lens")
        if not answers.asked_for(desk, task, browser, where, press):
            return states.button(f"Read row {row} after each layer", where, sign="go"), answers.DONE, field
        return *answers.answer(desk, task, browser, where, press, read, height=300), field

    @place("patch", Input(ids.URL, "search"), Output("inside-other", "value"), Output("inside-other", "placeholder"))
    def patch(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        view = desk.filled(view, exhibit)
        row, last = view.row or 0, len(exhibit.inputs) - 1
        written = "" if view.other is None else view.other
        gone = answers.outside(exhibit, view, desk.predictions(exhibit)) is not None
        if gone or desk.views(exhibit)["patch"].level == "unsupported":
            return "", answers.DONE, written, ""
        other = view.other if view.other is not None else desk.partner(exhibit, row)
        field = written, "" if other is None else f"{other}"  # one found for the person is shown, not written into the address
        if other is None or other > last:
            why = (
                f"Rows are numbered 0 to {last}."
                if other is not None
                else "No row near it is as long once encoded, and positions are matched by their number."
            )
            return states.notice("No other row", why, "Choose one above."), answers.DONE, *field
        task, where = desk.patching(exhibit, row, other), ids.slot("press", "patch")
        if not answers.asked_for(desk, task, browser, where, press):
            return states.button(f"Patch row {row} into row {other}", where, sign="go"), answers.DONE, *field
        return *answers.answer(desk, task, browser, where, press, lambda found: patched(found, row, other), height=300), *field


def told(found: Capability) -> html.Div:
    """What a view is on this model, said before it runs."""
    return html.Div([badge.level(LEVELS[found.level], found.level), f" {found.reason}"], className="able-why")


def read(found: LogitLens) -> html.Div:
    """The answer after each layer."""
    words = f"The highest score stays what it is from {found.layers[int(found.settled[0])]} on ({found.output}). Hover for the figures."
    return _drawn(plots.plot_lens(found), words, "What it would say after each layer")


def patched(found: Patching, row: int, other: int) -> html.Div:
    """The share of the difference that comes back, by layer and position."""
    words = (
        f"The {found.output} of {found.target} is {three(found.clean)} on row {row} and {three(found.corrupt)} on row {other}. Of that "
        "difference, the share that comes back when the row's state stands at one place in the other's pass: 1 is all of it."
    )
    if (abs(found.whole - 1) < 1e-3).all() and not any(one is not None and one.ndim == 1 for one in found.values):
        words += " Here every layer carries all of it, as in every chain of layers."
    return _drawn(plots.plot_patching(found), words, "Share restored by layer and position")


def ablated(found: Ablation) -> html.Div:
    """The change of every score without one unit."""
    flipped = "" if found.flipped[0] != found.flipped[0] else f" The predicted class changes in {found.flipped[0]:.0%} of them."
    words = f"Mean change of the {found.output} over {found.changes.shape[1]} rows with the unit held at zero (95 % intervals).{flipped}"
    return _drawn(plots.plot_ablation(found), words, f"Scores without {found.names[0]}")


def _drawn(figure: Any, words: str, label: str) -> html.Div:
    figure.update_layout(title=None, margin={"l": 8, "r": 8, "t": 8, "b": 28}, height=figure.layout.height - 60)
    return html.Div([html.P(words, className="dim"), html.Div(graph(figure, label=label, className="layers-figure"), className="scroll")])
