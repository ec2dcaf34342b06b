"""The Dash application: made by a call, never by an import; which page is shown, and the parts that all pages share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dash
from dash import ALL, MATCH, ClientsideFunction, Input, Output, State, html
from dash.exceptions import PreventUpdate
from werkzeug.exceptions import HTTPException

from dashboard import answers, ids, security
from dashboard.components import shell, states
from dashboard.components.probabilities import percent
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.pages import compare, data, inspect, jobs, model, overall, report
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer.errors import ExplainerError

log = logging.getLogger(__name__)
_PAGES: dict[str, Any] = {
    "/inspect": inspect, "/model": model, "/compare": compare, "/global": overall, "/data": data, "/report": report, "/jobs": jobs,
}  # fmt: skip


def create_app(specimens: Sequence[Any], *, host: str = "127.0.0.1", password: str | None = None, desk: Desk | None = None) -> dash.Dash:
    """The dashboard for ``specimens`` (zoo names, Models, or objects with ``.model`` and ``.data``), ready to be served.

    ``host`` is where it will be served: on anything but loopback a ``password`` is demanded. Raises InvalidInput, UnknownName.
    """
    served = desk or Desk(specimens)
    app = dash.Dash(
        "dashboard",
        title="Explainer",
        update_title=None,  # type: ignore[arg-type]
        assets_folder=str(Path(__file__).parent / "assets"),
        pages_folder="",
        use_pages=False,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        enable_mcp=False,
        on_error=_failed,
        meta_tags=[
            {"name": "viewport", "content": "width=device-width, initial-scale=1"},
            {"name": "color-scheme", "content": "light dark"},
        ],
    )
    app.desk = served  # type: ignore[attr-defined]
    app.layout = lambda: shell.layout(served.names, served.lacking)
    _frame(app, served)
    for page in _PAGES.values():
        page.register(app, served)
    security.guard(app, host=host, password=password)
    return app


def _failed(error: Exception) -> Any:
    """Errors inside our callbacks are ours: told apart from requests that Dash cannot read."""
    if isinstance(error, HTTPException):
        raise error
    log.error("a callback failed", exc_info=error)
    raise security.CallbackFailed(f"{type(error).__name__}: {error}") from error


def _frame(app: dash.Dash, desk: Desk) -> None:
    def client(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("explainer", name), *arguments, **options)

    nav = {"type": "nav", "page": ALL}
    client(
        "poll",
        Output(ids.panel("poll", MATCH), "storage_type"),
        Input(ids.panel("poll", MATCH), "data"),
        State(ids.panel("poll", MATCH), "id"),
    )
    client(
        "poll",
        Output(ids.slot("poll", MATCH), "storage_type"),
        Input(ids.slot("poll", MATCH), "data"),
        State(ids.slot("poll", MATCH), "id"),
    )
    address = (Input(ids.URL, "pathname"), Input(ids.URL, "search"))
    client("route", Output(ids.ROUTE, "data"), Output(ids.BROWSER, "data"), *address, State(ids.ROUTE, "data"))
    client("defaults", Output("sink", "title"), Input(ids.DEFAULTS, "data"))
    client("links", Output(nav, "href"), Input(ids.URL, "search"), Input(ids.DEFAULTS, "data"), State(nav, "id"))
    client("active", Output(nav, "active"), Input(ids.URL, "pathname"), State(nav, "id"))
    client("model", Output("sink", "lang"), Input("model-pick", "value"), prevent_initial_call=True)
    client("burger", Output("shell", "navbar"), Input("burger", "opened"), State("shell", "navbar"))
    client("close", Output("burger", "opened"), Input(ids.URL, "pathname"), prevent_initial_call=True)

    @app.callback(
        Output(ids.PAGE, "children"),
        Output(ids.slot("poll", "page"), "data"),
        Output("stats", "children"),
        Output("model-pick", "value"),
        Output(ids.DEFAULTS, "data"),
        Input(ids.ROUTE, "data"),
        Input(ids.slot("tick", "page"), "data"),
        Input(ids.slot("press", "page"), "data"),
        State(ids.URL, "search"),
        State(ids.BROWSER, "data"),
    )
    def show(route: Any, tick: Any, press: Any, search: Any, browser: Any) -> Any:
        if route is None:
            raise PreventUpdate
        view = View.parse(search)
        page = _PAGES.get(str(route.get("page")) if isinstance(route, dict) else "")
        try:
            exhibit = desk.exhibit(view.model)
        except ExplainerError as error:
            missing = states.notice("No such model here", str(error), _links(desk), tone="bad", sign="warn")
            return missing, answers.DONE, "", None, {}
        if page is None:
            there = html.A("Inspect", href="/inspect", className="link")
            return states.notice("No such page", "Nothing is at this address.", ["Go to ", there, "."]), answers.DONE, "", exhibit.name, {}
        if page is jobs:
            return jobs.layout(desk), answers.DONE, dash.no_update, exhibit.name, dash.no_update

        def fill(predictions: Predictions) -> Any:
            filled = desk.filled(view, exhibit)
            order = predictions.ordered(view).tolist()
            defaults = {"model": exhibit.name, "row": filled.row, "a": filled.a, "b": filled.b, "rows": order}
            return page.layout(desk, exhibit, filled), stats(exhibit, predictions), exhibit.name, defaults

        shown, done = answers.answer(desk, desk.scoring(exhibit), browser, ids.slot("press", "page"), press, fill, height=420)
        if isinstance(shown, tuple):
            content, numbers, name, defaults = shown
            return content, answers.DONE, numbers, name, defaults
        return html.Div(shown, className="page-wait"), done, "", exhibit.name, {}


def _links(desk: Desk) -> list[Any]:
    parts: list[Any] = ["There are: "]
    for name in desk.names:
        parts += [html.Button(name, type="button", className="chip", **states.go({"model": name})), " "]
    return parts


def stats(exhibit: Exhibit, predictions: Predictions) -> list[Any]:
    """The size of the test set and how often the model is right on it, with the interval."""
    n = len(predictions)
    parts: list[Any] = [html.Span(f"test set {n:,} rows" if predictions.labels is not None else f"{n:,} rows, no labels", className="stat")]
    found = predictions.accuracy
    if found is not None:
        value, low, high = _recorded(exhibit, found)
        parts.append(
            html.Span(
                [f"accuracy {percent(value)} ", html.Span(f"[{percent(low)}, {percent(high)}]", className="dim")],
                className="stat",
                title="95 % interval",
            )
        )
    elif predictions.regression and predictions.labels is not None:
        from explainer.plots.look import three

        parts.append(html.Span(f"mean error {three(float(predictions.confidence.mean()))}", className="stat"))
    return parts


def _recorded(exhibit: Exhibit, found: tuple[float, float, float]) -> tuple[float, float, float]:
    """The interval of the training record where it speaks of this very figure, so that card and header agree."""
    metric = exhibit.record.get("metrics", {}).get("accuracy", {})
    if isinstance(metric, dict) and {"value", "low", "high"} <= set(metric) and abs(metric["value"] - found[0]) < 5e-4:
        return float(metric["value"]), float(metric["low"]), float(metric["high"])
    return found
