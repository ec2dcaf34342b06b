"""One explanation: the method chosen, its picture, its verdict, and what it cost; in every state it can be in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import dcc, html

from dashboard import ids
from dashboard.components import badge, states
from dashboard.components.figures import explained
from explainer.explanation import Explanation
from explainer.methods import METHODS
from explainer.model import Capability
from explainer.plots.look import three


def frame(side: str, chosen: str, methods: Mapping[str, Capability]) -> html.Div:
    """The panel around an explanation: which method, and the place its answer fills."""
    picker = dmc.Select(
        id=ids.panel("method", side),
        data=options(methods),
        value=chosen,
        allowDeselect=False,
        size="xs",
        maxDropdownHeight=420,
        comboboxProps={"width": 330, "position": "bottom-start", "withinPortal": True},
        className="method-pick",
        **{"aria-label": f"Method {side.upper()}"},
    )
    return html.Div(
        [
            html.Div([html.Span(side.upper(), className="side"), picker], className="panel-head"),
            html.Div(id=ids.panel("body", side), className="panel-body"),
            dcc.Store(id=ids.panel("poll", side)),
            dcc.Store(id=ids.panel("tick", side)),
            dcc.Store(id=ids.panel("press", side)),
        ],
        className="panel",
    )


def options(methods: Mapping[str, Capability]) -> list[dict[str, Any]]:
    """The methods for a picker; those not valid on the model stand disabled, with the reason."""
    able = [{"value": m, "label": METHODS[m].title} for m, c in methods.items() if c.level != "unsupported"]
    unable = [
        {"value": m, "label": f"{METHODS[m].title}: {c.reason}", "disabled": True} for m, c in methods.items() if c.level == "unsupported"
    ]
    return [{"group": "valid on this model", "items": able}, *([{"group": "not available", "items": unable}] if unable else [])]


def content(ex: Explanation, side: str, channels: Sequence[str] = ()) -> html.Div:
    """Verdict first, then the picture, then the sum and the cost in small print."""
    name = f"figure-{side}"
    parts: list[Any] = [
        badge.verdict(ex.verdict),
        html.Div(explained(ex, channels, id={"type": "figure", "side": side}), className="panel-figure"),
    ]
    if ex.modality == "image":
        slider = dmc.Slider(id={"type": "opacity", "side": side}, min=0, max=100, value=75, size="xs", label=None, className="opacity")
        parts.append(html.Label([html.Span("opacity", className="dim"), slider], className="opacity-line"))
    if "rule" in ex.extras:
        parts.append(html.Div(rule(ex), className="panel-sum"))
    parts.append(html.Div(sums(ex), className="panel-sum"))
    parts.append(html.Div(cost(ex), className="panel-cost dim", title="\n".join(ex.provenance.notes)))
    return html.Div(parts, id=name, **{"data-method": ex.method, "data-score": f"{float(ex.scores.ravel()[0]):.6f}"})


def rule(ex: Explanation) -> list[Any]:
    """An anchor in words, and how often it holds."""
    low, high = np.ravel(ex.extras["precision interval"][0])
    return [
        "rule: ",
        html.Strong(str(ex.extras["rule"][0])),
        f", in {float(ex.extras['precision'][0]):.0%} of perturbed copies ({low:.0%} to {high:.0%}); "
        f"{float(ex.extras['coverage'][0]):.0%} of all copies fall under it",
    ]


def sums(ex: Explanation) -> list[Any]:
    """What is explained, and how the parts add up to it."""
    scale = "score" if ex.output == "raw" else ex.output
    score = three(float(ex.scores.ravel()[0]))
    target = html.Strong(ex.target[0])
    if ex.additive:
        return [f"{scale} of ", target, ": ", html.Strong(score), f", from {three(float(ex.base_values.ravel()[0]))} at the baseline"]
    return [f"{scale} of ", target, ": ", html.Strong(score), "; the values do not add up to it"]


def cost(ex: Explanation) -> str:
    made = ex.provenance
    runs = f"{made.evaluations:,} evaluations · " if made.evaluations else ""
    return f"{runs}{states.duration(made.seconds)} · seed {made.seed} · {made.device}"
