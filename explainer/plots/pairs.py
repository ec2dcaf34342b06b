"""Pairs of parts: a map of how the score is made up of single parts, on the diagonal, and of parts that act together."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explainer.explanation import Explanation
from explainer.plots.look import INTERVAL, colour_bar, escape, finish, heading, part, scale

MOST = 20  # parts drawn, those that take part in most


def is_of_pairs(axes: tuple[str, ...]) -> bool:
    """Whether values stand on pairs of the same parts."""
    return len(axes) == 2 and axes[1] == f"other {axes[0]}"


def plot_pairs(ex: Explanation, *, instance: int = 0, output: int | str | None = None, top: int = MOST, dark: bool = False) -> go.Figure:
    """Draw the values of ``top`` single parts and of their pairs as a map; a pair's two halves are one value, below the diagonal."""
    drawn = part(ex, instance, output)
    d = len(drawn.values)
    chosen = np.sort(np.argsort(-np.abs(drawn.values).sum(axis=1), kind="stable")[:top])
    names = [escape(drawn.names[j * d + j]) for j in chosen]
    values = drawn.values + drawn.values.T - np.diag(np.diag(drawn.values))
    shown = np.where(np.tri(len(chosen), dtype=bool), values[np.ix_(chosen, chosen)], np.nan)
    error = np.zeros_like(values) if drawn.stderr is None else INTERVAL * (drawn.stderr + drawn.stderr.T - np.diag(np.diag(drawn.stderr)))
    limit = float(np.nanmax(np.abs(shown))) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=shown,
            customdata=error[np.ix_(chosen, chosen)],
            colorbar=colour_bar(drawn),
            hoverongaps=False,
            hovertemplate="%{y} with %{x}: %{z:.3~g}" + ("" if drawn.stderr is None else " ± %{customdata:.2~g}") + "<extra></extra>",
            **{**scale(drawn), "zmin": -limit, "zmax": limit},
        )
    )
    left = f"; the other {d - top} parts are left out" if d > top else ""
    finish(figure, dark=dark, height=190 + 24 * max(len(chosen), 5), title=heading(drawn))
    places = list(range(len(chosen)))
    figure.update_xaxes(tickvals=places, ticktext=names, tickangle=-45, showgrid=False, title=f"a part alone stands on the diagonal{left}")
    figure.update_layout(xaxis_zeroline=False, yaxis_zeroline=False)
    figure.update_yaxes(tickvals=places, ticktext=names, autorange="reversed", showgrid=False)
    return figure
