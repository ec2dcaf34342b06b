"""How the score depends on a column: the curve with its interval, single rows behind it, and where the data lie; two as a map."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from explainer.errors import unknown
from explainer.inspection.dependence import Dependence
from explainer.plots.look import (
    BAR_MAGNITUDE,
    BAR_NEGATIVE,
    BAR_POSITIVE,
    DIVERGING,
    NEUTRAL,
    SEQUENTIAL,
    escape,
    finish,
    rgba,
    shown,
)

_COLOURS = (BAR_NEGATIVE, BAR_POSITIVE, BAR_MAGNITUDE, "#1b7837", "#b35806", "#01665e", "#c51b7d", "#737373")
_MOST_CURVES = 100  # of single rows: more would be a grey plane
_NAMES = {"pdp": "Partial dependence", "ice": "Partial dependence and single rows", "ale": "Accumulated local effects"}


def plot_dependence(found: Dependence, *, output: int | str | None = None, dark: bool = False) -> go.Figure:
    """Draw a curve per output with its 95 % interval, or a map over two columns; ``output`` picks one.

    Ticks along the bottom are the deciles of the data: where there are few, the curve rests on few rows. Of the curves of
    single rows 100 are drawn, spread evenly over the rows.
    """
    chosen = _chosen(found, output)
    if len(found.columns) == 2:
        return _map(found, chosen[0], dark)
    figure = go.Figure()
    for place, o in enumerate(chosen):
        _curve(figure, found, o, _COLOURS[place % len(_COLOURS)], alone=len(chosen) == 1)
    one = found.labels[chosen[0]] if len(chosen) == 1 else ""
    below = f"{found.rows:,} rows · band: 95 % over rows" + (" · ticks: deciles of the data" if found.types[0] != "category" else "")
    finish(figure, dark=dark, height=400, title=titled(f"{_NAMES[found.kind]} on {found.columns[0]}", below), showlegend=len(chosen) > 1)
    figure.update_layout(margin={"t": 72}, hovermode="closest")
    if found.types[0] == "category":
        figure.update_xaxes(type="category", title=escape(found.columns[0]), showgrid=False)
    else:
        figure.add_trace(_ticks(found, dark))
        low, high = float(found.grid[0][0]), float(found.grid[0][-1])
        pad = 0.02 * (high - low)
        figure.update_xaxes(title=escape(found.columns[0]), range=[low - pad, high + pad], zeroline=False)
    figure.update_yaxes(title=escape(_what(found, one)), zeroline=found.kind == "ale")
    return figure


def titled(words: str, below: str) -> dict[str, Any]:
    """A title and the line below it, in the house's sizes."""
    subtitle = {"text": escape(below), "font": {"size": 11}}
    return {"text": escape(words), "subtitle": subtitle, "font": {"size": 14}, "x": 0.01, "xanchor": "left"}


def _chosen(found: Dependence, output: int | str | None) -> list[int]:
    if output is None:
        return list(range(len(found.labels)))
    if output in found.labels:
        return [found.labels.index(str(output))]
    if isinstance(output, (int, np.integer)) and 0 <= output < len(found.labels):
        return [int(output)]
    raise unknown("output", output, found.labels)


def _what(found: Dependence, label: str) -> str:
    scale = "score" if found.output == "raw" else found.output
    of = f" of {label}" if label else ""
    return f"effect on the {scale}{of}, 0 on average" if found.kind == "ale" else f"mean {scale}{of}"


