"""How a callback answers with a job: at once from the store, else with what is under way, to be asked again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dash import ctx, html
from dash.exceptions import PreventUpdate
from werkzeug.exceptions import BadRequest

from dashboard import edits
from dashboard.components import states
from dashboard.desk import Desk
from dashboard.exhibit import Exhibit
from dashboard.jobs import Task
from dashboard.predictions import Predictions
from dashboard.view import View
from explainer.errors import ExplainerError

WAIT = 0.25  # seconds: shorter work is answered in the same request, so that nothing flickers
DONE = None


def again() -> float:
    """The word that makes the browser ask again, a moment after it has shown this answer; never twice the same.

    Not an interval: on a busy machine it would ask anew before the answer to the last question was there, for ever.
    """
    return time.monotonic()


def answer(
    desk: Desk, task: Task, browser: Any, press_id: Any, press: Any, fill: Callable[[Any], Any], height: int = 220
) -> tuple[Any, Any]:
    """What to show for ``task``, and the word for the browser whether to ask again.

    ``press`` is what the buttons in the place wrote into the store ``press_id``: "stop" or "again".
    """
    watcher = watching(browser)
    pressed = press.get("value") if isinstance(press, dict) and press_id in ctx.triggered_prop_ids.values() else ""
    if pressed == "stop":
        desk.jobs.leave(task.key, watcher)
        return states.stopped(press_id), DONE
    job = desk.jobs.ask(task, watcher, wait=WAIT, again=pressed == "again")
    if job.state == "done":
        return fill(job.value), DONE
    if job.state == "failed":
        return states.failed(job.error, states.button("Try again", press_id)), DONE
    if job.state == "cancelled":
        return states.stopped(press_id), DONE
    return states.loading(job, press_id, height), again()


def watching(browser: Any) -> str:
    """The token of this tab. Raises BadRequest for what no page of ours sends."""
    if not isinstance(browser, str) or not 0 < len(browser) <= 64:
        raise BadRequest("The browser's token must be a short text.")
    return browser


def asked_for(desk: Desk, task: Task, browser: Any, press_id: Any, press: Any) -> bool:
    """Whether this browser wants ``task``: its button was just pressed, it waits for it already, or the answer is there."""
    if press_id in ctx.triggered_prop_ids.values() and isinstance(press, dict):
        return True
    return task.key in desk.store or desk.jobs.waits(task.key, watching(browser))


def question(desk: Desk, exhibit: Exhibit, view: View, inputs: Any, method: str, layer: str = "") -> Task:
    """The explanation that ``view`` asks for by ``method``, at ``layer`` where it looks at one."""
    target = int(view.target) if view.target else "predicted"
    return desk.explanation(exhibit, inputs, method, target, f"row {view.row}", layer, view.output or "auto", view.budget)


def here(desk: Desk, search: Any, shown: Any) -> tuple[Exhibit, View]:
    """The model and view of the address; nothing is updated while the page still shows another model."""
    view = View.parse(search)
    try:
        exhibit = desk.exhibit(view.model)
    except ExplainerError:
        raise PreventUpdate from None
    if exhibit.name != shown or not exhibit.loaded:
        raise PreventUpdate
    return exhibit, view


def change(exhibit: Exhibit, view: View, kept: Any) -> Any | None:
    """How the row was changed: as the address says, or as this browser keeps it where it is too long for one; None where it is not."""
    if view.edit:
        return edits.read(view.edit)
    mine = isinstance(kept, dict) and kept.get("model") == exhibit.name and kept.get("row") == view.row
    return kept if mine else None


def asked(desk: Desk, exhibit: Exhibit, view: View, kept: Any) -> tuple[Any, View]:
    """The input the page speaks of, the row or the row as it was changed, and the view of it. Raises InvalidInput for a bad change.

    What is explained of a changed row is the class predicted before the change: else a change that turns the prediction would turn
    every bar with it.
    """
    row = view.row or 0
    one, edit = exhibit.row(row), change(exhibit, view, kept)
    if edit is None:
        return one, view
    predictions = desk.predictions(exhibit)
    held = view.target or ("" if predictions.regression else str(int(predictions.predicted[row])))
    return edits.apply(edit, one, exhibit.face), replace(view, target=held)


def outside(exhibit: Exhibit, view: View, predictions: Predictions) -> Any | None:
    """What to show when the address names a row or class that is not there; None when all is well."""
    if not 0 <= (view.row or 0) < len(predictions):
        return states.notice(
            "No such row",
            f"{exhibit.name} has rows 0 to {len(predictions) - 1:,}; the address asks for {view.row:,}.",
            action=_back("Open the first", {"row": ""}),
        )
    if view.target and int(view.target) >= len(predictions.class_names):
        k = len(predictions.class_names)
        return states.notice(
            "No such class",
            f"{exhibit.name} has classes 0 to {k - 1}; the address asks for {view.target}.",
            action=_back("Explain the predicted class", {"target": ""}),
        )
    return None


def _back(words: str, changes: dict[str, Any]) -> html.Button:
    return html.Button(words, type="button", className="small-button", **states.go(changes))
