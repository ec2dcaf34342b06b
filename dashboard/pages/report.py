"""Report: for whom, what will be assessed and what not, progress, download."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Input, Output, State, dcc, html
from dash.exceptions import PreventUpdate

from dashboard import answers, ids
from dashboard.components import badge, states
from dashboard.desk import Desk, Written
from dashboard.exhibit import Exhibit
from dashboard.view import View
from explainer.reports import profiles

PLACE = ids.slot("press", "report")
KINDS = (("zip", "Everything (zip)"), ("html", "HTML"), ("pdf", "PDF"), ("json", "JSON"))


def layout(desk: Desk, exhibit: Exhibit, view: View) -> html.Div:
    """The choice of profile and what follows from it; the report itself is a job that is started by hand."""
    name = chosen(view)
    profile = profiles.profile(name)
    options = [{"value": n, "label": profiles.profile(n)["title"]} for n in profiles.names()]
    picker = dmc.Select(id="profile", label="Written for", data=options, value=name, size="sm", w=240, allowDeselect=False)
    made = html.Section(
        [
            html.H2(f"Report on {exhibit.name}"),
            html.Div([picker, _favourable(exhibit, view)], className="tools"),
            html.Div(id=ids.slot("body", "report"), className="report-place"),
            dcc.Store(id=ids.slot("poll", "report")),
            dcc.Store(id=ids.slot("tick", "report")),
            dcc.Store(id=PLACE),
            dcc.Download(id="download"),
            dcc.Store(id="download-press"),
            dcc.Store(id=ids.PAGE_MODEL, data=exhibit.name),
        ],
        className="card",
    )
    return html.Div([made, _scope(exhibit), _requirements(profile)], className="columns")


def chosen(view: View) -> str:
    """The profile of the address, if there is such a one; else the general one."""
    return view.profile if view.profile in profiles.names() else "general"


def good(exhibit: Exhibit, view: View) -> str:
    """The favourable class of the address, if the model has such a one."""
    return view.favourable if exhibit.face.task != "regression" and view.favourable in exhibit.face.class_names else ""


def _favourable(exhibit: Exhibit, view: View) -> Any:
    """Which class is good for the person: rates by group are of that outcome."""
    if exhibit.face.task == "regression":
        return None
    classes = [{"value": name, "label": name} for name in exhibit.face.class_names]
    return dmc.Select(
        id="favourable", label="Favourable outcome", data=[{"value": "", "label": "not named"}, *classes], value=good(exhibit, view),
        size="sm", w=240, allowDeselect=False, searchable=len(classes) > 8,
    )  # fmt: skip


def register(app: dash.Dash, desk: Desk) -> None:
    """The job, and the download of what it wrote."""
    for name in ("profile", "favourable"):
        app.clientside_callback(
            ClientsideFunction("explainer", name), Output(name, "title"), Input(name, "value"), prevent_initial_call=True
        )

    @app.callback(
        Output(ids.slot("body", "report"), "children"),
        Output(ids.slot("poll", "report"), "data"),
        Input(ids.URL, "search"),
        Input(ids.slot("tick", "report"), "data"),
        Input(PLACE, "data"),
        State(ids.BROWSER, "data"),
        State(ids.PAGE_MODEL, "data"),
    )
    def show(search: Any, tick: Any, press: Any, browser: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        task = desk.report(exhibit, chosen(view), good(exhibit, view))
        if not answers.asked_for(desk, task, browser, PLACE, press):
            return html.Div(
                [
                    html.P("It takes a minute or two and goes on while you look at other pages."),
                    states.button("Write the report", PLACE, sign="go"),
                ]
            ), answers.DONE
        return answers.answer(desk, task, browser, PLACE, press, _written, height=120)

    @app.callback(
        Output("download", "data"),
        Input("download-press", "data"),
        State(ids.URL, "search"),
        State(ids.PAGE_MODEL, "data"),
        prevent_initial_call=True,
    )
    def download(press: Any, search: Any, shown: Any) -> Any:
        exhibit, view = answers.here(desk, search, shown)
        written = desk.store.get(desk.report(exhibit, chosen(view), good(exhibit, view)).key)
        kind = press.get("value") if isinstance(press, dict) else None
        if written is None or kind not in written.files:
            raise PreventUpdate
        name = f"{exhibit.name}-{chosen(view)}-report.{kind}"
        return {
            "filename": name,
            "content": base64.b64encode(written.files[kind]).decode(),
            "base64": True,
            "type": "application/octet-stream",
        }


def _written(written: Written) -> html.Div:
    buttons = [states.button(label, "download-press", kind, sign="download") for kind, label in KINDS if kind in written.files]
    lines: list[Any] = [
        html.Div([badge.word(written.status)], className="findings-head"),
        html.Div(buttons, className="chips"),
        _listed("fail", "failed", written.failed, open=True),
        _listed("not run", "not assessed", written.not_assessed, open=False),
        html.Div(["manifest sha256, keep it elsewhere ", html.Code(written.sha256)], className="dim wrap"),
        html.P(
            ["Check it later, offline: unpack the zip and run ", html.Code("explainer verify FOLDER --expect SHA256"), "."], className="dim"
        ),
    ]
    return html.Div(lines)


def _listed(status: str, word: str, items: Sequence[tuple[str, str]], open: bool) -> Any:
    """What ended in one way, each with its words."""
    lines = [html.P([html.Strong(f"{topic}. "), why]) for topic, why in items]
    return html.Details([html.Summary([badge.sign(status), f" {len(items)} {word}"]), *lines], open=open and bool(items))


def _scope(exhibit: Exhibit) -> html.Section:
    """What will be in the report and what will not, and why."""
    labels, groups, train = exhibit.labels is not None, exhibit.groups is not None, exhibit.train is not None
    rows = [
        ("Identity and hashes", True, "model, data, versions"),
        ("Data and its checks", True, "against the training set" if train else "without a training set: no drift, no overlap"),
        ("Performance and calibration", labels, "with intervals" if labels else "the data has no true labels"),
        (
            "Figures per protected group",
            groups,
            f"{_named(exhibit)}; judged only where the favourable outcome is named"
            if groups
            else "no protected attributes came with the data",
        ),
        ("What drives the model overall", True, "over a sample of rows"),
        ("Explained cases with verdicts", True, "three, chosen by rule"),
        ("Model card and training record", bool(exhibit.card), "as supplied" if exhibit.card else "none came with the model"),
    ]
    lines = [
        html.Div(
            [
                badge.word("pass" if yes else "not run", "assessed" if yes else "not assessed"),
                html.Span([html.Strong(title), html.Span(f" · {why}", className="dim")]),
            ],
            className="scope",
        )
        for title, yes, why in rows
    ]
    from explainer.reports.evidence import NEVER

    never = html.Details([html.Summary("What no report here assesses"), *[html.P([html.Strong(f"{t}. "), w]) for t, w in NEVER]])
    return html.Section([html.H2("What will be assessed"), *lines, never], className="card")


def _named(exhibit: Exhibit) -> str:
    return ", ".join(str(c) for c in exhibit.groups.columns) if exhibit.groups is not None else ""


def _requirements(profile: dict[str, Any]) -> html.Section:
    """What the profile asks to see, requirement by requirement, and what stays open."""
    parts: list[Any] = [html.H2(f"What {profile['title']} asks for")]
    if not profile.get("verified"):
        parts.append(
            html.P("Written from secondary reading; no lawyer has checked it. Evidence, not a verdict on compliance.", className="dim")
        )
    for pack in profile["packs"].values():
        lines = []
        for requirement in pack["requirements"]:
            have = bool(requirement["evidence"])
            state = (
                badge.word("not run", "not assessed")
                if not have
                else badge.word("warn", "partly")
                if requirement["gap"]
                else badge.word("pass", "evidence")
            )
            lines.append(
                html.Div(
                    [
                        state,
                        html.Div(
                            [
                                html.Strong(requirement["paragraph"]),
                                html.Div(requirement["text"]),
                                html.Div(requirement["gap"], className="dim"),
                            ]
                        ),
                    ],
                    className="scope",
                )
            )
        parts.append(html.Details([html.Summary(pack["instrument"]), *lines]))
    return html.Section(parts, className="card")
