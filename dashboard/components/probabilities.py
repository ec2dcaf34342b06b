"""Probabilities as bars; pressing a class explains that class instead of the predicted one."""

from __future__ import annotations

from typing import Any

import numpy as np
from dash import html

from dashboard.components.states import go
from explainer.plots.look import three

TOP = 10


def bars(scores: np.ndarray, names: tuple[str, ...], *, target: str, true: int | None, before: np.ndarray | None = None) -> html.Div:
    """The classes by probability, the largest first; ``before`` marks where each stood before the input was changed."""
    order = np.argsort(-scores, kind="stable")
    kept = list(order[:TOP])
    for extra in (int(target) if target else None, true):
        if extra is not None and 0 <= extra < len(names) and extra not in kept:
            kept[-1 if extra == true else -2] = extra
    predicted = int(order[0])
    rows: list[Any] = [_bar(int(c), scores, names, predicted, target, true, before) for c in sorted(kept, key=lambda c: -scores[c])]
    if len(names) > len(kept):
        rest = 1 - float(sum(scores[c] for c in kept))
        rows.append(html.Div(f"{len(names) - len(kept)} more classes share {three(max(rest, 0.0))}", className="dim prob-rest"))
    return html.Div(rows, className="probs", role="group", **{"aria-label": "Probabilities; press a class to explain it"})


def _bar(
    c: int, scores: np.ndarray, names: tuple[str, ...], predicted: int, target: str, true: int | None, before: np.ndarray | None
) -> html.Button:
    chosen = target == str(c) if target else c == predicted
    tags = [html.Span("true", className="tag tag-true")] if c == true else []
    inside = [html.Span(className="prob-fill", style={"width": f"{100 * float(np.clip(scores[c], 0, 1)):.2f}%"})]
    if before is not None:
        inside.append(html.Span(className="prob-before", style={"left": f"{100 * float(np.clip(before[c], 0, 1)):.2f}%"}))
    return html.Button(
        [
            html.Span([html.Span(names[c], className="prob-label"), *tags], className="prob-name"),
            html.Span(inside, className="prob-track"),
            html.Span(percent(scores[c]), className="prob-value"),
        ],
        className="prob" + (" prob-chosen" if chosen else ""),
        type="button",
        title=f"Explain {names[c]}" + (f" (was {percent(before[c])} before the change)" if before is not None else ""),
        **go({"target": "" if c == (predicted if before is None else int(before.argmax())) else c}),
        **{"aria-pressed": "true" if chosen else "false"},
    )


def percent(p: float) -> str:
    """A probability in three significant digits, never a rounded-up 1."""
    if 0.999 < p < 1:
        return ">0.999"
    if 0 < p < 0.001:
        return "<0.001"
    return f"{p:.3f}"
