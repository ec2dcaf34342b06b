"""The input itself, as people read it: a picture, words, lines over time, a row of a table."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from dash import html

from dashboard.components.figures import graph
from explainer.plots.image import as_picture

BESIDE = 7  # channels a legend beside the plot has room for; more are named below it


def shown(one: Any, modality: str, channels: tuple[str, ...] = ()) -> html.Div:
    """A batch of one, drawn."""
    if modality == "image":
        return html.Div(html.Img(src=png(one[0]), className="picture", alt="The input picture"))
    if modality == "text":
        return html.Div(one[0], className="words", tabIndex="0")
    if modality == "series":
        return html.Div(lines(one[0], channels))
    return html.Div()  # a table's row stands in the form that changes it


def png(image: np.ndarray) -> str:
    """A picture as a ``data:`` address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(as_picture(image)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def lines(series: np.ndarray, channels: tuple[str, ...], height: int = 150) -> Any:
    """All channels over time in one plot."""
    import plotly.graph_objects as go

    from explainer.plots.look import finish

    colours = (
        "#4393c3",
        "#d6604d",
        "#8073ac",
        "#5aae61",
        "#bf812d",
        "#35978f",
        "#c51b7d",
        "#7f7f7f",
        "#fdae61",
        "#9970ab",
        "#2166ac",
        "#b2182b",
    )
    figure = go.Figure()
    for c in range(series.shape[1]):
        name = channels[c] if c < len(channels) else f"channel {c}"
        style = {"width": 1.6, "color": colours[c % len(colours)], "dash": ("solid", "dot", "dash")[c // len(colours) % 3]}
        figure.add_scatter(
            y=series[:, c], mode="lines", name=name, line=style, hovertemplate=f"{name}, step %{{x}}: %{{y:.3~g}}<extra></extra>"
        )
    below = {"orientation": "h", "y": -0.28, "yanchor": "top"} if series.shape[1] > BESIDE else {}
    finish(figure, height=height + (40 if below else 0))
    legend = {"font": {"size": 9}, "itemwidth": 30, "tracegroupgap": 0, **below}
    figure.update_layout(margin={"l": 4, "r": 4, "t": 4, "b": 4}, legend=legend, showlegend=series.shape[1] > 1)
    figure.update_xaxes(title={"text": "time step", "font": {"size": 10}, "standoff": 2}, tickfont={"size": 10})
    figure.update_yaxes(tickfont={"size": 10}, nticks=5)
    return graph(figure, label="The series, all channels over time")


def sparkline(series: np.ndarray, width: int = 160, height: int = 36) -> str:
    """The channels of a series as thin lines, each in its own range, as a ``data:`` address; gaps stay gaps."""
    series = np.asarray(series, dtype=float)
    paths = []
    for k in range(min(series.shape[1], 4)):
        values = series[:, k]
        known = values[np.isfinite(values)]
        if not len(known):
            continue
        low, spread = known.min(), float(np.ptp(known)) or 1.0
        x = np.linspace(1, width - 1, len(values))
        steps = [
            "" if not np.isfinite(v) else f"{'M' if i == 0 or not np.isfinite(values[i - 1]) else 'L'}{a:.1f} {y:.1f}"
            for i, (a, v) in enumerate(zip(x, values, strict=True))
            for y in [height - 2 - (height - 4) * (v - low) / spread]
        ]
        colour = ("#4393c3", "#d6604d", "#8073ac", "#5aae61")[k]
        paths.append(f"<path d='{''.join(steps)}' fill='none' stroke='{colour}' stroke-width='1.2'/>")
    drawn = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'>{''.join(paths)}</svg>"
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
