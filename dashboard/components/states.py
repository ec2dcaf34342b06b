"""The states a place can be in besides full: loading, failed, stopped, empty, not available. Each says why and what to do."""

from __future__ import annotations

import json
import time
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard import ids
from dashboard.jobs import Job
from explainer.errors import ExplainerError


def icon(name: str) -> html.Span:
    """A small drawn sign in the colour of the text around it; decoration only."""
    return html.Span(className=f"icon icon-{name}", **{"aria-hidden": "true"})


def slot(name: str) -> list[Any]:
    """A place that a job's answer fills, with the stores it is asked for through."""
    return [html.Div(id=ids.slot("body", name)), *(dcc.Store(id=ids.slot(part, name)) for part in ("poll", "tick", "press"))]


def go(changes: dict[str, Any], page: str | None = None) -> dict[str, str]:
    """Attributes that make an element change the address when it is pressed."""
    attributes = {"data-go": json.dumps(changes)}
    return attributes | ({"data-page": page} if page else {})


def press(target: Any, value: str = "") -> dict[str, str]:
    """Attributes that make an element write ``value`` into the store ``target`` when it is pressed."""
    return {"data-press": json.dumps(target, separators=(",", ":")) if isinstance(target, dict) else target, "data-value": value}


def notice(title: str, why: str, do: Any = None, *, tone: str = "quiet", sign: str = "info", action: Any = None) -> html.Div:
    """What it is, why, and what to do."""
    lines = [html.Div([icon(sign), html.Strong(title)], className="notice-title"), html.Div(why, className="notice-why")]
    if do:
        lines.append(html.Div(do, className="notice-do"))
    if action is not None:
        lines.append(html.Div(action, className="notice-action"))
    return html.Div(lines, className=f"notice notice-{tone}", role="status")


def failed(error: Exception | None, again: Any = None) -> html.Div:
    """An error a person can read. What is not of our own making is named, its details are in the server's log."""
    if isinstance(error, ExplainerError):
        return notice("This could not be computed", str(error), tone="bad", sign="warn", action=again)
    kind = type(error).__name__ if error is not None else "unknown error"
    return notice(
        "Something went wrong", f"{kind}: {str(error)[:300]}", "The server's log has the details.", tone="bad", sign="warn", action=again
    )


def loading(job: Job, stop: Any, height: int = 220) -> html.Div:
    """A skeleton at first; after a second a progress bar with the time left and a way to stop."""
    now = time.monotonic()
    seconds = now - job.asked if job.asked else 0.0
    if seconds < 1.0:
        return html.Div(dmc.Skeleton(height=height, radius="sm"), className="loading", **{"aria-busy": "true"})
    if job.state == "waiting":
        words = "waiting for other work to end"
    else:
        left = job.left(now)
        words = (
            f"{job.done:,} of {job.total:,} · {duration(left)} left" if left is not None else f"working for {duration(job.seconds(now))}"
        )
    button = html.Button([icon("stop"), "Stop"], className="small-button", type="button", **press(stop, "stop"))
    return html.Div(
        [
            html.Div(job.task.title, className="loading-title"),
            progress(job, "md"),
            html.Div([html.Span(words, className="dim"), button], className="spread"),
        ],
        className="loading loading-long",
        style={"minHeight": height},
        **{"aria-busy": "true"},
    )


def progress(job: Job, size: str, className: str = "") -> dmc.Progress:
    """How far a job is; while that cannot be told, a piece that wanders."""
    known = job.total > 0
    words = job.task.title if known else f"{job.task.title}, how far is not known"
    return dmc.Progress(
        value=100 * job.done / job.total if known else 30, striped=True, animated=True, size=size,
        className=f"{className} {'' if known else 'wandering'}", **{"aria-label": words},
    )  # fmt: skip


def stopped(again: Any) -> html.Div:
    return notice("Stopped", "You stopped this before it was done.", action=button("Run again", again))


def button(words: str, target: Any, value: str = "again", sign: str = "again") -> html.Button:
    return html.Button([icon(sign), words], className="small-button", type="button", **press(target, value))


def duration(seconds: float) -> str:
    """Seconds as people say them: 0.4 s, 12 s, 3 min, 1 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
