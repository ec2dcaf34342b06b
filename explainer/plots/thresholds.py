"""What a threshold on one class's probability costs and brings: the ROC and the precision-recall curve, and where it stands on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.plots.look import BAR_MAGNITUDE, BAR_POSITIVE, NEUTRAL, escape, finish


def plot_thresholds(probabilities: Any, positive: Any, *, at: float = 0.5, name: str = "positive", dark: bool = False) -> go.Figure:
    r"""Draw both curves of the rule :math:`p \ge t` over all :math:`t`, and a dot on each where :math:`t` is ``at``.

    ROC: recall :math:`TP / P` against the false positive rate :math:`FP / N`; precision :math:`TP / (TP + FP)` against recall (Davis &
    Goadrich 2006, ICML). ``probabilities`` ``(n,)`` of the class ``name``, ``positive`` ``(n,)`` whether a row is of it. Raises
    InvalidInput where all rows or none are.
    """
    p, hit = np.asarray(probabilities, dtype=float), np.asarray(positive, dtype=bool)
    if p.ndim != 1 or p.shape != hit.shape or hit.all() or not hit.any():
        raise InvalidInput(
            f"Curves over thresholds need rows (n,) with and without the class {name!r}; {int(hit.sum())} of {hit.size} have it."
        )
    thresholds, found, false = counts(p, hit)
    recall, rate, precision = found / hit.sum(), false / (~hit).sum(), found / (found + false)
    place = int(np.searchsorted(-thresholds, -at, side="right")) - 1  # the lowest threshold on the curve that is not below ``at``
    figure = make_subplots(1, 2, horizontal_spacing=0.14)
    line, dot = {"color": BAR_MAGNITUDE, "width": 2}, {"color": BAR_POSITIVE, "size": 10}
    label = np.array([f"p ≥ {t:.3g}" for t in thresholds])
    curves = ((np.append(0.0, rate), np.append(0.0, recall), "none"), (recall, precision, None))
    for column, (x, y, first) in enumerate(curves, start=1):
        text = label if first is None else np.append(first, label)
        hover = "%{text}: %{x:.3~g}, %{y:.3~g}<extra></extra>"
        shape = "linear" if first else "hv"
        figure.add_trace(go.Scatter(x=x, y=y, text=text, mode="lines", line={**line, "shape": shape}, hovertemplate=hover), 1, column)
        k = place + 1 if first else place
        if k >= 0:
            figure.add_trace(go.Scatter(x=x[[k]], y=y[[k]], mode="markers", marker=dot, hoverinfo="skip"), 1, column)
    chance = {"mode": "lines", "line": {"color": NEUTRAL, "dash": "dash"}, "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(x=[0, 1], y=[0, 1], **chance), 1, 1)
    figure.add_trace(go.Scatter(x=[0, 1], y=[hit.mean()] * 2, **chance), 1, 2)
    finish(figure, dark=dark, height=320, showlegend=False)
    figure.update_layout(margin={"t": 16})
    figure.update_xaxes(title="false positive rate", range=[-0.02, 1.02], row=1, col=1)
    figure.update_xaxes(title=f"recall of {escape(name)}", range=[-0.02, 1.02], row=1, col=2)
    figure.update_yaxes(title=f"recall of {escape(name)}", range=[-0.02, 1.02], row=1, col=1)
    return figure.update_yaxes(title="precision", range=[-0.02, 1.02], row=1, col=2)


def counts(p: np.ndarray, hit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores, highest first, and how many rows at or above each are of the class and how many are not."""
    order = np.argsort(-p, kind="stable")
    last = np.append(np.diff(p[order]) != 0, True)  # of equal scores the last: a threshold takes all of them or none
    return p[order][last], np.cumsum(hit[order])[last], np.cumsum(~hit[order])[last]
