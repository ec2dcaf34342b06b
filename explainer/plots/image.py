"""Images: the bare picture, and beside it the same picture under its heat map."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.errors import InvalidInput
from explainer.explanation import Explanation
from explainer.plots.look import Part, colour_bar, finish, heading, part, scale


def plot_image(
    ex: Explanation, *, instance: int = 0, output: int | str | None = None, opacity: float = 0.75, dark: bool = False
) -> go.Figure:
    """Draw the picture and its heat map; superpixels are painted with the value of each. ``opacity`` of the heat map: 0 to 1."""
    drawn = part(ex, instance, output)
    picture = as_picture(drawn.ex.inputs[0])
    values, where = painted(drawn)
    figure = make_subplots(1, 2, horizontal_spacing=0.04, subplot_titles=("the input", "what counted"))
    figure.add_trace(_bare(picture), 1, 1)
    figure.add_trace(_bare(picture), 1, 2)
    name = "row %{y}, column %{x}: %{z:.3~g}" if where is None else "superpixel %{customdata}: %{z:.3~g}"
    heat = go.Heatmap(
        z=values,
        customdata=where,
        opacity=opacity,
        colorbar=colour_bar(drawn),
        hovertemplate=name + "<extra></extra>",
        name="attribution",
        **scale(drawn),
    )
    figure.add_trace(heat, 1, 2)
    finish(figure, dark=dark, height=380, title=heading(drawn))
    figure.update_layout(margin={"t": 88, "b": 12})
    figure.update_annotations(font={"size": 12})
    rows, columns = picture.shape[:2]
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5], constrain="domain")
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5], constrain="domain")
    figure.update_yaxes(scaleanchor="x", row=1, col=1)
    figure.update_yaxes(scaleanchor="x2", row=1, col=2)
    return figure


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
