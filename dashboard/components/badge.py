"""The verdict: a coloured word and a symbol, never colour alone; one sentence; the numbers on hover."""

from __future__ import annotations

import dash_mantine_components as dmc
from dash import html

from explainer.explanation import Check, Status, Verdict
from explainer.plots.look import SYMBOLS, three

LEVEL_SIGNS = {"exact": "=", "approximate": "≈", "unsupported": "○"}


def level(status: str, text: str) -> html.Span:
    """How a method stands on a model: exact, approximate, unsupported."""
    return html.Span([html.Span(LEVEL_SIGNS[text], className="badge-sign"), text], className=f"badge badge-{status}")


def word(status: str, text: str | None = None) -> html.Span:
    """The status as a coloured word with its symbol."""
    return html.Span(
        [html.Span(SYMBOLS.get(status, "○"), className="badge-sign"), text or status], className=f"badge badge-{status.replace(' ', '-')}"
    )


def sign(status: str) -> html.Span:
    """The symbol of a status alone, for where the word stands beside it."""
    return html.Span(SYMBOLS.get(status, "○"), className=f"sign sign-{status.replace(' ', '-')}", **{"aria-hidden": "true"})


def verdict(found: Verdict) -> html.Div:
    """The badge and its sentence; hovering or focusing it tells every check with value and threshold."""
    target = html.Button([word(found.status), html.Span(found.reason, className="verdict-reason")], className="verdict", type="button")
    rows = [_line(check) for check in found.checks.values()] or [html.Div("No check was made.", className="dim")]
    return dmc.HoverCard(
        [dmc.HoverCardTarget(target), dmc.HoverCardDropdown(html.Div(rows, className="checks"))],
        width=360,
        withArrow=True,
        shadow="md",
        position="bottom-start",
        openDelay=100,
    )


def _line(check: Check) -> html.Div:
    numbers = ""
    if check.value is not None:
        numbers = three(check.value) + (f" (threshold {three(check.threshold)})" if check.threshold is not None else "")
    status: Status = check.status
    head = html.Div([word(status), html.Strong(check.name.replace("_", " ")), html.Span(numbers, className="dim")], className="check-head")
    return html.Div([head, html.Div(check.reason, className="check-why")], className="check")
