"""Figures about the model rather than one prediction: confusion, calibration, probabilities, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.metrics import SHARES, wilson
from explainer.plots.look import BAR_MAGNITUDE, BAR_NEGATIVE, BAR_POSITIVE, NEUTRAL, SEQUENTIAL, escape, finish, three


def plot_confusion(matrix: Any, class_names: Sequence[str], *, dark: bool = False) -> go.Figure:
    """Draw counts ``(true, predicted)``; the tint is the share of the true class, so that a rare class is seen as well."""
    counts = np.asarray(matrix)
    if counts.shape != (len(class_names), len(class_names)):
        raise InvalidInput(
            f"A confusion matrix of shape ({len(class_names)}, {len(class_names)}) goes with these classes; {counts.shape} came."
        )
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    names = [escape(str(n)) for n in class_names]
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=names,
            y=names,
            customdata=counts,
            colorscale=SEQUENTIAL,
            zmin=0.0,
            zmax=1.0,
            xgap=1,
            ygap=1,
            colorbar={"title": {"text": "share of the true class", "side": "right"}, "thickness": 12, "tickformat": ".0%"},
            hovertemplate="true %{y}, predicted %{x}: %{customdata:,} (%{z:.1%})<extra></extra>",
        )
    )
    finish(figure, dark=dark, height=180 + max(28 * len(names), 160))
    # Its own ink per cell: the pale cells are pale in a dark page too.
    for i, j in np.argwhere(counts > 0):
        font = {"size": 11, "color": "#ffffff" if share[i, j] > 0.55 else "#111111"}
        figure.add_annotation(x=names[j], y=names[i], text=f"{int(counts[i, j]):,}", showarrow=False, font=font)
    figure.update_layout(margin={"t": 16})
    figure.update_xaxes(title="predicted", type="category", showgrid=False, constrain="domain")
    figure.update_yaxes(title="true", type="category", autorange="reversed", showgrid=False, constrain="domain")
    return figure


def plot_calibration(probabilities: Any, labels: Any, *, bins: int = 10, dark: bool = False) -> go.Figure:
    """Draw how often the predicted class was right against how sure the model was, in ``bins`` groups of equal size.

    ``probabilities`` ``(n, classes)``, ``labels`` ``(n,)``. Bars are 95 % Wilson intervals (Wilson 1927, JASA 22).
    """
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if p.ndim != 2 or len(p) != len(y) or len(p) == 0:
        raise InvalidInput(f"Calibration needs probabilities (n, classes) and n labels; {p.shape} and {y.shape} came.")
    sure, right = p.max(1), p.argmax(1) == y
    groups = [g for g in np.array_split(np.argsort(sure, kind="stable"), min(bins, len(p))) if len(g)]
    x = np.array([sure[g].mean() for g in groups])
    hit = np.array([right[g].mean() for g in groups])
    counts = np.array([len(g) for g in groups])
    low, high = wilson(hit * counts, counts)
    figure = go.Figure()
    start = min(float(x.min()), float(low.min()))
    figure.add_trace(
        go.Scatter(
            x=[start, 1], y=[start, 1], mode="lines", line={"color": NEUTRAL, "dash": "dash"}, name="as sure as right", hoverinfo="skip"
        )
    )
    figure.add_trace(
        go.Scatter(
            x=x,
            y=hit,
            customdata=counts,
            mode="lines+markers",
            name="this model",
            line={"color": BAR_MAGNITUDE},
            error_y={"type": "data", "array": high - hit, "arrayminus": hit - low, "thickness": 1.2, "width": 3},
            hovertemplate="sure %{x:.3~g}, right %{y:.3~g} of %{customdata:,} rows<extra></extra>",
        )
    )
    finish(figure, dark=dark, height=320, legend={"orientation": "h", "y": 1.12})
    figure.update_layout(margin={"t": 40})
    figure.update_xaxes(title="mean probability of the predicted class")
    figure.update_yaxes(title="share right")
    return figure


def plot_probabilities(
    scores: Any, class_names: Sequence[str], truth: int | None = None, *, top: int = 10, dark: bool = False
) -> go.Figure:
    """Draw the probabilities of one row ``(classes,)``, the largest first; the true class is marked where it is known."""
    p = np.asarray(scores, dtype=float).ravel()
    if len(p) != len(class_names):
        raise InvalidInput(f"{len(class_names)} probabilities go with these classes; {len(p)} came.")
    order = np.argsort(-p, kind="stable")
    order = order[: max(top, 1)] if truth is None or truth in order[:top] else np.append(order[: top - 1], truth)
    names = [escape(str(class_names[i])) + (" (true)" if i == truth else "") for i in order]
    colours = [BAR_MAGNITUDE if k == 0 else NEUTRAL for k in range(len(order))]
    figure = go.Figure(
        go.Bar(
            x=p[order],
            y=names,
            orientation="h",
            marker={"color": colours},
            text=[three(v) for v in p[order]],
            textposition="auto",
            hovertemplate="%{y}: %{x:.3~g}<extra></extra>",
        )
    )
    finish(figure, dark=dark, height=70 + 26 * max(len(order), 2), bargap=0.3, showlegend=False)
    figure.update_layout(margin={"t": 8})
    figure.update_xaxes(title="probability", range=[0, 1])
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticksuffix="  ")
    return figure


def plot_margins(probabilities: Any, labels: Any, *, dark: bool = False) -> go.Figure:
    """Draw the histogram of the probability given to the predicted class, right and wrong predictions apart."""
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    sure, right = p.max(1), p.argmax(1) == y
    edges = np.linspace(1 / p.shape[1], 1, 26)
    figure = go.Figure()
    for name, rows, colour in (("right", right, BAR_NEGATIVE), ("wrong", ~right, BAR_POSITIVE)):
        counts = np.histogram(sure[rows], edges)[0]
        middle = (edges[:-1] + edges[1:]) / 2
        figure.add_trace(
            go.Bar(
                x=middle,
                y=counts,
                name=name,
                marker={"color": colour},
                hovertemplate=f"{name}, sure %{{x:.3~g}}: %{{y:,}} rows<extra></extra>",
            )
        )
    finish(figure, dark=dark, height=300, barmode="stack", bargap=0.04, legend={"orientation": "h", "y": 1.12})
    figure.update_layout(margin={"t": 40})
    figure.update_xaxes(title="probability of the predicted class")
    figure.update_yaxes(title="rows")
    return figure


MEASURES = (BAR_MAGNITUDE, "#1b7837", "#b35806", NEUTRAL)  # lines of what is no loss


def plot_history(history: Sequence[Mapping[str, float]], *, dark: bool = False) -> go.Figure:
    """Draw a training record over its epochs: the losses, below them the shares, and any other measure on an axis of its own."""
    if not history:
        raise InvalidInput("The training record holds no epochs to draw.")
    epochs = [row.get("epoch", k) for k, row in enumerate(history)]
    kinds = _kinds(history[-1])
    figure = make_subplots(len(kinds), 1, shared_xaxes=True, vertical_spacing=0.09)
    colours = iter(MEASURES * len(history[-1]))
    for place, (kind, keys) in enumerate(kinds.items(), start=1):
        for key in keys:
            losses = {"train_loss": BAR_NEGATIVE, "validation_loss": BAR_POSITIVE}
            line = {"color": losses[key], "dash": "solid"} if key in losses else {"color": next(colours), "dash": "dot"}
            y, name = [row.get(key) for row in history], key.replace("_", " ")
            mode = "lines+markers" if len(y) < 40 else "lines"
            figure.add_trace(go.Scatter(x=epochs, y=y, mode=mode, name=name, line=line, hovertemplate="%{y:.3~g}"), place, 1)
        figure.update_yaxes(title=kind, nticks=5, row=place, col=1)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    finish(figure, dark=dark, height=180 + 140 * len(kinds), hovermode="x unified", legend=legend)
    figure.update_layout(margin={"t": 60})
    return figure.update_xaxes(title="epoch", row=len(kinds), col=1)


def _kinds(last: Mapping[str, Any]) -> dict[str, list[str]]:
    """What is drawn of a record, by axis: losses, shares of one, and each other measure under its own name."""
    found: dict[str, list[str]] = {}
    for key, value in last.items():
        name = key.removeprefix("validation_")
        drawn = key.endswith("loss") or name != key
        if drawn and isinstance(value, (int, float)) and not isinstance(value, bool):
            kind = "loss" if key.endswith("loss") else "share" if name in (*SHARES, "r2") else name.replace("_", " ")
            found.setdefault(kind, []).append(key)
    return found
