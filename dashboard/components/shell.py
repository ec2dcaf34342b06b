"""The frame around every page: a slim header, navigation that folds away on a phone, and the stores of this browser."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html

from dashboard import ids
from dashboard.components.states import icon

PAGES = (
    ("/model", "Model", "model"),
    ("/inspect", "Inspect", "inspect"),
    ("/compare", "Compare", "compare"),
    ("/global", "Global", "global"),
    ("/data", "Data", "data"),
    ("/report", "Report", "report"),
    ("/jobs", "Jobs", "jobs"),
)
ACCENT = "blue"


def layout(names: list[str], lacking: dict[str, str]) -> Any:
    """The whole page. The token of this tab, which outlasts a reload, says whose waiting ends when it stops asking."""
    stores = [
        dcc.Location(id=ids.URL, refresh="callback-nav"),
        dcc.Store(id=ids.ROUTE),
        dcc.Store(id=ids.DEFAULTS),
        dcc.Store(id=ids.EDIT),
        dcc.Store(id=ids.BROWSER),
        dcc.Store(id=ids.slot("press", "page")),
        dcc.Store(id=ids.slot("poll", "page")),
        dcc.Store(id=ids.slot("tick", "page")),
        html.Div(id="sink", hidden=True),
    ]
    main = dmc.AppShellMain(html.Div(id=ids.PAGE, tabIndex="-1"))
    skip = html.A("Skip to the page", href=f"#{ids.PAGE}", className="skip")
    shell = dmc.AppShell(
        [dmc.AppShellHeader(_header(names, lacking)), dmc.AppShellNavbar(_links(), p=6), main],
        id="shell",
        header={"height": 48},
        navbar={"width": 128, "breakpoint": "sm", "collapsed": {"mobile": True}},
        padding=10,
    )
    theme = {"primaryColor": ACCENT, "defaultRadius": "sm", "fontFamily": "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"}
    return dmc.MantineProvider([*stores, skip, shell], theme=theme, defaultColorScheme="auto")


def _header(names: list[str], lacking: dict[str, str]) -> html.Div:
    picker = dmc.Select(
        id="model-pick",
        data=_choices(names, lacking),
        allowDeselect=False,
        size="xs",
        className="model-pick",
        searchable=len(names) > 8,
        comboboxProps={"withinPortal": True, "width": 320, "position": "bottom-start"},
    )
    toggle = dmc.ColorSchemeToggle(lightIcon=icon("sun"), darkIcon=icon("moon"), variant="default", size="md", id="theme")
    return html.Div(
        [
            dmc.Burger(id="burger", size="sm", hiddenFrom="sm", opened=False),
            html.A("Explainer", href="/inspect", className="brand"),
            picker,
            html.Div(id="stats", className="stats"),
            html.Span(toggle, title="Light or dark", className="theme-toggle"),
        ],
        className="header",
    )


def _choices(names: list[str], lacking: dict[str, str]) -> list[Any]:
    """The models; those that cannot be opened here stand greyed below the sentence that says why."""
    greyed = [{"group": why, "items": [{"value": name, "label": name, "disabled": True}]} for name, why in lacking.items()]
    return [*(name for name in names if name not in lacking), *greyed]


def _links() -> list[Any]:
    return [
        dmc.NavLink(id={"type": "nav", "page": path}, label=label, href=path, leftSection=icon(sign), className="nav-link", py=7, px=8)
        for path, label, sign in PAGES
    ]
