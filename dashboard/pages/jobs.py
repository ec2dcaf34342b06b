"""Jobs: what this browser asked for, how far it is, time left, stop."""

from __future__ import annotations

import time
from typing import Any

import dash
from dash import Input, Output, State, ctx, dcc, html

from dashboard import answers, ids
from dashboard.components import badge, states
from dashboard.desk import Desk
from dashboard.jobs import Job

STATUS = {"done": "pass", "failed": "fail", "cancelled": "not run", "running": "warn", "waiting": "not run"}


def layout(desk: Desk) -> html.Div:
    """A list that renews itself."""
    return html.Div(
        [
            html.H2("Jobs"),
            html.Div(id=ids.slot("body", "jobs")),
            dcc.Store(id=ids.slot("poll", "jobs")),
            dcc.Store(id=ids.slot("tick", "jobs")),
            dcc.Store(id="jobs-press"),
        ],
        className="jobs card card-wide",
    )


def register(app: dash.Dash, desk: Desk) -> None:
    """The list, and stopping what this browser asked for."""

    @app.callback(
        Output(ids.slot("body", "jobs"), "children"),
        Output(ids.slot("poll", "jobs"), "data"),
        Input(ids.slot("tick", "jobs"), "data"),
        Input("jobs-press", "data"),
        State(ids.BROWSER, "data"),
    )
    def show(tick: Any, press: Any, browser: Any) -> Any:
        watcher = answers.watching(browser)
        desk.jobs.touch(watcher)
        number = str(press.get("value", "")) if isinstance(press, dict) and "jobs-press" in ctx.triggered_prop_ids.values() else ""
        if number.isdigit():
            desk.jobs.leave_number(int(number), watcher)
        found = desk.jobs.of(watcher)
        others = desk.jobs.others(watcher)
        note = html.Div(f"{others} more for other people.", className="dim") if others else None
        if not found:
            return [
                states.notice(
                    "Nothing was computed for this tab yet",
                    "What is asked for on the other pages shows here while it runs.",
                    "Answers that are already in the store need no job.",
                ),
                note,
            ], answers.again()
        return [html.Div([_line(job) for job in found[:60]], className="job-list"), note], answers.again()


def _line(job: Job) -> html.Div:
    now = time.monotonic()
    words = {"waiting": "waiting", "running": f"running for {states.duration(job.seconds(now))}"}.get(
        job.state, f"{job.state} after {states.duration(job.seconds(now))}"
    )
    left = job.left(now)
    if left is not None:
        words += f" · {states.duration(left)} left"
    parts: list[Any] = [
        html.Div([badge.word(STATUS[job.state], job.state), html.Strong(job.task.title)], className="job-title"),
        html.Span(words, className="dim"),
    ]
    if job.active:
        parts.append(states.progress(job, "sm", "job-bar"))
        parts.append(states.button("Stop", "jobs-press", str(job.number), sign="stop"))
    if job.error is not None:
        parts.append(html.Div(str(job.error)[:300], className="bad"))
    return html.Div(parts, className="job")
