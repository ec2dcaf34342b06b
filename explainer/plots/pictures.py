"""Many small pictures beside each other, and a map of points that stand for inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from explainer.errors import InvalidInput
from explainer.plots.dependence import titled
from explainer.plots.look import escape, finish

GAP = 2  # pixels between pictures
# Ten that are told apart by most people (after Tol's and ColorBrewer's sets); the marker's shape says the second ten.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#8c8c8c", "#44bb99", "#99582a")
SHAPES = ("circle", "diamond", "square", "cross")


def plot_pictures(
    pictures: np.ndarray, *, rows: Sequence[str] = (), columns: Sequence[str] = (), title: str = "", below: str = "", dark: bool = False
) -> go.Figure:
    """Draw grey pictures ``(rows, columns, H, W)`` in [0, 1] as one sheet: a traversal, samples, or inputs above what became of them.

    ``rows`` and ``columns`` name them. Raises InvalidInput for another shape, or for names that do not fit.
    """
    pictures = np.asarray(pictures, dtype=float)
    if pictures.ndim != 4 or not pictures.size:
        raise InvalidInput(f"Pictures of shape (rows, columns, H, W) are needed; {pictures.shape} came.")
    down, across, height, width = pictures.shape
    for names, n, what in ((rows, down, "rows"), (columns, across, "columns")):
        if len(names) not in (0, n):
            raise InvalidInput(f"{n} {what} of pictures came, but {len(names)} names for them.")
    sheet = np.full((down * (height + GAP), across * (width + GAP)), np.nan)
    for r, c in np.ndindex(down, across):
        sheet[r * (height + GAP) :, c * (width + GAP) :][:height, :width] = pictures[r, c]
    figure = go.Figure(go.Heatmap(z=sheet, colorscale="gray", zmin=0, zmax=1, showscale=False, hoverinfo="skip", name="pictures"))
    finish(figure, dark=dark, height=90 + int(sheet.shape[0] * 1.6), title=titled(title, below))
    for update, names, size in ((figure.update_xaxes, columns, width), (figure.update_yaxes, rows, height)):
        places = [k * (size + GAP) + (size - 1) / 2 for k in range(len(names))]
        update(showgrid=False, zeroline=False, tickmode="array", tickvals=places, ticktext=[escape(str(one)) for one in names])
    figure.update_yaxes(autorange="reversed", scaleanchor="x", constrain="domain")
    figure.update_xaxes(constrain="domain")
    return figure


def plot_plane(
    points: np.ndarray, names: Sequence[str], *, axes: tuple[str, str] = ("", ""), title: str = "", below: str = "", dark: bool = False
) -> go.Figure:
    """Draw inputs as points ``(n, 2)``, one colour a name (a class, say); the number of the input stands at each point.

    Raises InvalidInput for another shape, or where names and points are not equally many.
    """
    points = np.asarray(points, dtype=float)
    if points.ndim != 2 or points.shape[1] != 2 or len(names) != len(points):
        raise InvalidInput(f"Points (n, 2) and n names are needed; {points.shape} and {len(names)} came.")
    figure, labels = go.Figure(), np.array([str(one) for one in names])
    for k, name in enumerate(dict.fromkeys(sorted(labels))):
        chosen = np.flatnonzero(labels == name)
        marker = {"color": COLOURS[k % len(COLOURS)], "symbol": SHAPES[k // len(COLOURS) % len(SHAPES)], "size": 6, "opacity": 0.75}
        told = escape(name)
        figure.add_trace(
            go.Scatter(
                x=points[chosen, 0], y=points[chosen, 1], mode="markers", name=told, marker=marker, customdata=chosen,
                hovertemplate=f"{told}, input %{{customdata}}<extra></extra>",
            )
        )  # fmt: skip
    finish(figure, dark=dark, height=460, title=titled(title, below))
    figure.update_xaxes(title=escape(axes[0]), zeroline=False)
    figure.update_yaxes(title=escape(axes[1]), zeroline=False, scaleanchor="x")
    return figure
