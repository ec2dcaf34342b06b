"""The ids of components that more than one file speaks of."""

from __future__ import annotations

URL = "url"
ROUTE = "route"
PAGE = "page"
PAGE_MODEL = "page-model"
DEFAULTS = "defaults"
BROWSER = "browser"
EDIT = "edit"
GRID = "grid"


def panel(part: str, side: object) -> dict[str, object]:
    """The id of one part of the explanation panel ``side`` ("a", "b", or a pattern)."""
    return {"type": f"panel-{part}", "side": side}


def slot(part: str, name: object) -> dict[str, object]:
    """The id of one part of a slot: a place that a job's answer fills."""
    return {"type": f"slot-{part}", "name": name}
