"""Interventions and readings along the layers: activation patching, ablation, the logit lens."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.errors import InvalidInput
from explainer.inspection.ablation import Ablation
from explainer.inspection.lens import LogitLens
from explainer.inspection.patching import Patching
from explainer.plots.activations import short
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, DIVERGING, SEQUENTIAL, escape, finish, three

_LINES = 8  # outputs drawn as lines


def plot_patching(found: Patching, *, dark: bool = False) -> go.Figure:
    """Draw the share restored as a map of layers x positions; as bars of whole layers where positions are no single row."""
    rows = [one for one in found.values if one is not None and one.ndim == 1]
    below = f"{found.target}: {three(found.clean)} on the clean input, {three(found.corrupt)} on the corrupt one ({found.output})"
    title = titled("Activation patching: share of the difference restored", below)
    names = [short(name) for name in found.layers]
    y = list(range(len(names)))
    if not rows or len({len(one) for one in rows}) > 1:
        figure = go.Figure(
            go.Bar(x=found.whole, y=y, orientation="h", marker={"color": BAR_MAGNITUDE}, hovertemplate="%{x:.3~g}<extra></extra>")
        )
        finish(figure, dark=dark, height=130 + 24 * max(3, len(names)), bargap=0.3, title=title)
        figure.update_xaxes(title="restored by the whole layer")
    else:
        width = len(rows[0])
        z = np.array([np.full(width, np.nan) if one is None or one.ndim != 1 else one for one in found.values])
        columns = [escape(p) for p in found.positions] if len(found.positions) == width else [str(p) for p in range(width)]
        heat = _heat(np.column_stack([z, found.whole]), [*columns, "all"], "restored", diverging=True)
        most = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 0.0
        if most > 0:  # the scale of single positions: that of whole layers, next to which they are pale, ends at its last colour
            heat.update(zmin=-most, zmax=most)
        figure = go.Figure(heat)
        finish(figure, dark=dark, height=170 + 24 * max(4, len(names)), title=title)
        _ticks(figure, [*columns, "all"])
    figure.update_yaxes(tickmode="array", tickvals=y, ticktext=names, showgrid=False, zeroline=False, autorange="reversed")
    return figure


def plot_ablation(found: Ablation, *, top: int = 15, dark: bool = False) -> go.Figure:
    """Draw the mean change of every score for the ``top`` parts that change them most."""
    if len(found.names) == 1:
        return _of_one_part(found, dark)
    order = found.order[:top]
    z, names = found.values[order], [escape(found.names[i]) for i in order]
    labels = [escape(label) for label in found.labels]
    heat = _heat(z, labels, "change", diverging=True)
    heat.customdata = found.stderr[order]
    heat.hovertemplate = "%{text}: %{z:.3~g} ± %{customdata:.2~g}<extra></extra>"
    figure = go.Figure(heat)
    rest = f" · {len(found.names) - len(order)} smaller ones not shown" if len(found.names) > len(order) else ""
    held = "held at zero" if found.kind == "zero" else "held at the mean"
    below = f"{found.changes.shape[1]:,} inputs · {held} · mean change of the {found.output}{rest}"
    finish(figure, dark=dark, height=170 + 24 * max(4, len(names)), title=titled(f"Scores without parts of {found.layer}", below))
    _ticks(figure, labels)
    figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, showgrid=False, autorange="reversed")
    return figure


def _of_one_part(found: Ablation, dark: bool) -> go.Figure:
    """The change of every score as bars, with 95 % intervals where there are several inputs."""
    change, error = found.values[0], 1.96 * found.stderr[0]
    labels, spread = [escape(label) for label in found.labels], bool(np.isfinite(error).all())
    bars = go.Bar(
        x=change, y=list(range(len(labels))), orientation="h", marker={"color": BAR_MAGNITUDE}, customdata=labels,
        error_x={"type": "data", "array": error, "color": "#7f7f7f", "thickness": 1.4, "width": 4} if spread else None,
        hovertemplate="%{customdata}: %{x:.3~g}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bars)
    held = "held at zero" if found.kind == "zero" else "held at the mean"
    below = f"{found.changes.shape[1]:,} inputs · {held} · mean change of the {found.output}{', 95 % intervals' if spread else ''}"
    title = titled(f"Scores without {escape(found.names[0])} of {found.layer}", below)
    finish(figure, dark=dark, height=130 + 22 * max(3, len(labels)), bargap=0.3, title=title)
    figure.update_yaxes(
        tickmode="array", tickvals=list(range(len(labels))), ticktext=labels, showgrid=False, zeroline=False, autorange="reversed"
    )
    return figure


def plot_lens(found: LogitLens, *, instance: int = 0, dark: bool = False) -> go.Figure:
    """Draw what would be said after each layer: the likeliest output at every position, or the scores of the outputs."""
    if not 0 <= instance < len(found.scores):
        raise InvalidInput(f"instance={instance} is not among the {len(found.scores)} inputs (0 to {len(found.scores) - 1}).")
    names = [short(name) for name in found.layers]
    settled = f"the highest score settles after {found.layers[int(found.settled[instance])]}"
    if found.tokens:
        figure = _said(found, instance)
        finish(figure, dark=dark, height=170 + 26 * max(4, len(names)), title=titled("Logit lens: what each layer would say next", settled))
        figure.update_yaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, showgrid=False)
    else:
        scores = found.scores[instance]
        figure = go.Figure([
            go.Scatter(y=scores[:, o], mode="lines+markers", name=escape(found.labels[o]), hovertemplate="%{y:.3~g}<extra></extra>")
            for o in np.argsort(-scores[-1], kind="stable")[:_LINES]
        ])  # fmt: skip
        finish(figure, dark=dark, height=400, title=titled("Logit lens: scores after each layer", settled), showlegend=True)
        figure.update_xaxes(tickmode="array", tickvals=list(range(len(names))), ticktext=names, showgrid=False, zeroline=False)
        figure.update_yaxes(title=found.output, zeroline=False)
    figure.update_layout(margin={"t": 72})
    return figure


def _said(found: LogitLens, instance: int) -> go.Figure:
    words, chances = found.tokens[instance], found.chances[instance]
    given = found.positions[instance] if found.positions else ()
    columns = [escape(p) for p in given] if len(given) == words.shape[1] else [str(p) for p in range(words.shape[1])]
    heat = _heat(chances, columns, "probability", diverging=False)
    heat.text = [[escape(str(word)) for word in row] for row in words]
    heat.texttemplate = "%{text}" if words.size <= 1200 else None
    heat.hovertemplate = "%{text}: %{z:.3~g}<extra></extra>"
    figure = go.Figure(heat)
    _ticks(figure, columns)
    return figure


def _heat(z: np.ndarray, columns: list[str], what: str, *, diverging: bool) -> go.Heatmap:
    limit = float(np.nanmax(np.abs(z))) if np.isfinite(z).any() else 1.0
    scale: dict[str, Any] = {"colorscale": SEQUENTIAL, "zmin": 0.0, "zmax": limit or 1.0}
    if diverging:
        scale = {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -(limit or 1.0), "zmax": limit or 1.0}
    return go.Heatmap(
        z=z, text=[columns] * len(z), hovertemplate="%{text}: %{z:.3~g}<extra></extra>", **scale,
        colorbar={"title": {"text": what, "side": "right"}, "thickness": 12, "tickformat": ".3~g"},
    )  # fmt: skip


def _ticks(figure: go.Figure, columns: list[str]) -> None:
    shown = {"tickmode": "array", "tickvals": list(range(len(columns))), "ticktext": columns, "tickfont": {"size": 10}}
    figure.update_xaxes(showgrid=False, zeroline=False, **(shown if len(columns) <= 60 else {"showticklabels": False}))
