"""Units of a layer: a map of each of the strongest channels, or positions against units."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.explanation import Explanation
from explainer.plots.look import Part, colour_bar, escape, finish, heading, part, scale, three


def plot_units(
    ex: Explanation, *, instance: int = 0, output: int | str | None = None, top: int = 12, columns: int = 6, dark: bool = False
) -> go.Figure:
    """Draw a layer's values: maps of the ``top`` strongest channels, ``columns`` in a row, all on one scale; or positions x units.

    A channel's strength is the sum of the sizes on its map, its number the sum. Raises InvalidInput for values on other axes.
    """
    drawn = part(ex, instance, output)
    if drawn.axes == ("channel", "row", "column"):
        return _maps(drawn, top, columns, dark)
    if len(drawn.axes) != 2 or drawn.axes[1] != "unit":
        raise InvalidInput(f"Values on {', '.join(drawn.axes)} are not those of a layer's units; use plot(ex).")
    names = [escape(name) for name in drawn.ex.feature_names[0]]
    heat = go.Heatmap(
        z=drawn.values,
        customdata=np.broadcast_to(np.array(names, dtype=object)[:, None], drawn.values.shape),
        colorbar=colour_bar(drawn),
        hovertemplate="%{customdata}, unit %{x}: %{z:.3~g}<extra></extra>",
        **scale(drawn),
    )
    figure = finish(go.Figure(heat), dark=dark, height=min(900, 180 + 16 * len(names)), title=heading(drawn))
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names} if len(names) <= 60 else {"showticklabels": False}
    figure.update_xaxes(title="unit", showgrid=False)
    figure.update_yaxes(showgrid=False, autorange="reversed", **ticks)
    return figure


def _maps(drawn: Part, top: int, columns: int, dark: bool) -> go.Figure:
    values = np.nan_to_num(drawn.values)
    strongest = np.argsort(-np.abs(values).sum((1, 2)), kind="stable")[:top]
    columns = min(columns, len(strongest))
    rows = -(-len(strongest) // columns)
    titles = [f"{escape(drawn.ex.feature_names[0][c])}: {three(float(values[c].sum()))}" for c in strongest]
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=0.12 / rows)
    for k, c in enumerate(strongest):
        heat = go.Heatmap(
            z=drawn.values[c],
            showscale=k == 0,
            colorbar=colour_bar(drawn),
            name=f"channel {c}",
            hovertemplate=f"channel {c}, row %{{y}}, column %{{x}}: %{{z:.3~g}}<extra></extra>",
            **scale(drawn),
        )
        figure.add_trace(heat, k // columns + 1, k % columns + 1)
    finish(figure, dark=dark, height=110 + 170 * rows, title=heading(drawn))
    figure.update_annotations(font={"size": 11})
    figure.update_layout(margin={"t": 92, "b": 12})
    figure.update_xaxes(visible=False, constrain="domain")
    figure.update_yaxes(visible=False, autorange="reversed", constrain="domain")
    return figure
