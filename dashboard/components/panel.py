"""One explanation: the method chosen, its picture, its verdict, and what it cost; in every state it can be in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import dcc, html

from dashboard import ids
from dashboard.components import badge, states
from dashboard.components.figures import explained, pictured
from explainer.explanation import Explanation
from explainer.methods import METHODS, grouped
from explainer.model import Capability
from explainer.plots.look import three

LEVELS = {"exact": "pass", "approximate": "warn", "unsupported": "none"}

MORE, MOST = 4, 500_000  # times as many evaluations at one press, and up to how many
DEFAULT = "(default)"  # no layer's name: the choice that the method makes itself


def frame(side: str, chosen: str, methods: Mapping[str, Capability]) -> html.Div:
    """The panel around an explanation: which method, what it is on this model, and the place its answer fills."""
    picker = dmc.Select(
        id=ids.panel("method", side),
        data=options(methods),
        value=chosen,
        allowDeselect=False,
        size="xs",
        maxDropdownHeight=440,
        renderOption={"function": "method"},
        comboboxProps={"width": "min(430px, 92vw)", "position": "bottom-start", "withinPortal": True},
        className="method-pick",
        **{"aria-label": f"Method {side.upper()}"},
    )
    layer = dmc.Select(
        id=ids.panel("layer", side),
        data=[],
        allowDeselect=False,
        size="xs",
        maxDropdownHeight=360,
        comboboxProps={"width": "max-content", "position": "bottom-start", "withinPortal": True},
        className="layer-pick",
        **{"aria-label": f"Layer of method {side.upper()}"},
    )
    return html.Div(
        [
            html.Div([html.Span(side.upper(), className="side"), picker], className="panel-head"),
            html.Div([html.Span("at layer", className="dim"), layer], id=ids.panel("at", side), className="panel-at", hidden=True),
            html.Div(able(chosen, methods.get(chosen)), id=ids.panel("able", side), className="panel-able"),
            html.Div(id=ids.panel("body", side), className="panel-body"),
            dcc.Store(id=ids.panel("poll", side)),
            dcc.Store(id=ids.panel("tick", side)),
            dcc.Store(id=ids.panel("press", side)),
        ],
        className="panel",
    )


def able(method: str, found: Capability | None, layer: str = "") -> Any:
    """What the method is on this model, said before it runs; what is unsupported has a place of its own below."""
    if found is None or found.level == "unsupported":
        return None
    # Of maps, the reason speaks of the layer taken by itself; at another one the method's own words hold.
    reason = METHODS[method].caveat if layer and METHODS[method].family == "cam" else found.reason
    return html.Div([badge.level(LEVELS[found.level], found.level), f" {reason}"], className="able-why", title=reason)


def options(methods: Mapping[str, Capability]) -> list[dict[str, Any]]:
    """The methods for a picker, by family; those not valid on the model stand disabled, with the reason, and their families last."""
    groups = []
    for group, names in grouped(methods).items():
        items = [_option(name, methods[name]) for name in names]
        groups.append({"group": group, "items": items})
    return sorted(groups, key=lambda group: all(item["disabled"] for item in group["items"]))


def _option(name: str, found: Capability) -> dict[str, Any]:
    sign = badge.LEVEL_SIGNS[found.level]
    return {
        "value": name, "label": METHODS[name].title, "disabled": found.level == "unsupported", "level": found.level, "sign": sign,
        "status": LEVELS[found.level], "reason": found.reason,
    }  # fmt: skip


def layers(method: str, names: Sequence[str]) -> list[dict[str, str]]:
    """The layers a method can look at, its own choice first."""
    own = METHODS[method].layer
    first = [{"value": DEFAULT, "label": "auto" if own else "none: at the input"}]
    auto = [] if own else [{"value": "auto", "label": "auto: the last before the head"}]
    return [*first, *auto, *({"value": name, "label": name} for name in names)]


def content(ex: Explanation, side: str, channels: Sequence[str] = ()) -> html.Div:
    """Verdict first, then the picture, then the sum and the cost in small print."""
    name = f"figure-{side}"
    figure = {"type": "figure", "side": side}
    opacity = dmc.Slider(id={"type": "opacity", "side": side}, min=0, max=100, value=75, size="xs", label=None, className="opacity")
    under = html.Label([html.Span("opacity", className="dim"), opacity], className="opacity-line") if pictured(ex) else None
    parts: list[Any] = [badge.verdict(ex.verdict), html.Div(explained(ex, channels, figure, under), className="panel-figure")]
    if "rule" in ex.extras:
        parts.append(html.Div(rule(ex), className="panel-sum"))
    parts.append(html.Div([*sums(ex), " ", scale(ex)], className="panel-sum"))
    parts.append(html.Div([cost(ex), " ", more(ex)], className="panel-cost dim", title="\n".join(ex.provenance.notes)))
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
    at = [" · at layer ", html.Strong(str(ex.provenance.parameters["layer"]))] if ex.provenance.parameters.get("layer") else []
    if ex.additive:
        return [f"{scale} of ", target, ": ", html.Strong(score), f", from {three(float(ex.base_values.ravel()[0]))} at the baseline", *at]
    return [f"{scale} of ", target, ": ", html.Strong(score), "; the values do not add up to it", *at]


def scale(ex: Explanation) -> Any:
    """A way to the other scale: where a class is all but sure, its probability hardly moves, and its logit does."""
    if ex.output not in ("probability", "logit"):
        return None
    other = "logit" if ex.output == "probability" else "probability"
    going = states.go({"output": "logit" if other == "logit" else ""})
    return html.Button(f"explain the {other}", type="button", className="link", **going)


def cost(ex: Explanation) -> str:
    made = ex.provenance
    runs = f"{made.evaluations:,} evaluations · " if made.evaluations else ""
    return f"{runs}{states.duration(made.seconds)} · seed {made.seed} · {made.device}"


def more(ex: Explanation) -> Any:
    """Of a sampled explanation whose verdict asks for it, a way to more evaluations."""
    made = ex.provenance.evaluations
    asked = any("larger budget" in check.reason for check in ex.verdict.checks.values())
    if not asked or not 0 < made * MORE <= MOST:
        return None
    return html.Button(f"allow {made * MORE:,}", type="button", className="link", **states.go({"budget": made * MORE}))