def _curve(figure: go.Figure, found: Dependence, o: int, colour: str, *, alone: bool) -> None:
    category = found.types[0] == "category"
    x: Any = [escape(shown(v)) for v in found.grid[0]] if category else found.grid[0]
    name = escape(found.labels[o])
    if found.curves is not None and alone:
        _rows(figure, found, o, x)
    if category:
        error = {"type": "data", "array": found.high[o] - found.values[o], "color": "#7f7f7f", "thickness": 1.4, "width": 4}
        figure.add_trace(go.Scatter(
            x=x, y=found.values[o], mode="markers", name=name, error_y=error, marker={"size": 10, "color": colour},
            customdata=found.spread[0], hovertemplate="%{x}: %{y:.3~g} (%{customdata:.0%} of the rows)<extra>" + name + "</extra>",
        ))  # fmt: skip
        return
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False, "legendgroup": name}
    figure.add_trace(go.Scatter(x=x, y=found.low[o], **band))
    figure.add_trace(go.Scatter(x=x, y=found.high[o], fill="tonexty", fillcolor=rgba(colour, 0.22), **band))
    figure.add_trace(go.Scatter(
        x=x, y=found.values[o], mode="lines+markers" if len(x) <= 25 else "lines", name=name, legendgroup=name,
        line={"color": colour, "width": 2.5}, marker={"size": 5},
        hovertemplate=escape(found.columns[0]) + " %{x:.4~g}: %{y:.3~g}<extra>" + name + "</extra>",
    ))  # fmt: skip


def _rows(figure: go.Figure, found: Dependence, o: int, x: Any) -> None:
    """Single rows as one trace with gaps: a trace each would make the figure slow."""
    assert found.curves is not None
    every = found.curves[o]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(_MOST_CURVES, len(every))).astype(int))
    gap = np.full((len(chosen), 1), np.nan)
    y = np.concatenate([every[chosen], gap], axis=1).ravel()
    figure.add_trace(go.Scatter(
        x=[*x, None] * len(chosen), y=y, mode="lines", line={"width": 0.8, "color": rgba(NEUTRAL, 0.35)}, hoverinfo="skip",
        name="single rows", showlegend=False,
    ))  # fmt: skip


def _ticks(found: Dependence, dark: bool) -> go.Scatter:
    low, high = float(found.grid[0][0]), float(found.grid[0][-1])
    inside = found.spread[0][(found.spread[0] >= low) & (found.spread[0] <= high)]
    drawn = found.curves if found.curves is not None else np.stack([found.low, found.high])
    bottom = float(np.nanmin(drawn))
    marker = {"symbol": "line-ns-open", "size": 9, "color": "#e6e6e6" if dark else "#212529"}
    return go.Scatter(
        x=inside, y=np.full(len(inside), bottom), mode="markers", marker=marker, showlegend=False, name="deciles",
        hovertemplate="decile %{x:.4~g}<extra></extra>",
    )  # fmt: skip


def _map(found: Dependence, o: int, dark: bool) -> go.Figure:
    axes: list[Any] = [
        [escape(shown(v)) for v in axis] if kind == "category" else axis for axis, kind in zip(found.grid, found.types, strict=True)
    ]
    z = found.values[o].T
    limit = float(np.nanmax(np.abs(z))) or 1.0
    scale = {"colorscale": DIVERGING, "zmid": 0.0, "zmin": -limit, "zmax": limit} if found.kind == "ale" else {"colorscale": SEQUENTIAL}
    bar = {"title": {"text": escape(_what(found, found.labels[o])), "side": "right"}, "thickness": 12, "tickformat": ".3~g"}
    figure = go.Figure(go.Heatmap(
        x=axes[0], y=axes[1], z=z, customdata=found.stderr[o].T, colorbar=bar, **scale,
        hovertemplate=f"{escape(found.columns[0])} %{{x}}, {escape(found.columns[1])} %{{y}}: "
        "%{z:.3~g} ± %{customdata:.2~g}<extra></extra>",
    ))  # fmt: skip
    beyond = " beyond each alone" if found.kind == "ale" else ""
    words = f"{_NAMES[found.kind]} on {found.columns[0]} and {found.columns[1]}{beyond}"
    finish(figure, dark=dark, height=440, title=titled(words, f"{found.rows:,} rows · ± is one standard error over rows"))
    for axis, name, kind in zip((figure.update_xaxes, figure.update_yaxes), found.columns, found.types, strict=True):
        axis(title=escape(name), showgrid=False, zeroline=False, **({"type": "category"} if kind == "category" else {}))
    figure.update_layout(margin={"t": 72})
    return figure
