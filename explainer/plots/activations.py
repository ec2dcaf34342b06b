"""What layers do over a data set, layer by layer; and the image made for a unit with the climb that made it."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explainer.inspection.activations import Activations
from explainer.inspection.visualisation import Visualisation
from explainer.plots.dependence import titled
from explainer.plots.image import as_picture
from explainer.plots.look import BAR_MAGNITUDE, BAR_POSITIVE, NEUTRAL, escape, finish, three

_LONG = 42  # letters of a layer's name; its end tells more than its start


def plot_activations(found: Activations, *, dark: bool = False) -> go.Figure:
    """Draw per layer the share of zeros, of dead and of saturated units, and the effective rank as a share of the units."""
    layers = found.layers
    shares = (
        ("zeros", NEUTRAL, [float(one.zeros.mean()) for one in layers]),
        ("dead units", BAR_POSITIVE, [len(one.dead) / one.units for one in layers]),
        ("saturated units", BAR_POSITIVE, [len(one.stuck) / one.units if one.saturated is not None else None for one in layers]),
        ("effective rank / units", BAR_MAGNITUDE, [one.effective_rank / one.units for one in layers]),
    )
    names = [short(one.name) for one in layers]
    figure = make_subplots(1, 4, shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=[name for name, _, _ in shares])
    told = [[f"{one.kind}, {one.units} units, rank {three(one.effective_rank)}"] for one in layers]
    for k, (name, colour, values) in enumerate(shares):
        bars = go.Bar(
            x=values, y=list(range(len(names))), orientation="h", marker={"color": colour}, customdata=told, name=name, showlegend=False,
            hovertemplate="%{customdata[0]}: %{x:.3~g} " + name + "<extra></extra>",
        )  # fmt: skip
        figure.add_trace(bars, 1, k + 1)
    below = f"{found.rows:,} inputs · over all positions that are no padding"
    finish(figure, dark=dark, height=150 + 20 * max(len(names), 4), bargap=0.3, title=titled("Activations by layer", below))
    figure.update_layout(margin={"t": 88})
    figure.update_annotations(font={"size": 12})
    figure.update_xaxes(range=[0, 1], tickmode="array", tickvals=[0, 0.5, 1], ticktext=["0", "50 %", "100 %"], tickangle=0)
    figure.update_yaxes(
        autorange="reversed", showgrid=False, zeroline=False, tickmode="array", tickvals=list(range(len(names))), ticktext=names
    )
    return figure


def plot_visualisation(found: Visualisation, *, dark: bool = False) -> go.Figure:
    """Draw the image, and the unit's activation at every step beside the highest of the data."""
    figure = make_subplots(1, 2, horizontal_spacing=0.12, subplot_titles=("the image", "activation by step"))
    picture = as_picture(found.image)
    if picture.ndim == 3:
        figure.add_trace(go.Image(z=picture, hoverinfo="skip"), 1, 1)
    else:
        figure.add_trace(go.Heatmap(z=picture, colorscale="gray", zmin=0, zmax=255, showscale=False, hoverinfo="skip"), 1, 1)
    line = {"color": BAR_MAGNITUDE, "width": 2.5}
    figure.add_trace(go.Scatter(y=found.curve, mode="lines", line=line, hovertemplate="step %{x}: %{y:.3~g}<extra></extra>"), 1, 2)
    if np.isfinite(found.best_input):
        figure.add_hline(found.best_input, line={"color": NEUTRAL, "dash": "dot"}, row=1, col=2)
    most = f" · dotted: the highest of the background, {three(found.best_input)}" if np.isfinite(found.best_input) else ""
    below = f"activation {three(found.activation)}{most}"
    finish(figure, dark=dark, height=380, showlegend=False, title=titled(f"What excites {found.unit}", below))
    figure.update_layout(margin={"t": 88})
    rows, columns = picture.shape[:2]
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5], constrain="domain", row=1, col=1)
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5], scaleanchor="x", constrain="domain", row=1, col=1)
    return figure


def short(name: str) -> str:
    """A layer's name for an axis: its end, where it is long."""
    return escape(name if len(name) <= _LONG else "…" + name[1 - _LONG :])
