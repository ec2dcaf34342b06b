"""Images: the bare picture, and beside it the same picture under its heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.explanation import Explanation
from explainer.plots.bars import add_bars
from explainer.plots.look import INTERVAL, Part, colour_bar, finish, heading, part, scale

BARS = 6  # parts whose values are drawn as bars with their errors, below the picture


def plot_image(
    ex: Explanation, *, instance: int = 0, output: int | str | None = None, opacity: float = 0.75, dark: bool = False
) -> go.Figure:
    """Draw the picture and its heat map; superpixels are painted with the value of each, and those that counted most
    stand below as bars with their 95 % intervals, where they have any. ``opacity`` of the heat map: 0 to 1.
    """
    drawn = part(ex, instance, output)
    picture = as_picture(drawn.ex.inputs[0])
    values, where = painted(drawn)
    bars = drawn.stderr is not None and where is not None
    figure = _panels(bars)
    figure.add_trace(_bare(picture), 1, 1)
    figure.add_trace(_bare(picture), 1, 2)
    figure.add_trace(_heat(drawn, values, where, opacity, 0.55 if bars else 1.0), 1, 2)
    finish(figure, dark=dark, height=380 + (BARS * 26 + 70 if bars else 0), title=heading(drawn))
    figure.update_annotations(font={"size": 12})
    rows, columns = picture.shape[:2]
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5], constrain="domain", row=1)
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5], constrain="domain", row=1)
    figure.update_yaxes(scaleanchor="x", row=1, col=1)
    figure.update_yaxes(scaleanchor="x2", row=1, col=2)
    if bars and where is not None:
        add_bars(figure, drawn, BARS, 2, "3")
        _numbers(figure, drawn, where)
    figure.update_layout(margin={"t": 88, "b": 44 if bars else 12})
    return figure


def _panels(bars: bool) -> go.Figure:
    titles = ("the input", "what counted", *(("the strongest parts, by the numbers above",) if bars else ()))
    if not bars:
        return make_subplots(1, 2, horizontal_spacing=0.04, subplot_titles=titles)
    return make_subplots(
        2, 2, horizontal_spacing=0.04, vertical_spacing=0.1, subplot_titles=titles, specs=[[{}, {}], [{"colspan": 2}, None]],
        row_heights=[0.55, 0.45],
    )  # fmt: skip


def _heat(drawn: Part, values: np.ndarray, where: np.ndarray | None, opacity: float, share: float) -> go.Heatmap:
    """The heat map; its hover tells each part's value, and its error where it has one. ``share`` of the height its scale takes."""
    places = [] if where is None else [where]
    name = "row %{y}, column %{x}: %{z:.3~g}" if where is None else "superpixel %{customdata[0]}: %{z:.3~g}"
    if drawn.stderr is not None:
        error = INTERVAL * drawn.stderr
        places.append(error[where] if where is not None else error.sum(-1) if error.ndim == 3 else error)
        name += f" ± %{{customdata[{len(places) - 1}]:.2~g}}"
    bar = colour_bar(drawn)
    return go.Heatmap(
        z=values, customdata=np.stack(places, axis=-1) if places else None, opacity=opacity, hovertemplate=name + "<extra></extra>",
        colorbar={**bar, "len": share, "y": 1.0, "yanchor": "top"} if share < 1 else bar, name="attribution", **scale(drawn),
    )  # fmt: skip


def _numbers(figure: go.Figure, drawn: Part, where: np.ndarray) -> None:
    """The numbers of the parts that the bars name, each in the middle of its part."""
    strongest = np.argsort(-np.abs(np.nan_to_num(drawn.values)), kind="stable")[:BARS]
    for j in strongest:
        rows, columns = np.nonzero(where == j)
        middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)  # inside, whatever its shape
        figure.add_annotation(
            text=str(j), x=int(columns[middle]), y=int(rows[middle]), xref="x2", yref="y2", showarrow=False,
            font={"size": 11, "color": "#111"}, bgcolor="rgba(255,255,255,0.65)", borderpad=1,
        )  # fmt: skip


def painted(drawn: Part) -> tuple[np.ndarray, np.ndarray | None]:
    """Values per pixel ``(H, W)``; for superpixels also the label map they were painted from."""
    if drawn.axes == ("row", "column"):
        return drawn.values, None
    if drawn.axes == ("row", "column", "channel"):
        return drawn.values.sum(-1), None
    segments = drawn.ex.extras.get("segments")
    if drawn.axes != ("superpixel",) or not segments:
        raise InvalidInput(f'An image explanation with axes {drawn.ex.axes} needs extras["segments"] to be painted; use plot_bars(ex).')
    labels = np.asarray(segments[0])
    return drawn.values[labels], labels


def as_picture(image: Any) -> np.ndarray:
    """``(H, W)`` or ``(H, W, 3)`` of uint8, whatever range the model's inputs have."""
    array = np.asarray(image, dtype=float)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    low, high = float(array.min()), float(array.max())
    if low < 0:  # standardised pixels: only their order is known
        array = (array - low) / (high - low)
    elif high > 1:
        array = array / 255 if high <= 255 else array / high
    return np.round(array[..., :3] * 255 if array.ndim == 3 else array * 255).astype(np.uint8)


def _bare(picture: np.ndarray) -> Any:
    if picture.ndim == 3:
        return go.Image(z=picture, hoverinfo="skip", name="picture")
    return go.Heatmap(z=picture, colorscale="gray", zmin=0, zmax=255, showscale=False, hoverinfo="skip", name="picture")
