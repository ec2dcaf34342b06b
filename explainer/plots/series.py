"""Series: one strip per channel, the signal drawn over the tint of each time step or segment."""

from __future__ import annotations

import re

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.explanation import Explanation
from explainer.plots.bars import add_bars
from explainer.plots.look import INTERVAL, Part, colour_bar, escape, finish, heading, part, scale

_TIME = re.compile(r" (at )?(steps? |t)\d+(-\d+)?$")  # as in "LPC 1 at step 0" and "LPC 1 t0-3"


BARS = 6  # segments whose values are drawn as bars with their errors, below the strips


def plot_series(ex: Explanation, *, instance: int = 0, output: int | str | None = None, dark: bool = False) -> go.Figure:
    """Draw each channel's signal over its tinted time steps; a segment's steps all carry the segment's value.

    The segments that counted most stand below as bars with their 95 % intervals, where they have any.
    """
    drawn = part(ex, instance, output)
    signal = np.asarray(drawn.ex.inputs[0])
    values, segments = painted(drawn)
    steps, channels = values.shape
    names = channel_names(drawn, channels)
    height = 130 + max(150 if channels == 1 else 58, 58) * channels
    bars = 0 if drawn.stderr is None or segments is None else BARS * 26 + 100
    figure = _strips(channels, height, bars)
    where = np.arange(steps) if segments is None else segments
    what = "step %{x:.0f}" if segments is None else "segment %{customdata[0]} (step %{x:.0f})"
    error = None if drawn.stderr is None else INTERVAL * (drawn.stderr if segments is None else drawn.stderr[segments])
    around = "" if error is None else " ± %{customdata[1]:.2~g}"
    for c in range(channels):
        line = signal[:steps, c]
        low, high = float(line.min()), float(line.max())
        pad = 0.1 * (high - low) or 0.5
        strip = go.Heatmap(
            z=values[None, :, c],
            x=np.arange(steps),
            # Two edges, so that the one row of cells fills the strip from bottom to top.
            y=[low - pad, high + pad],
            customdata=np.stack([where, where if error is None else error[:, c]], axis=-1)[None],
            opacity=0.8,
            showscale=c == 0,
            colorbar={**colour_bar(drawn), "len": 1 - bars / (height + bars), "y": 1.0, "yanchor": "top"},
            name=names[c],
            hovertemplate=f"{escape(names[c])}, {what}: %{{z:.3~g}}{around}<extra></extra>",
            **scale(drawn),
        )
        figure.add_trace(strip, c + 1, 1)
        # Black on the pale strip, whatever the page's theme; one lone step needs a dot to be seen.
        mode = "lines" if steps > 1 else "markers"
        figure.add_trace(
            go.Scatter(x=np.arange(steps), y=line, mode=mode, line={"color": "#111", "width": 1.5}, hoverinfo="skip", showlegend=False),
            c + 1,
            1,
        )
        figure.update_yaxes(
            range=[low - pad, high + pad], title={"text": escape(names[c]), "font": {"size": 10}}, nticks=3, row=c + 1, col=1
        )
    finish(figure, dark=dark, height=height + bars, title=heading(drawn))
    figure.update_xaxes(showgrid=False, zeroline=False, range=[-0.5, steps - 0.5])
    figure.update_yaxes(showgrid=False, zeroline=False, tickfont={"size": 9})
    figure.update_xaxes(title="time step", showticklabels=True, row=channels, col=1)
    if bars:
        add_bars(figure, drawn, BARS, channels + 1, str(channels + 1))
    return figure


def _strips(channels: int, height: int, bars: int) -> go.Figure:
    """One row per channel, all on one time axis, and below them room for bars."""
    if not bars:
        return make_subplots(channels, 1, shared_xaxes=True, vertical_spacing=min(0.02, 0.4 / channels))
    figure = make_subplots(channels + 1, 1, row_heights=[height / channels] * channels + [bars])
    whole, gap = height + bars, min(0.02, 0.4 / channels)
    top, below = (bars + 10) / whole, (bars - 70) / whole
    each = (1 - top - gap * (channels - 1)) / channels
    for c in range(channels):
        high = 1 - c * (each + gap)
        figure.update_yaxes(domain=[high - each, high], row=c + 1, col=1)
        figure.update_xaxes(matches="x" if c else None, showticklabels=False, row=c + 1, col=1)
    figure.update_yaxes(domain=[0, below], row=channels + 1, col=1)
    return figure


def painted(drawn: Part) -> tuple[np.ndarray, np.ndarray | None]:
    """Values per time step and channel ``(T, channels)``; for segments also the segment of each step ``(T,)``."""
    if drawn.axes == ("time", "channel"):
        return drawn.values, None
    segments = drawn.ex.extras.get("segments")
    if drawn.axes != ("segment", "channel") or not segments:
        raise InvalidInput(f'A series explanation with axes {drawn.ex.axes} needs extras["segments"] to be drawn; use plot_bars(ex).')
    where = np.asarray(segments[0])
    return drawn.values[where], where


def channel_names(drawn: Part, channels: int) -> list[str]:
    """The model's names of the channels, which stand before the time in each cell's name, else their numbers."""
    names = drawn.ex.feature_names[0]
    if len(names) != drawn.values.size:
        return [f"channel {c}" for c in range(channels)]
    return [_TIME.sub("", name) for name in names[:channels]]
