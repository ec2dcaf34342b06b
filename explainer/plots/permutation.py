"""Permutation importance as bars with their intervals."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explainer.inspection.permutation import PermutationImportance
from explainer.plots.bars import unique
from explainer.plots.dependence import titled
from explainer.plots.look import BAR_MAGNITUDE, escape, finish, rgba, three

_FAINT = 0.35  # of a bar whose interval holds 0


def plot_permutation(found: PermutationImportance, *, top: int = 15, dark: bool = False) -> go.Figure:
    """Draw the ``top`` largest drops with their 95 % intervals; faint where the interval holds 0."""
    order = found.order[:top]
    values, low, high = found.values[order], found.low[order], found.high[order]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=unique([escape(name if len(name) <= 40 else name[:39] + "…") for name in (found.names[i] for i in order)]),
            orientation="h",
            marker={"color": [BAR_MAGNITUDE if a > 0 or b < 0 else rgba(BAR_MAGNITUDE, _FAINT) for a, b in zip(low, high, strict=True)]},
            error_x={"type": "data", "array": high - values, "arrayminus": values - low, "color": "#7f7f7f", "thickness": 1.4, "width": 4},
            customdata=np.stack([low, high], axis=1),
            hovertemplate="%{y}: %{x:.3~g} (95 % %{customdata[0]:.3~g} to %{customdata[1]:.3~g})<extra></extra>",
        )
    )
    metric = found.metric.replace("_", " ")
    words = f"Permutation importance over {found.rows:,} rows"
    rest = f" · {len(found.names) - len(order)} smaller ones not shown" if len(found.names) > len(order) else ""
    below = f"{metric} {three(found.score)} as the rows are · 95 % intervals over rows and repeats, faint where they hold 0{rest}"
    finish(figure, dark=dark, height=130 + 26 * max(len(order), 3), bargap=0.3, showlegend=False, title=titled(words, below))
    figure.update_xaxes(title=escape(f"{metric} lost when the column is permuted"), zeroline=True)
    figure.update_yaxes(autorange="reversed", type="category", showgrid=False, ticksuffix="  ")
    return figure
