"""Data: what the checks found, as cards, failures first; each opens the rows it speaks of."""

from __future__ import annotations

from typing import Any

import dash
from dash import Input, Output, State, dcc, html

from dashboard import answers, ids
from dashboard.components import badge, record, states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer.checks.finding import Finding, Findings
from explainer.plots.look import three

SHOWN = 8
WORDS = {"fail": "fail", "error": "error", "not run": "not run", "pass": "pass"}
PLACE = ids.slot("press", "data")


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """The place for the findings; the checks run as a job."""
    return html.Div(
        [
            dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name),
            html.Div(id=ids.slot("body", "data")),
            dcc.Store(id=ids.slot("poll", "data")),
            dcc.Store(id=ids.slot("tick", "data")),
            dcc.Store(id=PLACE),
        ],
        className="data",
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """The findings."""

    @app.callback(
        Output(ids.slot("body", "data"), "children"),
        Output(ids.slot("poll", "data"), "data"),
        Input(ids.ROUTE, "data"),
        Input(ids.slot("tick", "data"), "data"),
        Input(PLACE, "data"),
        State(ids.URL, "search"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(route: Any, tick: Any, press: Any, search: Any, browser: Any, shown: Any) -> Any:
        exhibit, _ = answers.here(desk, search, shown)
        predictions = desk.predictions(exhibit)
        return answers.answer(
            desk, desk.checking(exhibit), browser, PLACE, press, lambda found: _all(found, exhibit, predictions), height=320
        )


def _all(found: Findings, exhibit: Exhibit, predictions: Predictions) -> html.Div:
    if not len(found):
        return states.notice("No checks", "There is no data check for this kind of input.")
    counts = [badge.word(state, f"{n} {WORDS[state]}") for state, n in found.counts.items() if n]
    against = " against its training set" if exhibit.train is not None else ""
    head = html.Div([html.Strong(f"{found.rows:,} test rows checked{against}"), *counts], className="findings-head")
    loud = [_card(f, exhibit, predictions) for f in found if f.state in ("fail", "error")]
    quiet = [_card(f, exhibit, predictions) for f in found if f.state not in ("fail", "error")]
    return html.Div(
        [head, *([html.Div(loud, className="cards findings")] if loud else []), html.Div(quiet, className="cards findings findings-quiet")]
    )


def _card(finding: Finding, exhibit: Exhibit, predictions: Predictions) -> html.Section:
    parts: list[Any] = [
        html.Div([badge.word(finding.state), html.H2(finding.check.replace("_", " "))], className="finding-head"),
        html.P(finding.message),
    ]
    if finding.value is not None and finding.state != "pass":
        held = f" (threshold {three(finding.threshold)})" if finding.threshold is not None else ""
        parts.append(html.Div(f"{three(finding.value)}{held}", className="dim"))
    if finding.state in ("fail", "error", "not run"):
        parts += [html.P([html.Span("Why it matters. ", className="lead"), finding.why])] if finding.why and finding.state == "fail" else []
        parts += [html.P([html.Span("What to do. ", className="lead"), finding.advice])] if finding.advice else []
    rows = [r for r in finding.rows if 0 <= r < len(predictions)]
    if rows:
        parts.append(html.Details([html.Summary(f"{_count(finding)}"), *_rows(finding, rows, exhibit, predictions)]))
    return html.Section(parts, className=f"card finding finding-{finding.state.replace(' ', '-')}")


def _count(finding: Finding) -> str:
    n = max(finding.count, len(finding.rows))
    return f"{n:,} row{'s' if n != 1 else ''}"


def _rows(finding: Finding, rows: list[int], exhibit: Exhibit, predictions: Predictions) -> list[Any]:
    lines = [record.shown(r, exhibit, predictions) for r in rows[:SHOWN]]
    many = html.Button(
        f"Show {'them' if len(rows) <= SHOWN else f'all {len(rows):,}'} in Inspect",
        type="button",
        className="small-button",
        **states.go({"rows": finding.check, "cell": "", "row": rows[0]}, "/inspect"),
    )
    return [html.Div(lines, className="finding-rows"), many]
