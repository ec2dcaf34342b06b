"""Data: what the checks found, as cards, failures first; each opens its figure, its code and the rows it speaks of."""

from __future__ import annotations

from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import answers, ids
from dashboard.components import badge, figures, record, states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer.checks.charts import Bars, chart
from explainer.checks.context import chance
from explainer.checks.finding import STATES, Finding, Findings
from explainer.plots.findings import plot_finding
from explainer.plots.look import three

SHOWN = 8
OPENED = 24  # rows shown where one finding has the page to itself
HEADS = {"fail": "Failed", "error": "Broke", "not run": "Could not run; these are no passes", "pass": "Passed"}
KINDS = (("json", "JSON"), ("html", "One page (HTML)"))
PLACE = ids.slot("press", "data")
EXPORT = "findings-press"


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """The place for the findings; the checks run as a job."""
    return html.Div(
        [
            dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name),
            html.Div(id=ids.slot("body", "data")),
            dcc.Store(id=ids.slot("poll", "data")),
            dcc.Store(id=ids.slot("tick", "data")),
            dcc.Store(id=PLACE),
            dcc.Store(id=EXPORT),
            dcc.Download(id="findings-download"),
        ],
        className="data",
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """The findings, what of them is shown, and their export."""
    app.clientside_callback(
        ClientsideFunction("explainer", "check"), Output("check-pick", "title"), Input("check-pick", "value"), prevent_initial_call=True
    )

    @app.callback(
        Output(ids.slot("body", "data"), "children"),
        Output(ids.slot("poll", "data"), "data"),
        Input(ids.URL, "search"),
        Input(ids.slot("tick", "data"), "data"),
        Input(PLACE, "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        predictions = desk.predictions(exhibit)
        return answers.answer(
            desk, desk.checking(exhibit), browser, PLACE, press, lambda found: _all(found, exhibit, predictions, view), height=320
        )

    @app.callback(
        Output("findings-download", "data"),
        Input(EXPORT, "data"),
        State(ids.URL, "search"),
        State(ids.PAGE_MODEL, "data"),
        prevent_initial_call=True,
    )
    def download(press: Any, search: Any, shown: Any) -> Any:
        exhibit, _ = answers.here(desk, search, shown)
        found = desk.store.get(desk.checking(exhibit).key)
        kind = press.get("value") if isinstance(press, dict) else None
        if found is None or kind not in dict(KINDS):
            raise PreventUpdate
        content = found.to_json() if kind == "json" else found.to_html(f"Data checks of {exhibit.name}")
        return {"filename": f"{exhibit.name}-findings.{kind}", "content": content, "type": "text/plain"}


def _all(found: Findings, exhibit: Exhibit, predictions: Predictions, view: View) -> html.Div:
    if not len(found):
        return states.notice("No checks", "There is no data check for this kind of input.")
    head = [_head(found, exhibit), _filters(found, view)]
    chosen = [f for f in found if f.check == view.check]
    if view.check and not chosen:
        back = html.Button("Show all checks", type="button", className="small-button", **states.go({"check": ""}))
        return html.Div([*head, states.notice("No such check", f"No check of these data is called {view.check!r}.", action=back)])
    if chosen:
        return html.Div([*head, _opened(chosen[0], exhibit, predictions)])
    sections = []
    for state in STATES:
        here = found.of(state) if view.state in ("", state) else ()
        if here:
            quiet = "" if state in ("fail", "error") else " findings-quiet"
            cards = html.Div([_card(f, exhibit, predictions) for f in here], className=f"cards findings{quiet}")
            sections.append(html.Section([html.H2(f"{HEADS[state]} ({len(here)})"), cards]))
    if not sections:
        sections = [states.notice("Nothing here", f"No check ended {view.state!r}.", action=_state_button("", "Show all", view))]
    return html.Div([*head, *sections])


def _head(found: Findings, exhibit: Exhibit) -> html.Div:
    against = " against its training set" if exhibit.train is not None else ""
    export = [states.button(label, EXPORT, kind, sign="download") for kind, label in KINDS]
    return html.Div([html.Strong(f"{found.rows:,} test rows checked{against}"), *export], className="findings-head")


def _filters(found: Findings, view: View) -> html.Div:
    """By state and by name; what is chosen stands in the address."""
    pressed = view.state if not view.check else ""
    buttons = [_state_button("", f"all {len(found)}", view, not pressed and not view.check)]
    buttons += [_state_button(s, [badge.sign(s), f"{n} {s}"], view, pressed == s) for s, n in found.counts.items() if n]
    names = sorted(f.check for f in found)
    picker = dmc.Select(
        id="check-pick",
        data=names,
        value=view.check if view.check in names else None,
        placeholder="One check, by name",
        searchable=True,
        clearable=True,
        size="xs",
        w=230,
        **{"aria-label": "One check, by name"},
    )
    return html.Div([*buttons, picker], className="chips")


def _state_button(state: str, words: Any, view: View, on: bool = False) -> html.Button:
    pressed = {"aria-pressed": "true" if on else "false"}
    return html.Button(words, type="button", className="small-button", **pressed, **states.go({"state": state, "check": ""}))


def _card(finding: Finding, exhibit: Exhibit, predictions: Predictions) -> html.Section:
    name = html.Button(finding.check.replace("_", " "), type="button", className="card-link", **states.go({"check": finding.check}))
    parts: list[Any] = [html.Div([badge.word(finding.state), html.H2(name)], className="finding-head"), html.P(_message(finding))]
    if finding.state != "pass":
        parts += [html.Div(_measured(finding), className="dim")] if finding.value is not None else []
        parts += [html.P([html.Span("Why it matters. ", className="lead"), finding.why])] if finding.why and finding.state == "fail" else []
        parts += [_advice(finding)] if finding.advice else []
    rows = _rows_of(finding, predictions)
    if rows:
        parts.append(html.Details([html.Summary(f"{_count(finding)}"), *_rows(finding, rows, exhibit, predictions)]))
    return html.Section(parts, className=f"card finding finding-{finding.state.replace(' ', '-')}")


def _opened(finding: Finding, exhibit: Exhibit, predictions: Predictions) -> html.Section:
    """One finding with the page to itself: figure, reasons, code, rows."""
    told: list[Any] = [html.P(_message(finding))]
    told += [html.Div(_measured(finding), className="dim")] if finding.value is not None else []
    if finding.state == "not run":
        told.append(html.P("This check could not judge these data. That is no pass: what it looks for may well be there."))
    told += [html.P([html.Span("Why it matters. ", className="lead"), finding.why])] if finding.why else []
    told += [_advice(finding)] if finding.advice else []
    told += [html.Pre(finding.code, className="code", tabIndex="0")] if finding.code else []
    drawn = [_figure(finding)] if _worth_drawing(finding) else []
    back = html.Button("All checks", type="button", className="small-button", **states.go({"check": ""}))
    head = html.Div([badge.word(finding.state), html.H2(finding.check), back], className="finding-head")
    rows = _rows_of(finding, predictions)
    below = [html.H3(_count(finding)), *_rows(finding, rows, exhibit, predictions, OPENED)] if rows else []
    return html.Section(
        [head, html.Div([html.Div(told), *drawn], className="finding-open"), *below],
        className=f"card finding finding-opened finding-{finding.state.replace(' ', '-')}",
    )


def _worth_drawing(finding: Finding) -> bool:
    """One bar with nothing to hold it against says no more than its number."""
    drawn = chart(finding)
    return drawn is not None and not (isinstance(drawn, Bars) and len(drawn.values) == 1 and not drawn.threshold)


def _figure(finding: Finding) -> Any:
    figure = plot_finding(finding)
    figure.update_layout(title=None, margin={"l": 4, "r": 12, "t": 22, "b": 40}, height=max(150, (figure.layout.height or 300) - 54))
    return figures.graph(figure, label=f"What the check {finding.check} found", className="finding-figure")


def _message(finding: Finding) -> str:
    return finding.message.removeprefix("Not run: ")


def _advice(finding: Finding) -> html.P:
    return html.P([html.Span("What to do. ", className="lead"), finding.advice])


def _measured(finding: Finding) -> str:
    """The value, its interval, what it is held against, and the p-value, as far as there are such."""
    parts = [three(finding.value)] if finding.value is not None else []
    parts += [f"95 % {three(finding.interval[0])} to {three(finding.interval[1])}"] if finding.interval else []
    parts += [f"threshold {three(finding.threshold)}"] if finding.threshold is not None else []
    parts += [chance(finding.p)] if finding.p is not None else []
    return " · ".join(parts)


def _count(finding: Finding) -> str:
    n = max(finding.count, len(finding.rows))
    return f"{n:,} row{'s' if n != 1 else ''}"


def _rows_of(finding: Finding, predictions: Predictions) -> list[int]:
    return [r for r in finding.rows if 0 <= r < len(predictions)]


def _rows(finding: Finding, rows: list[int], exhibit: Exhibit, predictions: Predictions, most: int = SHOWN) -> list[Any]:
    lines = [record.shown(r, exhibit, predictions, first=finding.columns) for r in rows[:most]]
    many = html.Button(
        f"Show {'them' if len(rows) <= most else f'all {len(rows):,}'} in Inspect",
        type="button",
        className="small-button",
        **states.go({"rows": finding.check, "cell": "", "row": rows[0]}, "/inspect"),
    )
    return [html.Div(lines, className="finding-rows"), many]
